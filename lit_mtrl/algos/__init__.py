"""Algorithms: ordered sets of objectives."""
