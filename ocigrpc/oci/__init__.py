"""The OCI runtime: its command line, log and errors; specs and bundles."""
