"""Restarts that refuse nobody: inherited sockets, and clients that are sent to wait there."""
