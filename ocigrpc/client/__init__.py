"""The Python client of the service, on the contract alone: ``ocigrpc.v1`` and the errors."""

from ocigrpc.client.channel import DEFAULT_ADDRESS, Tls
from ocigrpc.client.client import Client
from ocigrpc.client.failures import Unreachable
from ocigrpc.client.stream import Stream

__all__ = ["DEFAULT_ADDRESS", "Client", "Stream", "Tls", "Unreachable"]
