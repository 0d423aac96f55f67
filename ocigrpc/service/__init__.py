"""The gRPC face ``ocigrpc.v1``: unpack a request, let the engine do it, pack the answer."""
