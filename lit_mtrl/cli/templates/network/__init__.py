"""Of a network."""
