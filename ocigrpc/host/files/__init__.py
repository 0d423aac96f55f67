"""Files, directories and mounts."""
