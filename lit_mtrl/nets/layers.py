"""The layers that networks are made of, with the initialisation of McLean et al. (2025).

Layout. A network is called as ``net(x, task)``. With a ``task`` tensor, ``x`` is ``[*batch, d]`` and
``task`` is ``[*batch]``. With ``task=None`` the layout is ``[T, ..., d]`` and **row t is task t**; per-task
parameters are then applied in one batched matmul instead of being gathered per sample.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.nets.tape import gradient_gramian, own_gramian, watch, weight_gramian

HEADS = ("single", "multi")
TASK_INPUTS = ("one_hot", "embedding")


class Dense(nn.Linear):
    """Linear layer, he-uniform weights and zero bias; or U(-`bound`, `bound`) for both if given.

    Leading dimensions are flattened so that, under `torch.vmap` over stacked weights (`Ensemble`),
    the product is one ``[size, batch, in] @ [size, in, out]`` and weights are never expanded. A `task` is
    accepted and not used, so that it can stand where `TaskDense` or `OneHotDense` do.
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

    def forward(self, input: Tensor, task: Tensor | None = None) -> Tensor:
        return self._linear(input, self.weight)

    def gramian(self, x: Tensor, delta: Tensor, shared_only: bool) -> Tensor:
        return weight_gramian(x, delta) + gradient_gramian(delta.sum(-2))

    def _linear(self, x: Tensor, weight: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        return watch(self, rows, F.linear(rows, weight, self.bias)).view(*x.shape[:-1], -1)


class OneHotDense(Dense):
    """`Dense` on ``concat(x, one_hot(task))`` without building the one-hot: its product is a column of the weight."""

    def __init__(self, in_features: int, out_features: int, num_tasks: int):
        self.num_tasks = num_tasks
        super().__init__(in_features + num_tasks, out_features)

    def forward(self, input: Tensor, task: Tensor | None = None) -> Tensor:
        split = self.in_features - self.num_tasks
        return self._linear(input, self.weight[:, :split]) + task_rows(self.weight[:, split:].t(), input, task)

    def gramian(self, x: Tensor, delta: Tensor, shared_only: bool) -> Tensor:
        total = super().gramian(x, delta, shared_only)
        return total if shared_only else total + own_gramian(delta.sum(-2))


class TaskEmbedding(nn.Module):
    """Linear layer of the one-hot, ``forward() -> [T, size]``: its rows are what the tasks get.

    Weights are he-uniform with fan-in T, or N(0, `std`^2); the bias starts at zero. ``shared``: one table serves all
    networks of an agent (see `lit_mtrl.nets.sharing`).
    """

    def __init__(self, num_tasks: int, size: int, bias: bool = False, std: float | None = None, shared: bool = False):
        super().__init__()
        bound = math.sqrt(6 / num_tasks)
        values = torch.empty(num_tasks, size)
        self.weight = nn.Parameter(values.uniform_(-bound, bound) if std is None else values.normal_(0, std))
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None
        self.shared = shared

    def forward(self) -> Tensor:
        return watch(self, self.weight, self.weight if self.bias is None else self.weight + self.bias)

    def gramian(self, x: Tensor, delta: Tensor, shared_only: bool) -> Tensor:
        rows = delta.sum(-2)
        common = delta.new_zeros(()) if self.bias is None else gradient_gramian(rows)
        return common if shared_only else common + own_gramian(rows)


class ExpertDense(nn.Module):
    """``experts`` independent linear layers as one batched matmul, weight ``[k, in, out]``, bias ``[k, out]``.

    ``[n, in]`` (the same input for all) or ``[k, n, in]`` to ``[k, n, out]``. He-uniform weights and zero biases; or
    U(-`bound`, `bound`) for both if given.
    """

    def __init__(self, experts: int, in_features: int, out_features: int, bound: float | None = None):
        super().__init__()
        limit = math.sqrt(6 / in_features) if bound is None else bound
        self.weight = nn.Parameter(torch.empty(experts, in_features, out_features).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.zeros(experts, out_features))
        if bound is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.baddbmm(self.bias[:, None], x.expand(len(self.weight), *x.shape[-2:]), self.weight)
        return watch(self, x, y)

    def gramian(self, x: Tensor, delta: Tensor, shared_only: bool) -> Tensor:
        return weight_gramian(x, delta) + gradient_gramian(delta.sum(-2))


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
            return watch(self, rows.flatten(0, 1), y.flatten(0, 1)).view(*x.shape[:-1], -1)
        y = torch.einsum("...i,tio->...to", x, self.weight) + self.bias
        index = task[..., None, None].expand(*task.shape, 1, y.shape[-1])
        return y.gather(-2, index).squeeze(-2)

    def gramian(self, x: Tensor, delta: Tensor, shared_only: bool) -> Tensor:
        if shared_only:
            return delta.new_zeros(())
        weight = torch.matmul(x.mT, delta).flatten(-2)
        return own_gramian(weight) + own_gramian(delta.sum(-2))


class Norm(nn.LayerNorm):
    """Layer norm of the last dimension."""

    def __init__(self, size: int):
        super().__init__(size)

    def forward(self, input: Tensor) -> Tensor:
        rows = input.reshape(-1, input.shape[-1])
        return watch(self, rows, super().forward(rows)).view(input.shape)

    def gramian(self, x: Tensor, delta: Tensor, shared_only: bool) -> Tensor:
        normalised = F.layer_norm(x, self.normalized_shape, eps=self.eps)
        return gradient_gramian((normalised * delta).sum(-2)) + gradient_gramian(delta.sum(-2))


class Torso(nn.Module):
    """``depth`` hidden layers of ``width`` with ReLU on ``concat(x, one_hot(task))``, or on x alone for
    ``num_tasks=0``.

    ``task_input=embedding``: instead of the one-hot a learnt vector of ``embedding_size`` numbers per task, scaled to
    length one (Nauman et al., 2025). NOTE: they have one table, moved by the critics' loss, which the actor reads as a
    constant; here each network has its own. ``skip``: every layer but the first adds its input to its output.
    ``layer_norm``: the input of every layer but the first is normalised, and so is the result.
    """

    def __init__(
        self,
        in_features: int,
        num_tasks: int,
        width: int,
        depth: int,
        skip: bool = False,
        layer_norm: bool = False,
        task_input: str = "one_hot",
        embedding_size: int = 32,
    ):
        super().__init__()
        require(width > 0, f"network.width={width}: give at least one unit per layer")
        require(depth > 0, f"network.depth={depth}: give at least one hidden layer")
        require(task_input in TASK_INPUTS, unknown("network.task_input", task_input, TASK_INPUTS))
        require(embedding_size > 0, f"network.embedding_size={embedding_size}: give at least one number per task")
        self.embedding = None
        if num_tasks and task_input == "embedding":
            self.embedding = TaskEmbedding(num_tasks, embedding_size, std=embedding_size**-0.5)
            in_features, num_tasks = in_features + embedding_size, 0
        self.first = OneHotDense(in_features, width, num_tasks) if num_tasks else Dense(in_features, width)
        self.rest = nn.ModuleList(Dense(width, width) for _ in range(depth - 1))
        self.norms = nn.ModuleList(Norm(width) if layer_norm else nn.Identity() for _ in range(depth))
        self.skip = skip

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            rows = F.normalize(self.embedding(), dim=-1)
            x = torch.cat([x, task_rows(rows, x, task).expand(*x.shape[:-1], -1)], -1)
        x = F.relu(self.first(x, task))
        for norm, layer in zip(self.norms, self.rest, strict=False):
            x = norm(x)
            y = F.relu(layer(x))
            x = x + y if self.skip else y
        return self.norms[-1](x)


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers from ``sizes[0]`` to ``sizes[-1]`` with ReLU between them, none at the end."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [Dense(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def expert_mlp(experts: int, *sizes: int) -> nn.Sequential:
    """`mlp` for ``experts`` independent copies: ``[n, in]`` to ``[k, n, out]``."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [ExpertDense(experts, a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def make_head(heads: str, in_features: int, out_features: int, num_tasks: int, bound: float) -> nn.Module:
    """A linear layer called with ``(x, task)``: one for all tasks (``single``) or one each (``multi``)."""
    require(heads in HEADS, unknown("network.heads", heads, HEADS))
    if heads == "multi":
        return TaskDense(in_features, out_features, num_tasks, bound)
    return Dense(in_features, out_features, bound)


def task_rows(table: Tensor, x: Tensor, task: Tensor | None) -> Tensor:
    """The row of ``table [T, n]`` that belongs to each sample of ``x``; broadcasts against ``[*batch, n]``."""
    if task is None:
        return table.view(len(table), *[1] * (x.ndim - 2), -1)
    return table[task]


def mix(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over the first dimension: ``[k, n, d]`` and ``[n, k]`` to ``[n, d]``."""
    return (values * weights.t().unsqueeze(-1)).sum(0)
