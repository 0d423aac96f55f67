"""The kernel and the init system: the only callers of processes, cgroups and D-Bus."""
