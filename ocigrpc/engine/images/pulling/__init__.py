"""Pulls: resolved, joined, copied, named; and undone."""
