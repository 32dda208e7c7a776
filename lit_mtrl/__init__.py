"""lit_mtrl: multi-task reinforcement learning in PyTorch, on Lightning and TorchRL."""

__version__ = "0.1.0"
