"""A network outside the library: hidden units that the task switches on and off."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from lit_mtrl.nets.layers import task_rows


class Gated(nn.Module):
    """Plain layers, each followed by the sigmoid of a table ``[T, width]``; it has no base of the library."""

    def __init__(self, in_dim: int, out_dim: int, num_tasks: int, head_bound: float, width: int = 32, depth: int = 2):
        super().__init__()
        sizes = [in_dim, *[width] * depth]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.gates = nn.ParameterList(torch.randn(num_tasks, width) for _ in self.layers)
        self.head = nn.Linear(width, out_dim)
        for parameter in self.head.parameters():
            nn.init.uniform_(parameter, -head_bound, head_bound)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        for layer, gate in zip(self.layers, self.gates, strict=True):
            x = layer(x).relu() * task_rows(gate, x, task).sigmoid()
        return self.head(x)
