"""Critics, one a file: each owns its target, its loss and the value that it predicts."""
