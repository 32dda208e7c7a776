"""Of a critic."""
