"""Policies: a network's output as a distribution over actions, and the module that acts in the environments."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_mtrl.spec import ACTION, OBS, TASK, require

if TYPE_CHECKING:
    from tensordict import TensorDictBase

HEAD_BOUND = 1e-3  # U(+-1e-3) for the policy head (McLean et al., 2025)
RANDOM, EXPLORE = 0, 1


class TanhGaussian(nn.Module):
    """a = tanh(u), u ~ N(mean, std^2), with log-std hard-clipped to [`log_std_min`, `log_std_max`].

    Haarnoja et al. (2018), appendix C; the clip instead of a tanh rescaling is McLean et al.'s.
    ``network`` is called with ``in_dim, out_dim, num_tasks, head_bound``.
    """

    def __init__(
        self,
        network: Callable[..., nn.Module],
        obs_dim: int,
        action_dim: int,
        num_tasks: int,
        log_std_min: float = -20.0,
        log_std_max: float = 2.0,
    ):
        super().__init__()
        require(log_std_min < log_std_max, f"actor.log_std_min={log_std_min}: must be below log_std_max={log_std_max}")
        self.net = network(in_dim=obs_dim, out_dim=2 * action_dim, num_tasks=num_tasks, head_bound=HEAD_BOUND)
        self.action_dim, self.num_tasks = action_dim, num_tasks
        self.log_std_min, self.log_std_max = log_std_min, log_std_max

    def forward(self, obs: Tensor, task: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-std before the tanh, each ``[*batch, action]``."""
        out = self.net(obs, task).to(obs.dtype)  # under autocast the networks alone are in half precision
        mean, log_std = out.chunk(2, -1)
        return mean, log_std.clamp(self.log_std_min, self.log_std_max)

    def sample(self, obs: Tensor, noise: Tensor, task: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Reparametrised action ``[*batch, action]`` and its log-density ``[*batch]`` for standard normal ``noise``."""
        mean, log_std = self(obs, task)
        u = mean + log_std.exp() * noise
        log_prob = (-0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi) - log_det_tanh(u)).sum(-1)
        return clamp_open(u.tanh()), log_prob

    def act(self, obs: Tensor, noise: Tensor, task: Tensor | None = None) -> Tensor:
        """The action of `sample` without its density, for collection."""
        mean, log_std = self(obs, task)
        return clamp_open((mean + log_std.exp() * noise).tanh())

    def mode(self, obs: Tensor, task: Tensor | None = None) -> Tensor:
        """The deterministic action tanh(mean)."""
        return self(obs, task)[0].tanh()


def log_det_tanh(u: Tensor) -> Tensor:
    """log(1 - tanh(u)^2) without cancellation: 2 (log 2 - u - softplus(-2u))."""
    return 2 * (math.log(2) - u - F.softplus(-2 * u))


def clamp_open(action: Tensor) -> Tensor:
    """Clamp into the open interval (-1, 1), so that the density stays finite."""
    bound = 1 - torch.finfo(action.dtype).eps
    return action.clamp(-bound, bound)


class ActingPolicy(nn.Module):
    """Writes ``action`` into a TensorDict with ``observation [B, obs]`` and ``task_id [B]``.

    It travels to the collector's workers. Two buffers are the learner's orders and travel with the weights, and stay on the host:
    ``phase`` (`RANDOM` for the uniform warm start, `EXPLORE` afterwards) and ``stream``, whose change restarts the noise
    generator. The generator's seed is ``(stream, first task of the worker)``, so actions neither depend on nor disturb
    any other random state, and a run that is resumed at the start of a stream repeats it exactly. Noise is drawn on the host
    whatever the actor's device; on a GPU the actor computes in a stream of its own, beside the learner's.
    """

    phase: Tensor
    stream: Tensor

    def __init__(self, actor: TanhGaussian):
        super().__init__()
        self.actor = actor
        self.register_buffer("phase", torch.tensor(EXPLORE))
        self.register_buffer("stream", torch.tensor(0))
        self._generator: torch.Generator | None = None
        self._stream = -1
        self._complete = False  # every task has its rows, in order: the layout in which networks are fastest
        self._lane: torch.cuda.Stream | None = None

    @property
    def device(self) -> torch.device:
        """Where the policy's parameters are."""
        return next(self.actor.parameters()).device

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_generator": None, "_stream": -1, "_lane": None}

    def acting_copy(self, device: torch.device | str) -> ActingPolicy:
        """A copy without gradients whose actor is on ``device``; its orders stay on the host."""
        acting = copy.deepcopy(self).cpu().requires_grad_(False)
        acting.actor.to(device)
        return acting

    @torch.no_grad()
    def follow(self, source: ActingPolicy) -> None:
        """Take the present weights and orders of ``source``, of which this is an `acting_copy`."""
        self.phase.copy_(source.phase)
        self.stream.copy_(source.stream)
        mine, theirs = ([*m.parameters(), *m.buffers()] for m in (self.actor, source.actor))
        if mine[0].device != theirs[0].device:  # one transfer for each type instead of one for each tensor
            for dtype in {tensor.dtype for tensor in mine}:
                pairs = [(a, b) for a, b in zip(mine, theirs, strict=True) if a.dtype == dtype]
                flat = (
                    torch.cat([b.flatten() for _, b in pairs]).to(mine[0].device).split([a.numel() for a, _ in pairs])
                )
                torch._foreach_copy_(
                    [a for a, _ in pairs], [x.view_as(a) for (a, _), x in zip(pairs, flat, strict=True)]
                )
        else:
            torch._foreach_copy_(mine, theirs)
        if self.device.type == "cuda":
            self._own_stream().wait_stream(torch.cuda.current_stream(self.device))

    @torch.no_grad()
    def forward(self, td: TensorDictBase) -> TensorDictBase:
        obs, task = td[OBS], td[TASK]
        shape = (*obs.shape[:-1], self.actor.action_dim)
        generator = self._noise(task)
        if self.phase.item() == RANDOM:
            return td.set(ACTION, torch.rand(shape, generator=generator) * 2 - 1)
        noise = torch.randn(shape, generator=generator)
        if not self._complete:
            return td.set(ACTION, self._act(obs, noise, task))
        by_task = (self.actor.num_tasks, -1)
        return td.set(ACTION, self._act(obs.unflatten(0, by_task), noise.unflatten(0, by_task)).view(shape))

    def _act(self, *inputs: Tensor) -> Tensor:
        device = self.device
        if device.type == "cpu":
            return self.actor.act(*inputs)
        with torch.cuda.stream(self._own_stream()):  # `cpu` then waits for this stream, not for the learner's
            return self.actor.act(*(x.to(device, non_blocking=True) for x in inputs)).cpu()

    def _own_stream(self) -> torch.cuda.Stream:
        if self._lane is None:
            self._lane = torch.cuda.Stream(self.device)
        return self._lane

    def _noise(self, task: Tensor) -> torch.Generator:
        stream = int(self.stream.item())
        if self._generator is None or stream != self._stream:
            self._generator = torch.Generator().manual_seed((stream * 1_000_003 + int(task.flatten()[0])) % 2**63)
            self._stream = stream
            tasks = torch.arange(self.actor.num_tasks)
            self._complete = torch.equal(task, tasks.repeat_interleave(len(task) // len(tasks)))
        return self._generator
