"""The module that acts in the environments."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lit_mtrl.core.keys import ACTION, OBS, TASK
from lit_mtrl.policies.tanh_gaussian import TanhGaussian

if TYPE_CHECKING:
    from tensordict import TensorDictBase

RANDOM, EXPLORE = 0, 1


class ActingPolicy(nn.Module):
    """Writes ``action`` into a TensorDict with ``observation [B, obs]`` and ``task_id [B]``.

    It travels to the collector's workers. Two buffers are the learner's orders and travel with the weights, and stay on
    the host: ``phase`` (`RANDOM` for the uniform warm start, `EXPLORE` afterwards) and ``stream``, whose change
    restarts the noise generator. The generator's seed is ``(stream, first task of the worker)``, so actions neither
    depend on nor disturb any other random state, and a run that is resumed at the start of a stream repeats it exactly.
    Noise is drawn on the host whatever the actor's device; on a GPU the actor computes in a stream of its own, beside
    the learner's.
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
            return td.set(ACTION, self.actor.own(torch.rand(shape, generator=generator) * 2 - 1, task))
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
