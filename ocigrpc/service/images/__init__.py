"""``ocigrpc.v1.ImageService``."""
