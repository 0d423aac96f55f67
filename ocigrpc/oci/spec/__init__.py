"""The OCI runtime spec: its types, and one made of a container's config, a file for each part."""
