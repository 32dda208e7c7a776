"""The contract of a network."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Network(nn.Module, ABC):
    """Any PyTorch module with such a `forward`; it need not inherit from this class.

    Made with ``in_dim``, ``out_dim``, ``num_tasks``, ``head_bound`` (the last layer's weights and biases start in
    U(-head_bound, head_bound)) and the values of its yaml in ``conf/network``.
    """

    @abstractmethod
    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        """``[*batch, in_dim]`` to ``[*batch, out_dim]``.

        task: ``[*batch]``, the task of each sample; None: x is ``[T, ..., in_dim]`` and row t is task t.
        """

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        return issubclass(other, nn.Module) if cls is Network else NotImplemented


def param_count(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
