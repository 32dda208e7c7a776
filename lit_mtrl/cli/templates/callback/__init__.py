"""Of a callback."""
