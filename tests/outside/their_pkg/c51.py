"""A critic outside the library: 51 atoms instead of one number (Bellemare et al., 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_mtrl.core.errors import require
from lit_mtrl.critics.base import Critic
from lit_mtrl.nets.ensemble import Ensemble


class C51(Critic):
    """``size`` distributions over ``atoms`` values from ``v_min`` to ``v_max``; the smaller mean is the value."""

    support: Tensor

    def __init__(
        self,
        network,
        obs_dim: int,
        action_dim: int,
        num_tasks: int,
        size: int = 2,
        atoms: int = 51,
        v_min: float = -10.0,
        v_max: float = 10.0,
    ):
        super().__init__()
        require(v_min < v_max, f"critic.v_min={v_min}: must be below critic.v_max={v_max}")
        sizes = dict(in_dim=obs_dim + action_dim, out_dim=atoms, num_tasks=num_tasks, head_bound=3e-3)
        self.logits = Ensemble(lambda: network(**sizes), size)
        self.register_buffer("support", torch.linspace(v_min, v_max, atoms))

    def forward(self, obs: Tensor, action: Tensor, task: Tensor | None = None, frozen: bool = False) -> Tensor:
        return self.logits(self.inputs(obs, action), task, frozen)

    def values(self, prediction: Tensor) -> Tensor:
        return (prediction.softmax(-1) * self.support).sum(-1)

    def value(self, prediction: Tensor) -> Tensor:
        return self.values(prediction).amin(0)

    def target(self, prediction: Tensor, reward: Tensor, discount: Tensor, bonus: Tensor) -> Tensor:
        smaller = self.values(prediction).argmin(0)[None, ..., None].expand(1, *prediction.shape[1:])
        probabilities = prediction.softmax(-1).gather(0, smaller)[0]
        low, high = self.support[0], self.support[-1]
        moved = reward[..., None] + discount[..., None] * (self.support + bonus[..., None])
        place = (moved.clamp(low, high) - low) / (high - low) * (len(self.support) - 1)
        # Each atom's share of every moved one: 1 where it lands, falling to 0 at the neighbours.
        share = (1 - (place[..., None] - torch.arange(len(self.support))).abs()).clamp(min=0)
        return (probabilities[..., None] * share).sum(-2)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return -(target * prediction.log_softmax(-1)).sum(-1)

    def networks(self) -> dict[str, nn.Module]:
        return {f"critic_{i}": self.logits.member(i) for i in range(self.logits.size)}

    def inputs(self, obs: Tensor, action: Tensor) -> Tensor:
        return torch.cat([obs, action], -1)
