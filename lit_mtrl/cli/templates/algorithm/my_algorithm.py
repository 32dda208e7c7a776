"""An algorithm of my own: actor and critic with a fixed entropy bonus, the actor updated half as often."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from lit_mtrl.algos.base import Algorithm, Objective, adam, once
from lit_mtrl.core.errors import require
from lit_mtrl.core.keys import ACTION, NEXT_OBS, OBS, REWARD, TERMINATED
from lit_mtrl.critics.base import Critic
from lit_mtrl.policies.base import Policy


class MyAlgorithm(Algorithm):
    """Owns the networks and says what is minimised, in which order.

    actor, critic: made by what `actor` and `critic` in the configuration name.
    obs_dim, action_dim, num_tasks: sizes, of the suite.
    gamma, tau, lr, temperature: your own, with the values of ``conf/algo/my_algorithm.yaml``.
    """

    # Groups of the configuration that it is built from; the constructor gets a factory for each.
    parts = ("actor", "critic")
    # Keys that the buffer keeps. On-policy methods add what `prepare` and the acting policy write.
    stored = (OBS, ACTION, NEXT_OBS, REWARD, TERMINATED)
    # Metrics that are reported for each task; of all others the mean over tasks is.
    per_task = ("entropy",)

    def __init__(
        self,
        actor: Callable[..., Policy],
        critic: Callable[..., Critic],
        obs_dim: int,
        action_dim: int,
        num_tasks: int,
        *,
        gamma: float = 0.99,
        tau: float = 0.005,
        lr: float = 3e-4,
        temperature: float = 0.1,
    ):
        super().__init__()
        require(0 <= gamma < 1, f"algo.gamma={gamma}: the discount lies in [0, 1)")  # one line, no traceback
        sizes = dict(obs_dim=obs_dim, action_dim=action_dim, num_tasks=num_tasks)
        self.actor, self.critic, self.num_tasks = actor(**sizes), critic(**sizes), num_tasks
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.gamma, self.tau, self.lr, self.temperature = gamma, tau, lr, temperature

    @property
    def policy(self) -> Policy:
        """What acts and is evaluated."""
        return self.actor

    def objectives(self) -> tuple[Objective, ...]:
        """In the order of an update; the names are those of ``weighting.<name>`` and ``loss/<name>``."""
        optimizer = adam(self.lr, 1e-5, "algo.lr")  # or any callable from parameters to an optimizer
        return (
            Objective("critic", self.critic_loss, tuple(self.critic.parameters()), optimizer, max_grad_norm=1.0),
            Objective("actor", self.actor_loss, tuple(self.actor.parameters()), optimizer, max_grad_norm=1.0, every=2),
        )

    def on_sample(self, chunk: TensorDictBase) -> None:
        """Before the updates on ``chunk [K, T, b]``, or on one ``[T, b]``: everything that is random in them."""
        chunk.set("next_noise", torch.randn_like(chunk[ACTION])).set("noise", torch.randn_like(chunk[ACTION]))

    def critic_loss(self, batch: TensorDictBase) -> TensorDict:
        """``batch [T, b]``, row t of task t, to ``TensorDict [T]``: "loss" is minimised, all else are metrics.

        It must not wait for the device: no ``.item()``, no ``if`` on a tensor.
        """
        target = once(batch, "td_target", lambda: self._target(batch))  # kept, for weightings that ask again
        prediction = self.critic(batch[OBS], batch[ACTION])
        loss = self.critic.loss(prediction, target).mean((0, 2))  # over critics and samples, for each task
        return TensorDict({"loss": loss, "q": self.critic.values(prediction.detach()).mean((0, 2))}, [self.num_tasks])

    def actor_loss(self, batch: TensorDictBase) -> TensorDict:
        """With the critic just updated."""
        action, log_prob = self.actor.sample(batch[OBS], batch["noise"])
        value = self.critic.value(self.critic(batch[OBS], action, frozen=True))
        loss = (self.temperature * log_prob - value).mean(-1)
        return TensorDict({"loss": loss, "entropy": -log_prob.detach().mean(-1)}, [self.num_tasks])

    @torch.no_grad()
    def after_update(self) -> None:
        """Target networks, projections."""
        for target, parameter in zip(self.target.parameters(), self.critic.parameters(), strict=True):
            target.lerp_(parameter, self.tau)

    def networks(self) -> dict[str, nn.Module]:
        """For diagnostics such as dormant neurons; with `inputs`, leave it away for none."""
        return {"actor": self.actor.net, **self.critic.networks()}

    def inputs(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """What each of `networks` sees."""
        seen = self.critic.inputs(batch[OBS], batch[ACTION])
        return {"actor": batch[OBS], **dict.fromkeys(self.critic.networks(), seen)}

    @torch.no_grad()
    def _target(self, batch: TensorDictBase) -> Tensor:
        action, log_prob = self.actor.sample(batch[NEXT_OBS], batch["next_noise"])
        reward, terminated = batch[REWARD].squeeze(-1), batch[TERMINATED].squeeze(-1)  # [T, b]
        discount = self.gamma * torch.logical_not(terminated).to(reward.dtype)  # a time limit is no terminal state
        after = self.target(batch[NEXT_OBS], action)
        return self.critic.target(after, reward, discount, -self.temperature * log_prob)
