"""The command that copies files, and the places that it copies between."""
