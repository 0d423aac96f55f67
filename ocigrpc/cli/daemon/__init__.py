"""``serve``: what puts the parts of the service together, from its settings to its end."""
