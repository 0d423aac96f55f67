"""What containers may use, and what they do: checks of limits, their update, stats."""
