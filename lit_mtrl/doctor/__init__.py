"""``doctor``: what a machine or container can run. It imports nothing heavy until a probe does, so that it works where
PyTorch does not.
"""
