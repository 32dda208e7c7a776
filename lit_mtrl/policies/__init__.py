"""Distributions over actions on top of a network, and the module that acts with them in the environments."""
