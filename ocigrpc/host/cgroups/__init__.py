"""Cgroups of either generation, and systemd as their manager."""
