"""A container: its creation, lifecycle, status, limits and end."""
