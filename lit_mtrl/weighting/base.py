"""The contract of a weighting."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Weighting(nn.Module):
    """Called with the task losses ``[T]`` (graph attached) and the objective's parameters; returns weights ``[T]``.

    The engine then runs one ordinary backward of ``(weights * losses).sum()``.
    """

    def forward(self, losses: Tensor, params: Sequence[nn.Parameter]) -> Tensor:
        raise NotImplementedError
