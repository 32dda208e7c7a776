"""The module that acts in the environments."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lit_mtrl.core.keys import ACTION, LOG_PROB, OBS, STATE_VALUE, TASK
from lit_mtrl.policies.base import Policy

if TYPE_CHECKING:
    from tensordict import TensorDictBase

RANDOM, EXPLORE = 0, 1


class ActingPolicy(nn.Module):
    """Writes ``action`` into a TensorDict with ``observation [B, obs]`` and ``task_id [B]``.

    It travels to the collector's workers. Two buffers are the learner's orders and travel with the weights, and stay on
    the host: ``phase`` (`RANDOM` for the uniform warm start, `EXPLORE` afterwards) and ``stream``, whose change
    restarts the noise generator. The generator's seed is ``(stream, first task of the worker)``, so actions neither
    depend on nor disturb any other random state, and a run that is resumed at the start of a stream repeats it exactly.
    Noise is drawn on the host whatever the policy's device; on a GPU it computes in a CUDA stream of its own, beside
    the learner's.

    policy: acts.
    log_prob: write ``action_log_prob [B]``, too, the log-density of the action under what acted.
    values: a module called with ``(obs, task)``, whose result ``[B, 1]`` is written as ``state_value``.
    """

    phase: Tensor
    stream: Tensor

    def __init__(self, policy: Policy, log_prob: bool = False, values: nn.Module | None = None):
        super().__init__()
        self.policy, self.log_prob, self.values = policy, log_prob, values
        self.register_buffer("phase", torch.tensor(EXPLORE))
        self.register_buffer("stream", torch.tensor(0))
        self._generator: torch.Generator | None = None
        self._stream = -1
        self._complete = False  # every task has its rows, in order: the layout in which networks are fastest
        self._cuda_stream: torch.cuda.Stream | None = None

    @property
    def device(self) -> torch.device:
        """Where the policy's parameters are."""
        return next(self.policy.parameters()).device

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_generator": None, "_stream": -1, "_cuda_stream": None}

    def acting_copy(self, device: torch.device | str) -> ActingPolicy:
        """A copy without gradients whose networks are on ``device``; its orders stay on the host."""
        acting = copy.deepcopy(self).cpu().requires_grad_(False)
        for module in acting.children():
            module.to(device)
        return acting

    @torch.no_grad()
    def follow(self, source: ActingPolicy) -> None:
        """Take the present weights and orders of ``source``, of which this is an `acting_copy`."""
        self.phase.copy_(source.phase)
        self.stream.copy_(source.stream)
        mine, theirs = (
            [tensor for child in module.children() for tensor in (*child.parameters(), *child.buffers())]
            for module in (self, source)
        )
        if mine[0].device != theirs[0].device:  # one transfer for each type instead of one for each tensor
            for dtype in {tensor.dtype for tensor in mine}:
                pairs = [(a, b) for a, b in zip(mine, theirs, strict=True) if a.dtype == dtype]
                together = torch.cat([b.flatten() for _, b in pairs]).to(mine[0].device)
                parts = together.split([a.numel() for a, _ in pairs])
                torch._foreach_copy_(
                    [a for a, _ in pairs], [part.view_as(a) for (a, _), part in zip(pairs, parts, strict=True)]
                )
        else:
            torch._foreach_copy_(mine, theirs)
        if self.device.type == "cuda":
            self._own_stream().wait_stream(torch.cuda.current_stream(self.device))

    @property
    def on_policy(self) -> bool:
        """Whether it writes more than actions, which only what it does itself can tell."""
        return self.log_prob or self.values is not None

    @torch.no_grad()
    def forward(self, td: TensorDictBase) -> TensorDictBase:
        obs, task = td[OBS], td[TASK]
        shape = (*obs.shape[:-1], self.policy.action_dim)
        generator = self._noise(task)
        if self.phase.item() == RANDOM:
            return td.set(ACTION, self.policy.own(torch.rand(shape, generator=generator) * 2 - 1, task))
        noise = torch.randn(shape, generator=generator)
        if self._complete:
            by_task = (self.policy.num_tasks, -1)
            out = self._act(obs.unflatten(0, by_task), noise.unflatten(0, by_task), None)
            out = {key: value.flatten(0, 1) for key, value in out.items()}
        else:
            out = self._act(obs, noise, task)
        return td.update(out)

    def _act(self, obs: Tensor, noise: Tensor, task: Tensor | None) -> dict[str, Tensor]:
        if self.device.type == "cpu":
            return self._outputs(obs, noise, task)
        with torch.cuda.stream(self._own_stream()):  # `cpu` then waits for this stream, not for the learner's
            there = (None if x is None else x.to(self.device, non_blocking=True) for x in (obs, noise, task))
            out = self._outputs(*there)  # pyright: ignore[reportArgumentType]
            return {key: value.cpu() for key, value in out.items()}

    def _outputs(self, obs: Tensor, noise: Tensor, task: Tensor | None) -> dict[str, Tensor]:
        out = {} if self.values is None else {STATE_VALUE: self.values(obs, task)}
        if not self.log_prob:
            return {ACTION: self.policy.act(obs, noise, task), **out}
        action, log_prob = self.policy.sample(obs, noise, task)
        return {ACTION: action, LOG_PROB: log_prob, **out}

    def _own_stream(self) -> torch.cuda.Stream:
        if self._cuda_stream is None:
            self._cuda_stream = torch.cuda.Stream(self.device)
        return self._cuda_stream

    def _noise(self, task: Tensor) -> torch.Generator:
        stream = int(self.stream.item())
        if self._generator is None or stream != self._stream:
            self._generator = torch.Generator().manual_seed((stream * 1_000_003 + int(task.flatten()[0])) % 2**63)
            self._stream = stream
            tasks = torch.arange(self.policy.num_tasks)
            self._complete = torch.equal(task, tasks.repeat_interleave(len(task) // len(tasks)))
        return self._generator
