"""MOORE: mixture of orthogonal experts (Hendawy et al., 2024).

NOTE 1: the experts see the observation alone; the task enters by its weights over the experts and, with ``heads=multi``, by its head.
NOTE 2: norms get 1e-8 added before the division, as in McLean et al.'s code; the official code adds nothing and gives NaN for an
        expert whose output is zero. Where an expert depends exactly on those before it, what is left is rounding error: such a
        residual, below 1e-6 of the expert's own norm, becomes a zero vector here, which keeps gradients finite.
NOTE 3: `init`: ``he_uniform`` is McLean et al.'s; ``xavier`` is the official code's (Glorot-uniform with the gain of the layer's
        activation, PyTorch's default biases). Task weights start he-uniform with fan-in T in both: the paper does not say.
NOTE 4: the official log-std range is [-10, 2] and its temperature's learning rate 1e-4; both belong to the actor and the
        algorithm (``actor.log_std_min``, ``algo.temperature_lr``) and are set in the experiments.
NOTE 5: |v_i| = 1, so the torso's scale before the tanh is the norm of the task's weights.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from lit_mtrl.nets.layers import ExpertDense, TaskEmbedding, expert_mlp, make_head, mix, task_rows
from lit_mtrl.spec import require
from lit_mtrl.suggest import unknown

INITS = ("he_uniform", "xavier")
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
        if init == "xavier":
            _xavier([layer for layer in self.experts if isinstance(layer, ExpertDense)])
        self.mixture = TaskEmbedding(num_tasks, experts)
        self.head = make_head(heads, width, out_dim, num_tasks, head_bound)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        values = orthonormal(self.experts(x.reshape(-1, x.shape[-1])))  # [k, n, width]
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


@torch.no_grad()
def _xavier(layers: list[ExpertDense]) -> None:
    for layer, following in pairwise([*layers, None]):
        assert layer is not None
        _, fan_in, fan_out = layer.weight.shape
        gain = 1.0 if following is None else math.sqrt(2)
        bound = gain * math.sqrt(6 / (fan_in + fan_out))
        layer.weight.uniform_(-bound, bound)
        layer.bias.uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
