"""Trees of files as tar archives, and back."""
