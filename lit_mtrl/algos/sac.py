"""Multi-task soft actor-critic (Haarnoja et al., 2018) as in McLean et al. (2025).

NOTE 1: the critic loss is the mean over both critics, without 1/2; the usual sum of two MSEs has twice the gradient,
        which matters under clipping.
NOTE 2: the target moves right after the critic's step in McLean et al.'s code. Here it moves at the end of the update:
        neither the actor's nor the temperature's loss reads the target, so the numbers are the same.
NOTE 3: the temperature's loss is linear in log alpha, not in alpha.
NOTE 4: the time limit is not a terminal state: the target's bootstrap uses ``terminated`` only.
NOTE 5: parameters that actor and critics share (PaCo's w) belong to an objective of their own. The actor's loss reaches
        them through the policy only: the critics are constants in it. PaCo's code computes all losses at the same
        parameters; here the actor's is computed with the updated critics, as always.
NOTE 6: mask-out (Sun et al., 2022, algorithm 1) asks whether a task's critic loss, the mean over both critics, exceeds
        a threshold. PaCo's code takes the sum of the critics' losses, averaged over two time steps of which the second
        is zero, and adds the actor's and the temperature's losses, which are far smaller where it matters. A masked
        task contributes nothing to any loss of the update; the mean over tasks still divides by their number. Adam's
        momentum goes on moving parameters of its own, as in PaCo's code.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from lit_mtrl.algos.base import Algorithm, Objective, once
from lit_mtrl.core.errors import require
from lit_mtrl.core.keys import ACTION, NEXT_OBS, OBS, REWARD, TERMINATED
from lit_mtrl.critics.base import Critic
from lit_mtrl.nets.sharing import share
from lit_mtrl.policies.base import Policy


class SAC(Algorithm):
    """Soft actor-critic with one temperature per task.

    actor, critic: factories called with ``obs_dim, action_dim, num_tasks``; ``actor`` also with ``action_dims``, where
        that is given.
    obs_dim, action_dim: numbers of an observation and of an action, of the largest task.
    num_tasks: T.
    gamma: discount.
    tau: step of the target critics per update.
    actor_lr, critic_lr, temperature_lr: learning rates.
    shared_lr: that of what actor and critics share.
    adam_eps: of Adam; larger than its default, as in McLean et al.
    max_grad_norm: joint norm to which the actor's gradient is clipped, and that of all critics; None for no clipping.
    initial_temperature: alpha at the start.
    target_entropy: None for minus each task's number of actions.
    shared_temperature: one alpha for all tasks.
    task_weights: weigh both losses by T softmax(-log alpha), detached (Yang et al., 2020, section 4.3).
    log_alpha_min, log_alpha_max: log alpha is kept between them; None for no bound.
    mask_out: the threshold of mask-out (NOTE 6), None for none.
    action_dims: each task's own number of actions; None where all have ``action_dim``.
    """

    parts = ("actor", "critic")
    per_task = ("alpha", "masked")
    actor: Policy
    critic: Critic
    log_alpha: nn.Parameter
    target_entropy: float | Tensor

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
        actor_lr: float = 3e-4,
        critic_lr: float = 3e-4,
        temperature_lr: float = 3e-4,
        adam_eps: float = 1e-5,
        max_grad_norm: float | None = 1.0,
        initial_temperature: float = 1.0,
        target_entropy: float | None = None,
        shared_temperature: bool = False,
        task_weights: bool = False,
        log_alpha_min: float | None = None,
        log_alpha_max: float | None = None,
        mask_out: float | None = None,
        shared_lr: float = 3e-4,
        action_dims: Sequence[int] | None = None,
    ):
        super().__init__()
        require(0 <= gamma < 1, f"algo.gamma={gamma}: the discount lies in [0, 1)")
        require(0 < tau <= 1, f"algo.tau={tau}: the target's step lies in (0, 1]")
        require(initial_temperature > 0, f"algo.initial_temperature={initial_temperature}: temperatures are positive")
        require(
            mask_out is None or mask_out > 0, f"algo.mask_out={mask_out}: give a positive loss, or null for no mask-out"
        )
        low, high = (math.inf * s if x is None else x for s, x in ((-1, log_alpha_min), (1, log_alpha_max)))
        require(low < high, f"algo.log_alpha_min={low}: must be below algo.log_alpha_max={high}")
        require(
            low <= math.log(initial_temperature) <= high,
            f"algo.initial_temperature={initial_temperature}: its logarithm lies outside [{low}, {high}]",
        )
        sizes = dict(obs_dim=obs_dim, action_dim=action_dim, num_tasks=num_tasks)
        own = {} if action_dims is None else {"action_dims": action_dims}
        self.actor, self.critic = actor(**sizes, **own), critic(**sizes)
        self.shared = share(self.actor, self.critic)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        share(self.critic, self.target)
        size = 1 if shared_temperature else num_tasks
        self.log_alpha = nn.Parameter(torch.full((size,), float(initial_temperature)).log())
        self.num_tasks, self.action_dim = num_tasks, action_dim
        self.gamma, self.tau = gamma, tau
        self.actor_lr, self.critic_lr, self.temperature_lr = actor_lr, critic_lr, temperature_lr
        self.adam_eps, self.max_grad_norm = adam_eps, max_grad_norm
        if target_entropy is None and action_dims is not None:
            self.register_buffer("target_entropy", -torch.tensor(action_dims, dtype=torch.float), persistent=False)
        else:
            self.target_entropy = -float(action_dim) if target_entropy is None else target_entropy
        self.task_weights, self.mask_out = task_weights, mask_out
        self.log_alpha_range = (
            None if log_alpha_min is None and log_alpha_max is None else (log_alpha_min, log_alpha_max)
        )
        self.shared_lr = shared_lr

    def objectives(self) -> tuple[Objective, ...]:
        def objective(
            name: str, loss: Callable | None, params: list[nn.Parameter], lr: float, clip: float | None
        ) -> Objective:
            return Objective(name, loss, tuple(params), lr, self.adam_eps, clip)

        both = {id(p) for p in self.shared}
        actor, critic, target = (
            [p for p in part.parameters() if id(p) not in both] for part in (self.actor, self.critic, self.target)
        )
        self._pairs = target, critic
        shared = [objective("shared", None, self.shared, self.shared_lr, None)] if self.shared else []
        return (
            objective("critic", self.critic_loss, critic, self.critic_lr, self.max_grad_norm),
            objective("actor", self.actor_loss, actor, self.actor_lr, self.max_grad_norm),
            objective("temperature", self.temperature_loss, [self.log_alpha], self.temperature_lr, None),
            *shared,
        )

    @property
    def policy(self) -> Policy:
        return self.actor

    def networks(self) -> dict[str, nn.Module]:
        return {"actor": self.actor.net, **self.critic.networks()}

    def inputs(self, batch: TensorDictBase) -> dict[str, Tensor]:
        action, _ = self.actor.sample(batch[OBS], _noise(batch))
        return {"actor": batch[OBS], **dict.fromkeys(self.critic.networks(), self.critic.inputs(batch[OBS], action))}

    def draw(self, batch: TensorDictBase) -> None:
        batch.set("target_noise", _noise(batch)).set("actor_noise", _noise(batch))

    def critic_loss(self, batch: TensorDictBase) -> TensorDict:
        """Mean over critics and samples of their loss against r + gamma (1 - terminated) (Q' - alpha log pi)."""
        target = once(batch, "td_target", lambda: self._target(batch))
        prediction = self.critic(batch[OBS], batch[ACTION])  # [2, T, b]
        q = self.critic.values(prediction.detach()).mean((0, 2))
        if self.mask_out is not None:
            kept = once(batch, "kept", lambda: self._kept(self.critic.loss(prediction.detach(), target)))
            # Before the loss: what is not finite must not reach its gradient.
            prediction, target = _where(kept, prediction, 1), _where(kept, target)
        loss = self.critic.loss(prediction, target).mean((0, 2))
        out = self._losses(batch, loss=self._weigh(loss), q=q)
        return out if self.mask_out is None else out.set("masked", (~batch["kept"][:, 0]).to(q.dtype))

    def actor_loss(self, batch: TensorDictBase) -> TensorDict:
        """Mean over samples of alpha log pi(a|s) - Q(s, a), with the critic just updated."""
        alpha = self.log_alpha.detach().exp()[:, None]
        action, log_prob = self.actor.sample(batch[OBS], batch["actor_noise"])
        q = self.critic.value(self.critic(batch[OBS], action, frozen=True))
        loss = (alpha * log_prob - q).mean(-1)
        batch.set("log_prob", log_prob.detach())
        return self._losses(batch, loss=self._weigh(loss), entropy=-log_prob.detach().mean(-1))

    def temperature_loss(self, batch: TensorDictBase) -> TensorDict:
        """-log alpha (log pi + target entropy), log pi of the actor before its step."""
        loss = -self.log_alpha * (batch["log_prob"].mean(-1) + self.target_entropy)
        return self._losses(batch, loss=loss, alpha=self.log_alpha.detach().exp().expand(self.num_tasks))

    @torch.no_grad()
    def after_update(self) -> None:
        target, critic = self._pairs
        torch._foreach_lerp_(target, critic, self.tau)  # pyright: ignore
        if self.log_alpha_range is not None:
            self.log_alpha.clamp_(*self.log_alpha_range)

    @torch.no_grad()
    def _target(self, batch: TensorDictBase) -> Tensor:
        alpha = self.log_alpha.exp()[:, None]  # [T, 1] or [1, 1]
        next_action, log_prob = self.actor.sample(batch[NEXT_OBS], batch["target_noise"])
        prediction = self.target(batch[NEXT_OBS], next_action)
        reward, terminated = batch[REWARD].squeeze(-1), batch[TERMINATED].squeeze(-1)  # [T, b]
        discount = self.gamma * torch.logical_not(terminated).to(reward.dtype)
        return self.critic.target(prediction, reward, discount, -alpha * log_prob)

    def _kept(self, losses: Tensor) -> Tensor:
        """``[T, b]``, equal within a task: whether the mean of ``losses [size, T, b]``, all ranks' samples together, is
        not above the threshold.
        """
        assert self.mask_out is not None
        size = self.ranks.mean(losses.mean((0, 2)))  # [T]
        return (size <= self.mask_out)[:, None].expand(losses.shape[1:])

    def _weigh(self, losses: Tensor) -> Tensor:
        if not self.task_weights:
            return losses
        return losses * self.num_tasks * (-self.log_alpha.detach()).expand(self.num_tasks).softmax(0)

    def _losses(self, batch: TensorDictBase, loss: Tensor, **metrics: Tensor) -> TensorDict:
        """What an objective returns, with the losses of masked tasks set to zero."""
        if self.mask_out is not None:
            kept = batch["kept"][:, 0]
            loss = torch.where(kept, loss, 0.0)
        return TensorDict({"loss": loss, **metrics}, batch_size=[self.num_tasks])  # pyright: ignore[reportArgumentType]


def _noise(batch: TensorDictBase) -> Tensor:
    action = batch[ACTION]
    return torch.randn(action.shape, dtype=action.dtype, device=action.device)


def _where(kept: Tensor, values: Tensor, dim: int = 0) -> Tensor:
    """``values`` where ``kept [T, b]``, zero elsewhere; ``dim``: the first of their dimensions T, b."""
    return torch.where(kept.view(*[1] * dim, *kept.shape, *[1] * (values.ndim - dim - kept.ndim)), values, 0.0)
