"""What must hold whatever happens: containers as they were, records that are true."""
