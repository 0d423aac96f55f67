"""What goes wrong on purpose: runtimes, mounts, hostile requests, a service that crashes."""
