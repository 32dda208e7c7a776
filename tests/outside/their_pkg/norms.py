"""A weighting outside the library: tasks are weighed by a power of their gradient's norm."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lit_mtrl.weighting.base import Weighting


class Norms(Weighting):
    """Weights proportional to norm^power, or to its inverse; they sum to one."""

    reads_losses, reads_gramian = False, True

    def __init__(self, num_tasks: int, power: float = 1.0, favours: Literal["large", "small"] = "small"):
        super().__init__(num_tasks)
        self.power = power if favours == "large" else -power

    def forward(self, losses: Tensor, gramian: Tensor | None) -> Tensor:
        assert gramian is not None
        weights = gramian.diagonal().clamp_min(1e-12) ** (self.power / 2)
        return weights / torch.sum(weights)
