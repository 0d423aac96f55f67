"""Images: their names, manifests and configs, and the files of containers/storage; all pure."""
