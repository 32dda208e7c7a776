"""What the command ``new`` writes: files that run as they are, and whose names are replaced."""
