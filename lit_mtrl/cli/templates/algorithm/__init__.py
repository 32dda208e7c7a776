"""Of a algorithm."""
