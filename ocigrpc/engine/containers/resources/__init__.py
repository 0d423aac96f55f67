"""What containers may use and what they use: checks of limits, updates, stats."""
