"""A critic of my own: several values, trained by a Huber loss, and as one their mean less a multiple of their
spread.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_mtrl.core.errors import require
from lit_mtrl.critics.base import Critic
from lit_mtrl.nets.ensemble import Ensemble


class MyCritic(Critic):
    """Says what is predicted, what it should have been, and how far off that is; algorithms see no more of it.

    network: what `network` in the configuration names; called with ``in_dim, out_dim, num_tasks, head_bound``.
    obs_dim, action_dim, num_tasks: sizes, given by the algorithm.
    size, pessimism: your own, with the values of ``conf/critic/my_critic.yaml``.
    """

    def __init__(
        self,
        network: Callable[..., nn.Module],
        obs_dim: int,
        action_dim: int,
        num_tasks: int,
        size: int = 2,
        pessimism: float = 1.0,
    ):
        super().__init__()
        require(size > 0, f"critic.size={size}: at least one critic")  # one line, no traceback
        sizes = dict(in_dim=obs_dim + action_dim, out_dim=1, num_tasks=num_tasks, head_bound=3e-3)
        self.q = Ensemble(lambda: network(**sizes), size)
        self.pessimism = pessimism

    def forward(self, obs: Tensor, action: Tensor, task: Tensor | None = None, frozen: bool = False) -> Tensor:
        """The prediction ``[size, *batch, ...]``, here one number; it may be logits or quantiles as well.

        frozen: gradients reach the action, not the parameters; for the actor's loss.
        """
        return self.q(self.inputs(obs, action), task, frozen).squeeze(-1).to(obs.dtype)

    def target(self, prediction: Tensor, reward: Tensor, discount: Tensor, bonus: Tensor) -> Tensor:
        """What the prediction before a step should have been; ``prediction`` is the target critics' after it.

        reward, discount, bonus: ``[*batch]``; the discount is zero after a terminal state, the bonus is added to the
        next value (an entropy).
        """
        return reward + discount * (self.value(prediction) + bonus)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``[size, *batch]``, of each critic and sample."""
        return F.huber_loss(prediction, target.expand_as(prediction), reduction="none")

    def values(self, prediction: Tensor) -> Tensor:
        """``[size, *batch]``: the value that each critic predicts."""
        return prediction

    def value(self, prediction: Tensor) -> Tensor:
        """``[*batch]``: the value that all of them stand for."""
        return prediction.mean(0) - self.pessimism * prediction.std(0, correction=0)

    def networks(self) -> dict[str, nn.Module]:
        """For diagnostics such as dormant neurons; leave it away for none."""
        return {f"critic_{i}": self.q.member(i) for i in range(self.q.size)}

    def inputs(self, obs: Tensor, action: Tensor) -> Tensor:
        """What each of `networks` sees."""
        return torch.cat([obs, action], -1)
