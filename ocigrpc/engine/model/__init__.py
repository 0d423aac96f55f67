"""What all rooms of the engine share: frozen values, states, records, events, signals."""
