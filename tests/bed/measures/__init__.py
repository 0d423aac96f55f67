"""What ``scripts/bench`` measures."""
