"""conmon, the monitor that stays with each container: its command line, its protocols, its log."""
