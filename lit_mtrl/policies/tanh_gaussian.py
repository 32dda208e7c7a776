"""The tanh-squashed Gaussian policy of soft actor-critic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_mtrl.core.errors import require
from lit_mtrl.policies.base import Policy

HEAD_BOUND = 1e-3  # U(+-1e-3) for the policy head (McLean et al., 2025)


class TanhGaussian(Policy):
    """a = tanh(u), u ~ N(mean, std^2), with log-std hard-clipped to [`log_std_min`, `log_std_max`].

    Haarnoja et al. (2018), appendix C; the clip instead of a tanh rescaling is McLean et al.'s.
    ``network`` is called with ``in_dim, out_dim, num_tasks, head_bound``. ``action_dims``: how many of the
    ``action_dim`` numbers are actions of each task, None for all. The others are exactly zero, and count neither in
    densities nor in gradients.
    """

    action_mask: Tensor | None
    """``[T, action]``, what is an action of each task; None if all is."""

    def __init__(
        self,
        network: Callable[..., nn.Module],
        obs_dim: int,
        action_dim: int,
        num_tasks: int,
        log_std_min: float = -20.0,
        log_std_max: float = 2.0,
        action_dims: Sequence[int] | None = None,
    ):
        super().__init__()
        require(log_std_min < log_std_max, f"actor.log_std_min={log_std_min}: must be below log_std_max={log_std_max}")
        self.net = network(in_dim=obs_dim, out_dim=2 * action_dim, num_tasks=num_tasks, head_bound=HEAD_BOUND)
        self.action_dim, self.num_tasks = action_dim, num_tasks
        self.log_std_min, self.log_std_max = log_std_min, log_std_max
        mask = None if action_dims is None else torch.arange(action_dim) < torch.tensor(action_dims)[:, None]
        self.register_buffer("action_mask", mask, persistent=False)

    def forward(self, obs: Tensor, task: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-std before the tanh, each ``[*batch, action]``."""
        out = self.net(obs, task).to(obs.dtype)  # under autocast the networks alone are in half precision
        mean, log_std = out.chunk(2, -1)
        return mean, log_std.clamp(self.log_std_min, self.log_std_max)

    def sample(self, obs: Tensor, noise: Tensor, task: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Reparametrised action ``[*batch, action]`` and its log-density ``[*batch]`` for standard normal ``noise``."""
        mean, log_std = self(obs, task)
        u = mean + log_std.exp() * noise
        return self.own(clamp_open(u.tanh()), task), self._log_density(u, noise, log_std, task)

    def log_prob(self, obs: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        mean, log_std = self(obs, task)
        u = clamp_open(action).atanh()
        return self._log_density(u, (u - mean) * (-log_std).exp(), log_std, task)

    def act(self, obs: Tensor, noise: Tensor, task: Tensor | None = None) -> Tensor:
        """The action of `sample` without its density, for collection."""
        mean, log_std = self(obs, task)
        return self.own(clamp_open((mean + log_std.exp() * noise).tanh()), task)

    def mode(self, obs: Tensor, task: Tensor | None = None) -> Tensor:
        """The deterministic action tanh(mean)."""
        return self.own(self(obs, task)[0].tanh(), task)

    def _log_density(self, u: Tensor, noise: Tensor, log_std: Tensor, task: Tensor | None) -> Tensor:
        """``[*batch]``, of tanh(u) where u is ``noise`` standard deviations from its mean."""
        each = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi) - log_det_tanh(u)
        return self.own(each, task).sum(-1)

    def own(self, values: Tensor, task: Tensor | None = None) -> Tensor:
        """``values [*batch, action]``, or ``[T, ..., action]`` without ``task``, with zeros where a task has no
        action.
        """
        if self.action_mask is None:
            return values
        if task is not None:
            return values.where(self.action_mask[task], 0.0)
        between = (1,) * (values.dim() - 2)
        return values.where(self.action_mask.view(self.num_tasks, *between, self.action_dim), 0.0)


def log_det_tanh(u: Tensor) -> Tensor:
    """log(1 - tanh(u)^2) without cancellation: 2 (log 2 - u - softplus(-2u))."""
    return 2 * (math.log(2) - u - F.softplus(-2 * u))


def clamp_open(action: Tensor) -> Tensor:
    """Clamp into the open interval (-1, 1), so that the density stays finite."""
    bound = 1 - torch.finfo(action.dtype).eps
    return action.clamp(-bound, bound)
