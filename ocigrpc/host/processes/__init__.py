"""Processes, and what they are started with."""
