"""Of a suite."""
