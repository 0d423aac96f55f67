"""Hosts to run services on, their disks and keys, and what is left on them."""
