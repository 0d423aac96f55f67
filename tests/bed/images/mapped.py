"""Containers with user namespaces of their own."""

from __future__ import annotations

from ocigrpc.oci.spec import config as values
from ocigrpc.v1.config_pb2 import ContainerConfig, IdMapping, UserNamespace

# What the host has for root of such a container, and for its group.
UID, GID = 100_000, 200_000
SIZE = 65_536

MAPPED = values.UserNamespace((values.IdMapping(0, UID, SIZE),), (values.IdMapping(0, GID, SIZE),))


def mapping(container_id: int, host_id: int, size: int) -> IdMapping:
    return IdMapping(container_id=container_id, host_id=host_id, size=size)


def mapped(config: ContainerConfig | None = None) -> ContainerConfig:
    """A config with a user namespace, and with what is in another one besides."""
    whole = ContainerConfig()
    whole.CopyFrom(config or ContainerConfig())
    whole.user_namespace.CopyFrom(
        UserNamespace(uid_mappings=[mapping(0, UID, SIZE)], gid_mappings=[mapping(0, GID, SIZE)])
    )
    return whole
