"""Settings: their values and rules, and where they come from."""
