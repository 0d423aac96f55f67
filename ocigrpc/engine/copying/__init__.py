"""Files into and out of containers."""
