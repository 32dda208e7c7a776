"""Homoscedastic uncertainty: each task's loss is divided by a learned variance (Kendall et al., 2018).

NOTE 1: L_i / s_i^2 + log s_i^2 with r_i = log s_i^2 learned, so that weights are exp(-r_i) and dL/dr_i = 1 - exp(-r_i)
        L_i. Both terms carry the paper's factor 1/2 in common; it is left out, so that training starts as the mean.
NOTE 2: variances of losses that are not positive do not exist: such a task's r_i does not learn in that update, and the
        run warns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_mtrl.weighting.base import Weighting, check_rate


class Uncertainty(Weighting):
    """Weights exp(-r_i) / T."""

    floor = 0.0

    def __init__(self, num_tasks: int, lr: float = 1e-3):
        super().__init__(num_tasks)
        check_rate("lr", lr)
        self.lr = lr
        self.log_variances = nn.Parameter(torch.zeros(num_tasks))

    def forward(self, losses: Tensor, gramian: Tensor | None) -> Tensor:
        precisions = (-self.log_variances.detach()).exp()
        self.log_variances.grad = torch.where(losses > 0, 1 - precisions * losses, 0.0)
        return precisions / self.num_tasks

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([self.log_variances], lr=self.lr, fused=True)
