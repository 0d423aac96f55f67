"""Logs of containers: read, followed, reopened, rotated."""
