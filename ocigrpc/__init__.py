"""A container runtime service for one Linux node: gRPC in front, conmon and runc behind."""

__version__ = "0.1.0"
