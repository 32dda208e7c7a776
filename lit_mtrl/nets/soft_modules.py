"""Soft Modularization: a routing network mixes modules, layer by layer (Yang et al., 2020).

`variant`: ``official`` is the authors' code (``ModularGatedCascadeCondNet``), which McLean et al. follow too; ``paper``
is equations 5 to 8. They differ in

NOTE 1: code: the product of features and task embedding passes two more layers, to the routing width. Paper: it is used
        as it is.
NOTE 2: code: the features are activated before the first modules. Paper: they are not.
NOTE 3: code: routing of layer l sees the probabilities of all layers before it. Paper: of the one before it.
NOTE 4: code: ReLU after the weighted sum. Paper: before it.
NOTE 5: code: a last set of K probabilities mixes the last modules, and a linear head follows. Paper: the last modules
        are the heads, and are summed.
NOTE 6: the task weights of section 4.3 belong to the algorithm (``algo.task_weights``).
NOTE 7: initialisation follows McLean et al. (he-uniform; routing outputs U(+-1e-3), so that routing starts uniform),
        not the official code, whose "fan-in" is the output size and whose biases are 0.1.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.nets.layers import Dense, ExpertDense, TaskEmbedding, mix, mlp, task_rows

VARIANTS = ("official", "paper")
ROUTING_BOUND = 1e-3


class SoftModules(nn.Module):
    """``[*, in_dim]`` and task to ``[*, out_dim]``.

    ``depth`` layers of ``modules`` modules of ``width`` each (L, K and d of the paper; the routing network is as wide);
    ``embedding``: width D of the features and the task embedding. 2 x 2 x 256 for MT10, 4 x 4 for MT50.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_tasks: int,
        head_bound: float,
        width: int = 256,
        depth: int = 2,
        modules: int = 2,
        embedding: int = 400,
        variant: str = "official",
    ):
        super().__init__()
        require(width > 0, f"network.width={width}: give at least one unit per module")
        require(depth > 0, f"network.depth={depth}: give at least one layer of modules")
        require(modules > 0, f"network.modules={modules}: give at least one module per layer")
        require(embedding > 0, f"network.embedding={embedding}: give at least one unit")
        require(variant in VARIANTS, unknown("network.variant", variant, VARIANTS))
        self.paper = variant == "paper"
        k, square = modules, modules**2
        self.features = mlp(in_dim, embedding, embedding)
        self.task = TaskEmbedding(num_tasks, embedding, bias=True)
        require(
            depth > 1 or not self.paper, "network.depth=1: the paper's routing lies between layers, give at least 2"
        )
        gate = embedding if self.paper else width
        self.gate = nn.Identity() if self.paper else mlp(embedding, width, width)
        sizes = [embedding, *[width] * (depth - 1)]
        self.layers = nn.ModuleList(ExpertDense(k, a, b) for a, b in pairwise(sizes))
        if self.paper:
            self.last = ExpertDense(k, width, out_dim, head_bound)
            self.head = None
            seen, routed = [square] * (depth - 2), [square] * (depth - 1)
        else:
            self.last = ExpertDense(k, sizes[-1], width)
            self.head = Dense(width, out_dim, head_bound)
            seen, routed = [layer * square for layer in range(1, depth)], [square] * (depth - 1) + [k]
        self.previous = nn.ModuleList(Dense(size, gate) for size in seen)
        self.routing = nn.ModuleList(Dense(gate, size) for size in routed)
        for layer in self.routing:
            nn.init.uniform_(layer.weight, -ROUTING_BOUND, ROUTING_BOUND)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        hidden, probabilities = self._route(x, task)
        if self.head is not None:
            hidden = F.relu(hidden)
        for layer, p in zip(self.layers, probabilities, strict=False):
            values = layer(hidden)  # [k, n, width]
            hidden = F.relu(_mix_rows(values, p)) if self.head is not None else _mix_rows(F.relu(values), p)
        values = self.last(hidden)
        y = values.sum(0) if self.head is None else self.head(F.relu(mix(values, probabilities[-1])))
        return y.view(*x.shape[:-1], -1)

    def task_mixture(self, x: Tensor) -> dict[str, Tensor]:
        """Routing probabilities of each task, means over ``x [T, n, in_dim]``: per layer ``[T, to, from]``, ``[T, K,
        K]``; ``routing output [T, K]``.
        """
        _, probabilities = self._route(x, None)
        k = len(self.last.weight)
        means = [p.view(x.shape[0], -1, p.shape[-1]).mean(1) for p in probabilities]
        output = {} if self.head is None else {"routing output": means.pop()}
        return {**{f"routing layer {i}": mean.unflatten(-1, (k, k)) for i, mean in enumerate(means, 1)}, **output}

    def _route(self, x: Tensor, task: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Features ``[n, D]`` and the probabilities of each layer, ``[n, K * K]`` (rows sum to one), the last ``[n,
        K]``.
        """
        features = self.features(x)
        gated = features * task_rows(self.task(), x, task)
        features, gated = features.reshape(-1, features.shape[-1]), gated.reshape(-1, gated.shape[-1])
        if not self.paper:
            gated = self.gate(F.relu(gated))
        k = len(self.last.weight)
        probabilities: list[Tensor] = []
        for i, layer in enumerate(self.routing):
            y = gated
            if i:
                seen = probabilities[-1:] if self.paper else probabilities
                y = gated * self.previous[i - 1](torch.cat(seen, -1))
            logits = layer(F.relu(y))
            probabilities.append(logits.view(len(logits), -1, k).softmax(-1).flatten(1))
        return features, probabilities


def _mix_rows(values: Tensor, p: Tensor) -> Tensor:
    """``[k, n, d]`` and probabilities ``[n, k * k]``: output i is the sum over j of p_ij times value j."""
    k = len(values)
    return torch.einsum("nij,jnd->ind", p.view(-1, k, k), values)
