"""MOORE: mixture of orthogonal experts (Hendawy et al., 2024).

NOTE 1: the experts see the observation alone; the task enters by its weights over the experts and, with
        ``heads=multi``, by its head.
NOTE 2: norms get 1e-8 added before the division, as in McLean et al.'s code; the official code adds nothing and gives
        NaN for an expert whose output is zero. Where an expert depends exactly on those before it, what is left is
        rounding error: such a residual, below 1e-6 of the expert's own norm, becomes a zero vector here, which keeps
        gradients finite.
NOTE 3: `init`: ``he_uniform`` is McLean et al.'s, for experts and task weights (fan-in T), with the head within
        ``head_bound``. ``official`` is what the authors' code ends up with: PyTorch's defaults for the experts (it
        resets them after its Xavier initialisation), Glorot- uniform task weights and heads, the latter with PyTorch's
        default bias.
NOTE 4: the official log-std range is [-10, 2] and its temperature's learning rate 1e-4; both belong to the actor and
        the algorithm (``actor.log_std_min``, ``algo.temperature_lr``). The experiments follow McLean et al., who set
        the first on MT10 only.
NOTE 5: |v_i| = 1, so the torso's scale before the tanh is the norm of the task's weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.nets.layers import ExpertDense, TaskEmbedding, expert_mlp, make_head, mix, task_rows

INITS = ("he_uniform", "official")
EPS = 1e-8
DEPENDENT = 1e-6


class MOORE(nn.Module):
    """``[*, in_dim]`` and task to ``[*, out_dim]``: tanh(sum_i w_i v_i) and a linear head.

    v_1..v_k: the outputs of ``experts`` networks of ``depth`` layers of ``width`` (no activation after the last), made
    orthonormal per sample; w: one row per task. ``heads``: ``multi`` (MH-MOORE) or ``single`` (SH-MOORE).
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_tasks: int,
        head_bound: float,
        width: int = 400,
        depth: int = 3,
        experts: int = 4,
        heads: str = "multi",
        init: str = "he_uniform",
    ):
        super().__init__()
        require(width > 0, f"network.width={width}: give at least one unit per layer")
        require(depth > 0, f"network.depth={depth}: give at least one layer per expert")
        require(
            0 < experts <= width,
            f"network.experts={experts}: give between 1 and network.width={width}, more cannot be orthogonal",
        )
        require(init in INITS, unknown("network.init", init, INITS))
        self.experts = expert_mlp(experts, in_dim, *[width] * depth)
        self.mixture = TaskEmbedding(num_tasks, experts)
        self.head = make_head(heads, width, out_dim, num_tasks, head_bound)
        if init == "official":
            self._official_init(math.sqrt(6 / (width + out_dim)), 1 / math.sqrt(width))

    @torch.no_grad()
    def _official_init(self, head_weight: float, head_bias: float) -> None:
        for layer in self.experts:
            if isinstance(layer, ExpertDense):
                bound = 1 / math.sqrt(layer.weight.shape[1])
                layer.weight.uniform_(-bound, bound)
                layer.bias.uniform_(-bound, bound)
        nn.init.xavier_uniform_(self.mixture.weight)
        for parameter, bound in zip(self.head.parameters(), (head_weight, head_bias), strict=True):
            parameter.uniform_(-bound, bound)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        values = orthonormal(
            self.experts(x.reshape(-1, x.shape[-1])).to(x.dtype)
        )  # [k, n, width], never in half precision
        weights = task_rows(self.mixture(), x, task).expand(*x.shape[:-1], -1)
        hidden = mix(values, weights.reshape(-1, len(values))).tanh()
        return self.head(hidden.view(*x.shape[:-1], -1), task)

    def task_mixture(self, x: Tensor) -> dict[str, Tensor]:
        """The tasks' weights over the experts, ``[T, k]``; ``x [T, n, in_dim]`` does not matter."""
        return {"experts": self.mixture()}


def orthonormal(vectors: Tensor) -> Tensor:
    """Classical Gram-Schmidt over the first dimension of ``[k, n, d]``: ``n`` sets of ``k`` orthonormal vectors."""
    basis: list[Tensor] = []
    for u in vectors.unbind(0):
        left = u
        for v in basis:
            left = left - (u * v).sum(-1, keepdim=True) * v
        if basis:
            enough = left.detach().norm(dim=-1, keepdim=True) > DEPENDENT * u.detach().norm(dim=-1, keepdim=True)
            left = torch.where(enough, left, 0.0)
        basis.append(left / (left.norm(dim=-1, keepdim=True) + EPS))
    return torch.stack(basis)
