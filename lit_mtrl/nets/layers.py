"""The layers that networks are made of, with the initialisation of McLean et al. (2025).

Layout. A network is called as ``net(x, task)``. With a ``task`` tensor, ``x`` is ``[*batch, d]`` and
``task`` is ``[*batch]``. With ``task=None`` the layout is ``[T, ..., d]`` and **row t is task t**; per-task
parameters are then applied in one batched matmul instead of being gathered per sample.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_mtrl.spec import require


class Dense(nn.Linear):
    """Linear layer, he-uniform weights and zero bias; or U(-`bound`, `bound`) for both if given.

    Leading dimensions are flattened so that, under `torch.vmap` over stacked weights (`Ensemble`),
    the product is one ``[size, batch, in] @ [size, in, out]`` and weights are never expanded.
    """

    def __init__(self, in_features: int, out_features: int, bound: float | None = None):
        self.bound = bound
        super().__init__(in_features, out_features)

    def reset_parameters(self) -> None:
        if self.bound is None:
            nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
            nn.init.zeros_(self.bias)
        else:
            nn.init.uniform_(self.weight, -self.bound, self.bound)
            nn.init.uniform_(self.bias, -self.bound, self.bound)

    def forward(self, input: Tensor) -> Tensor:
        return _flat_linear(input, self.weight, self.bias)


class OneHotDense(Dense):
    """`Dense` on ``concat(x, one_hot(task))`` without building the one-hot: its product is a column of the weight."""

    def __init__(self, in_features: int, out_features: int, num_tasks: int):
        self.num_tasks = num_tasks
        super().__init__(in_features + num_tasks, out_features)

    def forward(self, input: Tensor, task: Tensor | None = None) -> Tensor:
        split = self.in_features - self.num_tasks
        y = _flat_linear(input, self.weight[:, :split], self.bias)
        columns = self.weight[:, split:].t()  # [T, out]
        if task is None:
            return y + columns.view(self.num_tasks, *[1] * (input.ndim - 2), -1)
        return y + columns[task]


class TaskDense(nn.Module):
    """One linear layer per task: weight ``[T, in, out]``, bias ``[T, out]``, both U(-`bound`, `bound`).

    With ``task=None`` one batched matmul over tasks; otherwise all T heads are computed and one is picked.
    """

    def __init__(self, in_features: int, out_features: int, num_tasks: int, bound: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_tasks, in_features, out_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_tasks, out_features).uniform_(-bound, bound))

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        if task is None:
            rows = x.reshape(x.shape[0], -1, x.shape[-1])  # [T, b, in]
            y = torch.baddbmm(self.bias[:, None], rows, self.weight)
            return y.view(*x.shape[:-1], -1)
        y = torch.einsum("...i,tio->...to", x, self.weight) + self.bias
        index = task[..., None, None].expand(*task.shape, 1, y.shape[-1])
        return y.gather(-2, index).squeeze(-2)


class Torso(nn.Module):
    """``depth`` hidden layers of ``width`` with ReLU on ``concat(x, one_hot(task))``."""

    def __init__(self, in_features: int, num_tasks: int, width: int, depth: int):
        super().__init__()
        require(width > 0, f"network.width={width}: give at least one unit per layer")
        require(depth > 0, f"network.depth={depth}: give at least one hidden layer")
        self.first = OneHotDense(in_features, width, num_tasks)
        self.rest = nn.ModuleList(Dense(width, width) for _ in range(depth - 1))

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        x = F.relu(self.first(x, task))
        for layer in self.rest:
            x = F.relu(layer(x))
        return x


def _flat_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y = F.linear(x.reshape(-1, x.shape[-1]), weight, bias)
    return y.view(*x.shape[:-1], -1)
