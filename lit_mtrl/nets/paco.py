"""PaCo: parameter-compositional networks, theta_t = Phi w_t (Sun et al., 2022).

`variant`: ``original`` is the paper's and the authors' code; ``mclean`` is the re-implementation of McLean et al.
(2025). They differ in

NOTE 1: original: one w for actor, critics and targets, without bias, started from N(0, 1), moved once per update by the
        sum of all losses' gradients (`lit_mtrl.nets.sharing`). McLean: a w of its own for the actor and for each
        critic, a linear layer of the one-hot with bias, he-uniform.
NOTE 2: original: the K parameter sets start as copies of one. McLean: K independent ones.
NOTE 3: original: temperatures at most 1, no clipping, mask-out and reset (``algo.log_alpha_max``,
        ``algo.max_grad_norm``, ``algo.mask_out``, `lit_mtrl.callbacks.paco_reset`). McLean: none of them.
NOTE 4: hidden layers start he-uniform and the output within ``head_bound`` in both variants; the authors' framework has
        defaults of its own.
NOTE 5: the observation carries no one-hot. Where nothing is composed (``composition=none``, for the paper's
        "actor-only" its critics), the network is the plain `MLP` with one-hot, as in the authors' code.

Per-task weights are composed once per task and applied to ``[T, b]`` in one batched matmul: about K times cheaper than
mixing the outputs of K networks. Single samples with a `task` tensor (acting, evaluation) take the second way.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.nets.layers import TaskEmbedding, Torso
from lit_mtrl.nets.mlp import MLP
from lit_mtrl.nets.tape import watch, weight_gramian

VARIANTS = ("original", "mclean")
COMPOSITIONS = ("all", "output", "none")
INITS = ("random", "one_hot")


class PaCo(nn.Module):
    """``[*, in_dim]`` and task to ``[*, out_dim]``: ``depth`` layers of ``width`` with ReLU, and the output, of K
    ``parameter_sets``.

    ``composition``: ``all`` layers, the ``output`` layer only (the others are common), or ``none``. ``init`` of w:
    ``random``, or ``one_hot`` (K equal to the number of tasks: every task starts with a parameter set of its own;
    section 6.3 of the paper).
    """

    task_vectors: ClassVar[tuple[str, ...]] = ("w",)
    """Of `task_mixture`, what is drawn as vectors."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_tasks: int,
        head_bound: float,
        width: int = 400,
        depth: int = 3,
        parameter_sets: int = 5,
        variant: str = "original",
        composition: str = "all",
        init: str = "random",
    ):
        super().__init__()
        k = parameter_sets
        require(width > 0, f"network.width={width}: give at least one unit per layer")
        require(depth > 0, f"network.depth={depth}: give at least one hidden layer")
        require(k > 0, f"network.parameter_sets={k}: give at least one")
        require(variant in VARIANTS, unknown("network.variant", variant, VARIANTS))
        require(composition in COMPOSITIONS, unknown("network.composition", composition, COMPOSITIONS))
        require(init in INITS, unknown("network.init", init, INITS))
        require(
            init == "random" or k == num_tasks,
            f"network.init=one_hot: needs one parameter set per task, network.parameter_sets={num_tasks}",
        )
        if composition == "none":
            self.plain = MLP(in_dim, out_dim, num_tasks, head_bound, width, depth)
            return
        self.plain = None
        original = variant == "original"
        self.w = TaskEmbedding(num_tasks, k, bias=not original, std=1.0 if original else None, shared=original)
        if init == "one_hot":
            nn.init.eye_(self.w.weight)
        if composition == "all":
            sizes = [in_dim, *[width] * depth]
            self.torso: nn.Module = nn.ModuleList(
                ComposedDense(k, a, b, math.sqrt(6 / a), original) for a, b in pairwise(sizes)
            )
        else:
            self.torso = Torso(in_dim, 0, width, depth)
        self.head = ComposedDense(k, width, out_dim, head_bound, original, bias_bound=head_bound)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        if self.plain is not None:
            return self.plain(x, task)
        w = self.w()
        if isinstance(self.torso, nn.ModuleList):
            for layer in self.torso:
                x = F.relu(layer(x, w, task))
        else:
            x = self.torso(x)
        return self.head(x, w, task)

    def task_mixture(self, x: Tensor) -> dict[str, Tensor]:
        """The tasks' compositional vectors ``[T, K]``; ``x [T, n, in_dim]`` does not matter."""
        return {} if self.plain is not None else {"w": self.w()}


class ComposedDense(nn.Module):
    """Linear layer whose weight and bias are sums over K sets, ``[K, in, out]`` and ``[K, out]``, weighted by the rows
    of w ``[T, K]``.

    Weights start in U(-`bound`, `bound`), biases at zero or in U(-`bias_bound`, `bias_bound`); ``identical``: all sets
    equal.
    """

    def __init__(
        self, sets: int, in_features: int, out_features: int, bound: float, identical: bool, bias_bound: float = 0.0
    ):
        super().__init__()
        different = 1 if identical else sets
        weight = torch.empty(different, in_features, out_features).uniform_(-bound, bound)
        bias = torch.empty(different, out_features).uniform_(-bias_bound, bias_bound)
        self.weight = nn.Parameter(weight.expand(sets, -1, -1).clone())
        self.bias = nn.Parameter(bias.expand(sets, -1).clone())

    def forward(self, x: Tensor, w: Tensor, task: Tensor | None = None) -> Tensor:
        if task is None:
            # bmm, not matmul: with one w for several critics matmul would transpose and copy all parameter sets.
            weight = watch(self, w, torch.bmm(w[None], self.weight.flatten(1)[None])[0], "weight")
            bias = watch(self, w, torch.bmm(w[None], self.bias[None])[0], "bias")
            rows = x.reshape(len(x), -1, x.shape[-1])
            y = torch.baddbmm(bias[:, None], rows, weight.view(-1, *self.weight.shape[1:]))
            return y.view(*x.shape[:-1], -1)
        each = torch.einsum("...i,kio->...ko", x, self.weight) + self.bias
        return (each * w[task].unsqueeze(-1)).sum(-2)

    def gramian(self, x: Tensor, delta: Tensor, shared_only: bool) -> Tensor:
        """Of one composition: x is w, delta the gradient of the tasks' weights, or of their biases."""
        return weight_gramian(x, delta)
