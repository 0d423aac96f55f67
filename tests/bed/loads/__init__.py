"""Many clients at once, also of a service that is killed again and again."""
