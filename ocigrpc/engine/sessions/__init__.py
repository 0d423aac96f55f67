"""Sessions of clients with a container: exec and attach."""
