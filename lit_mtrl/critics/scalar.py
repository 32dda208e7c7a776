"""Critics whose prediction is one number, trained by its squared error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lit_mtrl.core.errors import require
from lit_mtrl.critics.base import Critic
from lit_mtrl.nets.ensemble import Ensemble

HEAD_BOUND = 3e-3  # U(+-3e-3) for the value head (McLean et al., 2025, after Lillicrap et al., 2016)


class ScalarCritic(Critic):
    """Independent scalar Q-functions as one batched network; their minimum is the value (Fujimoto et al., 2018).

    network: called with ``in_dim, out_dim, num_tasks, head_bound``.
    obs_dim, action_dim: sizes of what it sees.
    num_tasks: T.
    size: how many (twin critics: 2).
    """

    def __init__(self, network: Callable[..., nn.Module], obs_dim: int, action_dim: int, num_tasks: int, size: int = 2):
        super().__init__()
        require(size > 0, f"critic.size={size}: at least one critic")
        sizes = dict(in_dim=obs_dim + action_dim, out_dim=1, num_tasks=num_tasks, head_bound=HEAD_BOUND)
        self.q = Ensemble(lambda: network(**sizes), size)

    def forward(self, obs: Tensor, action: Tensor, task: Tensor | None = None, frozen: bool = False) -> Tensor:
        return self.q(self.inputs(obs, action), task, frozen).squeeze(-1).to(obs.dtype)

    def target(self, prediction: Tensor, reward: Tensor, discount: Tensor, bonus: Tensor) -> Tensor:
        return reward + discount * (self.value(prediction) + bonus)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square()

    def values(self, prediction: Tensor) -> Tensor:
        return prediction

    def value(self, prediction: Tensor) -> Tensor:
        return prediction.amin(0)

    def networks(self) -> dict[str, nn.Module]:
        return {f"critic_{i}": self.q.member(i) for i in range(self.q.size)}

    def inputs(self, obs: Tensor, action: Tensor) -> Tensor:
        """``[*batch, action + obs]``."""
        return torch.cat([action, obs], -1)
