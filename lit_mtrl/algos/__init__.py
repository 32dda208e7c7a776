"""Algorithms, one a file: which parts they are built from, what they minimise and in which order."""
