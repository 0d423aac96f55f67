"""What outlives the service: one SQLite database, and the event log in it."""
