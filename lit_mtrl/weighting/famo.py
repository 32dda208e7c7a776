"""FAMO: all losses shall fall at the same rate, judged by the losses alone (Liu et al., 2023, algorithm 1).

NOTE 1: weights are z_i / D_i, normalised, with z = softmax of learned logits and D_i = loss - `floor` + 1e-8. After the
        step the losses are evaluated again, on the same batch with the same noise and targets; logits of tasks that
        fell faster go down.
NOTE 2: as in the authors' optimizer, the weights are divided by sum z/D. Their Meta-World overlay multiplies, a factor
        (sum z/D)^2 more; MTBench compares two different minibatches instead of one before and after the step.
NOTE 3: Meta-World settings of the authors: the critic only, lr 0.025, weight decay 1e-3 (their default is 0.01).
NOTE 4: a loss at or below `floor` has no logarithm: the task gets no weight in that update and its logit no gradient,
        which is then that of the others alone; if there are no others, all weigh the same. The run warns. An actor's
        loss goes below zero by nature.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_mtrl.core.errors import require
from lit_mtrl.weighting.base import Weighting, check_rate

EPS = 1e-8


class FAMO(Weighting):
    """Fast adaptive multitask optimization; weights sum to one."""

    evaluates_again = True
    before: Tensor
    floor: float

    def __init__(self, num_tasks: int, lr: float = 0.025, weight_decay: float = 1e-3, floor: float = 0.0):
        super().__init__(num_tasks)
        check_rate("lr", lr)
        require(weight_decay >= 0, f"weight_decay={weight_decay}: 0 or more")
        self.lr, self.weight_decay, self.floor = lr, weight_decay, floor
        self.logits = nn.Parameter(torch.zeros(num_tasks))
        self.register_buffer("before", torch.zeros(num_tasks), persistent=False)

    def forward(self, losses: Tensor, gramian: Tensor | None) -> Tensor:
        self.before.copy_(losses)
        above = losses > self.floor
        ratio = torch.where(above, self.logits.detach().softmax(0) / (losses - self.floor + EPS), 0.0)
        total = ratio.sum()
        return torch.where(total > 0, ratio / total, 1 / self.num_tasks)

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([self.logits], lr=self.lr, weight_decay=self.weight_decay, fused=True)

    def learn(self, losses: Tensor) -> None:
        both = (self.before > self.floor) & (losses > self.floor)
        fell = torch.where(both, (self.before - self.floor + EPS).log() - (losses - self.floor + EPS).log(), 0.0)
        z = self.logits.detach().softmax(0)
        mean = (z * fell).sum() / torch.where(both, z, 0.0).sum().clamp_min(EPS)
        self.logits.grad = torch.where(both, z * (fell - mean), 0.0)
