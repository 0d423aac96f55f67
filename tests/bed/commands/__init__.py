"""What the scripts of the same names run."""
