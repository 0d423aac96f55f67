"""Clients that talk to a container: exec and attach."""
