"""The memory of an objective's gradients: one vector, so that they are averaged, measured and clipped at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

ALIGNED = 16
"""Numbers of single precision in a cache line."""


class GradientMemory:
    """Memory for the gradients of ``own`` parameters, and before them of ``shared`` ones: one vector ``flat``, with
    ``own`` views of the parameters' shapes.

    Views have the parameters' own layout: fused Adam on the CPU reads memory linearly, whatever a gradient's strides.
    Between them is padding, always zero, so that each begins where a cache line does.
    """

    def __init__(self, own: Sequence[nn.Parameter], shared: Sequence[nn.Parameter] = (), memory: Tensor | None = None):
        self.params = (*shared, *own)
        sizes = [padded([p]) for p in self.params]
        if memory is None:
            memory = torch.zeros(sum(sizes), dtype=own[0].dtype, device=own[0].device)
        self.flat = memory[: sum(sizes)]
        parts = self.flat.split(sizes)
        self._views = [part[: p.numel()].view_as(p) for part, p in zip(parts, self.params, strict=True)]
        self.own = self._views[len(shared) :]
        self.shared = self.flat[: padded(shared)]

    def take(self, gradients: Sequence[Tensor]) -> None:
        """Copy ``gradients``, one for each of ``params``."""
        torch._foreach_copy_(self._views, list(gradients))


def padded(params: Sequence[nn.Parameter]) -> int:
    """How many numbers `GradientMemory` keeps for them."""
    return sum(-(-p.numel() // ALIGNED) * ALIGNED for p in params)
