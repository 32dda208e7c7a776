"""An algorithm outside the library: PPO (Schulman et al., 2017) with one actor and one value network for all tasks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from lit_mtrl.algos.base import Algorithm, Objective, adam
from lit_mtrl.core.keys import ACTION, DONE, LOG_PROB, NEXT_OBS, OBS, REWARD, STATE_VALUE, TERMINATED
from lit_mtrl.policies.acting import ActingPolicy
from lit_mtrl.policies.base import Policy


class StateValue(nn.Module):
    """``[*batch, obs]`` to ``[*batch, 1]``."""

    def __init__(self, network: Callable[..., nn.Module], obs_dim: int, action_dim: int, num_tasks: int):
        super().__init__()
        self.net = network(in_dim=obs_dim, out_dim=1, num_tasks=num_tasks, head_bound=3e-3)

    def forward(self, obs: Tensor, task: Tensor | None = None) -> Tensor:
        return self.net(obs, task)


class PPO(Algorithm):
    """Clipped surrogate objective and squared error of the value, advantages by GAE."""

    parts = ("actor", "value")
    stored = (OBS, ACTION, LOG_PROB, "advantage", "value_target")
    per_task = ("kl",)

    def __init__(
        self,
        actor: Callable[..., Policy],
        value: Callable[..., StateValue],
        obs_dim: int,
        action_dim: int,
        num_tasks: int,
        *,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip: float = 0.2,
        lr: float = 3e-4,
    ):
        super().__init__()
        sizes = dict(obs_dim=obs_dim, action_dim=action_dim, num_tasks=num_tasks)
        self.actor, self.value, self.num_tasks = actor(**sizes), value(**sizes), num_tasks
        self.gamma, self.gae_lambda, self.clip, self.lr = gamma, gae_lambda, clip, lr

    @property
    def policy(self) -> Policy:
        return self.actor

    def acting_policy(self) -> ActingPolicy:
        return ActingPolicy(self.actor, log_prob=True, values=self.value)

    def objectives(self) -> tuple[Objective, ...]:
        optimizer = adam(self.lr, 1e-5, "algo.lr")
        return (
            Objective("actor", self.actor_loss, tuple(self.actor.parameters()), optimizer, max_grad_norm=0.5),
            Objective("value", self.value_loss, tuple(self.value.parameters()), optimizer, max_grad_norm=0.5),
        )

    def prepare(self, rollout: TensorDictBase) -> TensorDictBase:
        value = rollout[STATE_VALUE].squeeze(-1)  # [T, E, n]
        reward, done, terminated = (rollout[key].squeeze(-1) for key in (REWARD, DONE, TERMINATED))
        after = torch.where(terminated, 0.0, self.value(rollout[NEXT_OBS]).squeeze(-1))
        delta = reward + self.gamma * after - value
        advantage, total = torch.zeros_like(delta), torch.zeros_like(delta[..., 0])
        for step in reversed(range(delta.shape[-1])):
            total = delta[..., step] + self.gamma * self.gae_lambda * ~done[..., step] * total
            advantage[..., step] = total
        return rollout.set("value_target", advantage + value).set("advantage", advantage)

    def actor_loss(self, batch: TensorDictBase) -> TensorDict:
        change = self.actor.log_prob(batch[OBS], batch[ACTION]) - batch[LOG_PROB]
        advantage = batch["advantage"]
        advantage = (advantage - advantage.mean(-1, keepdim=True)) / (advantage.std(-1, keepdim=True) + 1e-6)
        clipped = change.exp().clamp(1 - self.clip, 1 + self.clip)
        loss = -torch.minimum(change.exp() * advantage, clipped * advantage).mean(-1)
        return TensorDict({"loss": loss, "kl": -change.detach().mean(-1)}, [self.num_tasks])

    def value_loss(self, batch: TensorDictBase) -> TensorDict:
        error = self.value(batch[OBS]).squeeze(-1) - batch["value_target"]
        return TensorDict({"loss": error.square().mean(-1)}, [self.num_tasks])
