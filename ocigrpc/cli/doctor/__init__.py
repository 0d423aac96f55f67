"""``doctor``: whether this host has what the service needs, and what to do where it has not."""
