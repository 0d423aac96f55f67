"""Users and groups that are others on the host: in maps, in namespaces, and on file systems."""
