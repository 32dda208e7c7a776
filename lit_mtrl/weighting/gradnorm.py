"""GradNorm: weighted gradients of equal size, larger for tasks that lag behind (Chen et al., 2018).

NOTE 1: the norms are those of all parameters of the objective (``shared_only`` for those that tasks share), where the
        paper takes the last shared layer's.
NOTE 2: the gradient of the weights' own loss, sum_i |w_i n_i - mean(w n) r_i^alpha| with its target held constant, is
        written out: sign(.) n_i. Weights are kept above 1e-3 and renormalised to the sum T after every step, so norms
        that are more than a thousandfold apart stay apart.
NOTE 3: asymmetry 0.12 is McLean et al.'s. r_i compares with the first positive loss seen; a task whose present loss is
        not positive counts as average (r_i = 1), and the run warns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_mtrl.core.errors import require
from lit_mtrl.weighting.base import Weighting, check_rate

LEAST = 1e-3


class GradNorm(Weighting):
    """Learned weights w_i / T with sum(w) = T."""

    reads_gramian = True
    floor = 0.0
    first: Tensor

    def __init__(self, num_tasks: int, asymmetry: float = 0.12, lr: float = 0.025, shared_only: bool = False):
        super().__init__(num_tasks)
        check_rate("lr", lr)
        require(asymmetry >= 0, f"asymmetry={asymmetry}: 0 or more")
        self.asymmetry, self.lr, self.shared_only = asymmetry, lr, shared_only
        self.weights = nn.Parameter(torch.ones(num_tasks))
        self.register_buffer("first", torch.zeros(num_tasks))

    def forward(self, losses: Tensor, gramian: Tensor | None) -> Tensor:
        assert gramian is not None
        self.first.copy_(torch.where((self.first == 0) & (losses > 0), losses, self.first))
        norms = gramian.diagonal().clamp_min(0).sqrt()
        weights = self.weights.detach()
        positive = (losses > 0) & (self.first > 0)
        rate = torch.where(positive, losses / self.first, 1.0)
        mean = torch.where(positive, rate, 0.0).sum() / positive.sum().clamp_min(1)
        relative = torch.where(positive, rate / mean.clamp_min(torch.finfo(rate.dtype).tiny), 1.0)
        sizes = weights * norms
        self.weights.grad = (sizes - sizes.mean() * relative**self.asymmetry).sign() * norms
        return weights / self.num_tasks

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([self.weights], lr=self.lr, fused=True)

    @torch.no_grad()
    def after_step(self) -> None:
        self.weights.clamp_(min=LEAST)
        self.weights.mul_(self.num_tasks / self.weights.sum())
