"""The gRPC face: unpack a request, let the engine do it, pack the answer."""
