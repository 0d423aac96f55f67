"""The gRPC face ``ocigrpc.v1``: unpack the request, call the engine, pack the answer."""
