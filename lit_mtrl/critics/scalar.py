"""Critics: networks from observation and action to a value."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lit_mtrl.core.errors import require
from lit_mtrl.nets.ensemble import Ensemble

HEAD_BOUND = 3e-3  # U(+-3e-3) for the value head (McLean et al., 2025, after Lillicrap et al., 2016)


class ScalarCritic(nn.Module):
    """``size`` independent scalar Q-functions as one batched network (twin critics for ``size=2``).

    ``network``: called with ``in_dim, out_dim, num_tasks, head_bound``.
    """

    def __init__(self, network: Callable[..., nn.Module], obs_dim: int, action_dim: int, num_tasks: int, size: int = 2):
        super().__init__()
        require(size > 0, f"critic.size={size}: at least one critic")
        sizes = dict(in_dim=obs_dim + action_dim, out_dim=1, num_tasks=num_tasks, head_bound=HEAD_BOUND)
        self.q = Ensemble(lambda: network(**sizes), size)

    def forward(self, obs: Tensor, action: Tensor, task: Tensor | None = None, frozen: bool = False) -> Tensor:
        """``[*batch, obs], [*batch, action]`` to ``[size, *batch]``; ``frozen``: gradients reach the action, not the
        parameters.
        """
        return self.q(self.join(obs, action), task, frozen).squeeze(-1).to(obs.dtype)

    @staticmethod
    def join(obs: Tensor, action: Tensor) -> Tensor:
        """What the networks see, ``[*batch, action + obs]``."""
        return torch.cat([action, obs], -1)
