"""Multi-task soft actor-critic (Haarnoja et al., 2018) as in McLean et al. (2025).

NOTE 1: the critic loss is the mean over both critics, without 1/2; the usual sum of two MSEs has twice the gradient,
        which matters under clipping.
NOTE 2: the target moves right after the critic's step in McLean et al.'s code. Here it moves at the end of the update:
        neither the actor's nor the temperature's loss reads the target, so the numbers are the same.
NOTE 3: the temperature's loss is linear in log alpha, not in alpha.
NOTE 4: the time limit is not a terminal state: the target's bootstrap uses ``terminated`` only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from lit_mtrl.algos.base import Algorithm, Objective
from lit_mtrl.spec import ACTION, NEXT_OBS, OBS, REWARD, TERMINATED, require


class SAC(Algorithm):
    """Soft actor-critic with one temperature per task (``shared_temperature`` for a single one).

    ``actor``, ``critic``: factories called with ``obs_dim, action_dim, num_tasks``. ``task_weights``: weigh both losses by
    T softmax(-log alpha), detached (Yang et al., 2020, section 4.3).
    """

    log_alpha: nn.Parameter

    def __init__(
        self,
        actor: Callable[..., nn.Module],
        critic: Callable[..., nn.Module],
        obs_dim: int,
        action_dim: int,
        num_tasks: int,
        *,
        gamma: float = 0.99,
        tau: float = 0.005,
        actor_lr: float = 3e-4,
        critic_lr: float = 3e-4,
        temperature_lr: float = 3e-4,
        adam_eps: float = 1e-5,
        max_grad_norm: float | None = 1.0,
        initial_temperature: float = 1.0,
        target_entropy: float | None = None,
        shared_temperature: bool = False,
        task_weights: bool = False,
    ):
        super().__init__()
        require(0 <= gamma < 1, f"algo.gamma={gamma}: the discount lies in [0, 1)")
        require(0 < tau <= 1, f"algo.tau={tau}: the target's step lies in (0, 1]")
        require(initial_temperature > 0, f"algo.initial_temperature={initial_temperature}: temperatures are positive")
        sizes = dict(obs_dim=obs_dim, action_dim=action_dim, num_tasks=num_tasks)
        self.actor, self.critic = actor(**sizes), critic(**sizes)  # pyright: ignore[reportAttributeAccessIssue]
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        size = 1 if shared_temperature else num_tasks
        self.log_alpha = nn.Parameter(torch.full((size,), float(initial_temperature)).log())
        self.num_tasks, self.action_dim = num_tasks, action_dim
        self.gamma, self.tau = gamma, tau
        self.actor_lr, self.critic_lr, self.temperature_lr = actor_lr, critic_lr, temperature_lr
        self.adam_eps, self.max_grad_norm = adam_eps, max_grad_norm
        self.target_entropy = -float(action_dim) if target_entropy is None else target_entropy
        self.task_weights = task_weights

    def objectives(self) -> tuple[Objective, ...]:
        def objective(
            name: str, loss: Callable, params: list[nn.Parameter], lr: float, clip: float | None
        ) -> Objective:
            return Objective(name, loss, tuple(params), lr, self.adam_eps, clip)

        actor, critic = list(self.actor.parameters()), list(self.critic.parameters())
        self._pairs = list(self.target.parameters()), critic
        return (
            objective("critic", self.critic_loss, critic, self.critic_lr, self.max_grad_norm),
            objective("actor", self.actor_loss, actor, self.actor_lr, self.max_grad_norm),
            objective("temperature", self.temperature_loss, [self.log_alpha], self.temperature_lr, None),
        )

    def critic_loss(self, batch: TensorDictBase) -> TensorDict:
        """Mean over critics and samples of (Q - y)^2, y = r + gamma (1 - terminated) (min Q' - alpha log pi)."""
        alpha = self.log_alpha.detach().exp()[:, None]  # [T, 1] or [1, 1]
        with torch.no_grad():
            next_action, log_prob = self.actor.sample(batch[NEXT_OBS], self._noise(batch))
            next_value = self.target(batch[NEXT_OBS], next_action).amin(0) - alpha * log_prob  # [T, b]
            going_on = (~batch[TERMINATED]).squeeze(-1)
            y = batch[REWARD].squeeze(-1) + self.gamma * (going_on * next_value)
        q = self.critic(batch[OBS], batch[ACTION])  # [2, T, b]
        return self._per_task(loss=self._weigh((q - y).square().mean((0, 2))), q=q.detach().mean((0, 2)))

    def actor_loss(self, batch: TensorDictBase) -> TensorDict:
        """Mean over samples of alpha log pi(a|s) - min Q(s, a), with the critic just updated."""
        alpha = self.log_alpha.detach().exp()[:, None]
        action, log_prob = self.actor.sample(batch[OBS], self._noise(batch))
        loss = (alpha * log_prob - self.critic(batch[OBS], action).amin(0)).mean(-1)
        batch.set("log_prob", log_prob.detach())
        return self._per_task(loss=self._weigh(loss), entropy=-log_prob.detach().mean(-1))

    def temperature_loss(self, batch: TensorDictBase) -> TensorDict:
        """-log alpha (log pi + target entropy), log pi of the actor before its step."""
        loss = -self.log_alpha * (batch["log_prob"].mean(-1) + self.target_entropy)
        return self._per_task(loss=loss, alpha=self.log_alpha.detach().exp().expand(self.num_tasks))

    @torch.no_grad()
    def after_update(self) -> None:
        target, critic = self._pairs
        torch._foreach_lerp_(target, critic, self.tau)  # pyright: ignore

    def _noise(self, batch: TensorDictBase) -> Tensor:
        action = batch[ACTION]
        return torch.randn(action.shape, dtype=action.dtype, device=action.device)

    def _weigh(self, losses: Tensor) -> Tensor:
        if not self.task_weights:
            return losses
        return losses * self.num_tasks * (-self.log_alpha.detach()).expand(self.num_tasks).softmax(0)

    def _per_task(self, **values: Tensor) -> TensorDict:
        return TensorDict(values, batch_size=[self.num_tasks])  # pyright: ignore[reportArgumentType]
