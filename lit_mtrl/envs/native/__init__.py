"""Meta-World steps compiled by numba: the official objects and their resets, with `step` in compiled code."""
