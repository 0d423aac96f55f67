"""The programs and formats that the engine drives: conmon, the OCI runtime, specs, bundles."""
