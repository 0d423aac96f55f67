"""Images: pulled, shown, named and removed. Knows no containers."""
