"""Of a weighting."""
