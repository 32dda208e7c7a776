"""Dynamic weight average: tasks whose loss fell less get more weight (Liu et al., 2019, section 3.3).

NOTE 1: the paper compares the mean losses of two epochs. Here an epoch is a `window` of updates: a loss of
        reinforcement learning has no dataset to pass through.
NOTE 2: a task whose means are not both positive counts as unchanged (ratio 1), and the run warns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_mtrl.core.errors import require
from lit_mtrl.weighting.base import Weighting


class DWA(Weighting):
    """Weights softmax(r / temperature), r_i the ratio of task i's mean loss in the last window to that in the one
    before; at first 1/T.
    """

    floor = 0.0
    means: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, num_tasks: int, temperature: float = 2.0, window: int = 1000):
        super().__init__(num_tasks)
        require(temperature > 0, f"temperature={temperature}: temperatures are positive")
        require(window > 0, f"window={window}: average over 1 update or more")
        self.temperature, self.window = temperature, window
        self.register_buffer("means", torch.zeros(2, num_tasks))  # of the last window and the one before
        self.register_buffer("total", torch.zeros(num_tasks))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, losses: Tensor, gramian: Tensor | None) -> Tensor:
        last, before = self.means
        ratio = torch.where((last > 0) & (before > 0), last / before, 1.0)
        weights = (ratio / self.temperature).softmax(0)
        self.total.add_(losses)
        self.count.add_(1)
        full = self.count == self.window
        self.means.copy_(torch.where(full, torch.stack([self.total / self.window, last]), self.means))
        self.total.masked_fill_(full, 0)
        self.count.masked_fill_(full, 0)
        return weights
