"""The stream: collect, prepare, extend, sample. One Lightning batch is one iteration of it.

NOTE 1: with ``overlap`` the environments collect iteration i + 1 while the learner updates on iteration i, with the
        policy as it was before those updates: the policy that acts is one iteration older than without. Everything
        else, updates per frame included, is the same. The order is fixed (wait for i, extend, sample, publish, begin i
        + 1, update on i), so that a run repeats itself bit for bit. Nothing is in flight at the end of an epoch, where
        runs are saved and evaluated.
NOTE 2: several ranks divide what is configured: R ranks take an iteration's vector steps in R equal parts, keep a part
        of the replay's capacity each and sample a part of every batch. An iteration's frames and updates, and so
        updates per frame, are what they are for one rank.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from tensordict import TensorDict, TensorDictBase

from lit_mtrl.algos.base import Algorithm
from lit_mtrl.core.errors import require
from lit_mtrl.core.keys import DONE, EPISODE_LENGTH, EPISODE_RETURN, SUCCESS
from lit_mtrl.core.manifest import replay_folders
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.core.seeds import epoch_stream, mixed_seed
from lit_mtrl.core.suggest import unknown
from lit_mtrl.data.ahead import CollectAhead
from lit_mtrl.data.budget import check_budget
from lit_mtrl.data.buffer import Buffer, require_divides
from lit_mtrl.data.collect import TaskCollector, require_workers
from lit_mtrl.data.placement import DEVICES, Place, faster_device, place_buffer, require_cuda, transition_bytes
from lit_mtrl.envs.base import Suite
from lit_mtrl.policies.acting import EXPLORE, RANDOM


@dataclass
class Iteration:
    """n collected vector steps and the updates that are due for them.

    chunk: ``[K, T, b]`` on the learner's device, None during the warm start.
    frames: environment steps so far, summed over tasks and ranks, these included.
    episodes: float32 ``[m, 4]`` of task, return, length, success of those that ended here.
    collect_seconds: what the learner waited for the steps; with ``overlap`` less than they took.
    """

    chunk: TensorDict | None
    frames: int
    episodes: torch.Tensor
    collect_seconds: float


class DataModule(lightning.LightningDataModule):
    """Owns collector and buffer, counts frames, and restarts all environments at every epoch.

    suite, algorithm: what acts, and where.
    buffer: what is collected goes through it; it says how many updates follow an iteration.
    seed: of environments and actions.
    frames: the budget, environment steps summed over tasks and ranks.
    epoch_frames: frames of an epoch, a whole number of episodes of every task.
    copies: environments per task, on each rank.
    workers: collecting processes of each rank.
    steps: n, vector steps per iteration, on all ranks together (a vector step is one step of every environment).
    random_steps: vector steps of uniform actions without updates.
    updates_per_step: gradient updates per vector step, for buffers that leave it open.
    stagger: see `lit_mtrl.envs.vector`.
    overlap: collect beside the updates.
    policy_device: where the collecting policy computes: auto, cpu, cuda.
    rank, ranks: the part that this process takes.
    """

    def __init__(
        self,
        suite: Suite,
        algorithm: Algorithm,
        buffer: Buffer,
        *,
        seed: int,
        frames: int,
        epoch_frames: int,
        copies: int = 1,
        workers: int = 1,
        steps: int = 10,
        random_steps: int = 4000,
        updates_per_step: float = 1,
        stagger: bool = False,
        overlap: bool = False,
        policy_device: str = "auto",
        rank: int = 0,
        ranks: int = 1,
    ):
        super().__init__()
        require(policy_device in DEVICES, unknown("collector.policy_device", policy_device, DEVICES))
        require_workers(suite, workers, "cpu" if policy_device == "auto" else policy_device)
        require_cuda("collector.policy_device", policy_device)
        require(copies > 0, f"collector.copies={copies}: at least one environment per task")
        require(steps > 0, f"collector.steps={steps}: collect at least one vector step at a time")
        require(random_steps >= 0, f"collector.random_steps={random_steps}: zero or more vector steps")
        step_frames = len(suite.tasks) * copies
        require_divides("collector.steps", steps, ranks, epoch_frames // step_frames)
        check_budget(frames, epoch_frames, step_frames, suite.horizon, steps, ranks)
        self.suite, self.algorithm, self.policy, self.buffer = suite, algorithm, algorithm.acting_policy(), buffer
        require(
            random_steps == 0 or not self.policy.on_policy,
            f"collector.random_steps={random_steps}: the algorithm learns from what its own policy did; use 0",
        )
        self.updates = buffer.updates(steps, copies, updates_per_step)
        self.seed, self.budget, self.epoch_frames = seed, frames, epoch_frames
        self.copies, self.workers, self.steps = copies, workers, steps
        self.random_frames, self.iteration_frames = random_steps * step_frames, steps * step_frames
        self.rank, self.ranks = rank, ranks
        self.stagger, self.overlap, self.policy_device = stagger, overlap, policy_device
        self.frames = 0
        self.placed: Place | None = None
        self.collector: TaskCollector | None = None
        self._ahead: CollectAhead | None = None
        self._saved_buffer: Path | None = None
        self.resumed: Path | None = None
        """The sidecar that this run was continued from, until the next checkpoint is written."""

    @property
    def epochs(self) -> int:
        """Epochs in the budget."""
        return self.budget // self.epoch_frames

    def settle(self, learner: torch.device) -> Place:
        """Decide where the buffer lies and the policy acts if the learner is on ``learner``.

        Raises `ConfigError` if the buffer does not fit.
        """
        if self.placed is None:
            tasks = len(self.suite.tasks)
            transition = transition_bytes(self.suite, self.algorithm.stored)
            capacity, key = self.buffer.capacity, "replay.capacity"
            if capacity is None:
                capacity, key = self.steps * self.copies, "collector.steps x collector.copies"
            self.placed = place_buffer(self.buffer.device, learner, tasks, transition, capacity, self.ranks, key)
            self.policy_device = self._acting_device(learner).type
        return self.placed

    def setup(self, stage: str) -> None:
        if self.collector is not None:
            return
        self._learner = self.policy.device if self.trainer is None else self.trainer.strategy.root_device
        self.buffer.place(self.settle(self._learner).device, self._learner)
        self.policy_device = Ranks.here().first(self.policy_device)  # a measurement
        acting = self._learner if self._learner.type == self.policy_device else torch.device(self.policy_device)
        sizes = self.steps // self.ranks, self.copies, self.workers
        self.collector = TaskCollector(self.suite, self.policy, *sizes, stagger=self.stagger, policy_device=acting)
        self._ahead = CollectAhead(self.collector) if self.overlap else None

    def _acting_device(self, learner: torch.device) -> torch.device:
        host = torch.device("cpu")
        if self.policy_device != "auto":
            return torch.device(self.policy_device)
        if self.workers > 1 or learner.type != "cuda":
            return host
        return faster_device(self.policy, self.suite, self.copies, (host, learner))

    def teardown(self, stage: str) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        if self.collector is not None:
            self.collector.shutdown()
            self.collector = None

    def train_dataloader(self) -> DataModule:
        return self

    def __len__(self) -> int:
        """Iterations per epoch; without it Lightning would fetch one ahead of the updates."""
        return self.epoch_frames // self.iteration_frames

    def __iter__(self) -> Iterator[Iteration]:
        assert self.collector is not None
        if self._saved_buffer is not None:
            self._load_buffer(self._saved_buffer)
            self._saved_buffer = None
        if self._ahead is not None and self._ahead.busy:  # an epoch was left before its end
            self._ahead.result()
        self.collector.restart(epoch_stream(self.seed, self.frames // self.epoch_frames, self.rank))
        for left in reversed(range(len(self))):
            yield self._iterate(self.collector, last=not left)

    def _iterate(self, collector: TaskCollector, last: bool) -> Iteration:
        start = time.perf_counter()
        warm = self._warm
        if self._ahead is None or not self._ahead.busy:
            self._publish(collector)
            data = collector.collect()
        else:
            data = self._ahead.result()
        collected = time.perf_counter() - start
        self.frames += data.numel() * self.ranks
        self.buffer.extend(self._prepared(data).select(*self.algorithm.stored))
        chunk = None if warm else self.buffer.sample(self.updates).to(self.policy.device)
        if self._ahead is not None and not last:
            self._publish(collector)
            self._ahead.start()
        return Iteration(chunk, self.frames, _episodes(data), collected)

    @torch.no_grad()
    def _prepared(self, data: TensorDictBase) -> TensorDictBase:
        if type(self.algorithm).prepare is Algorithm.prepare:  # nothing to compute, so nothing has to travel
            return data
        return self.algorithm.prepare(data.to(self._learner))

    @property
    def _warm(self) -> bool:
        """Whether the steps after those counted belong to the warm start."""
        return self.frames < self.random_frames

    def _publish(self, collector: TaskCollector) -> None:
        self.policy.phase.fill_(RANDOM if self._warm else EXPLORE)
        collector.publish()

    def state_dict(self) -> dict[str, Any]:
        return {"frames": self.frames}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.frames = state_dict["frames"]

    def resume_buffer(self, path: Path) -> None:
        """Fill the buffer from the checkpoint's sidecar ``path`` when training starts."""
        self._saved_buffer = self.resumed = path

    def _load_buffer(self, sidecar: Path) -> None:
        """What this rank held, or, of a run that had another number of ranks, a share of all."""
        folders = replay_folders(sidecar)
        if len(folders) == self.ranks:
            self.buffer.loads(folders[self.rank])
        else:
            self.buffer.deal(folders, self.rank, self.ranks)
            self.buffer.reseed(mixed_seed(self.seed, self.frames, self.rank))


def _episodes(data: TensorDictBase) -> torch.Tensor:
    """Of those that ended in ``data [T, E, n]``, in the order of their ends."""
    when, copy, task = data[DONE].squeeze(-1).permute(2, 1, 0).nonzero(as_tuple=True)
    columns = [data[key][task, copy, when].squeeze(-1).float() for key in (EPISODE_RETURN, EPISODE_LENGTH, SUCCESS)]
    return torch.stack([task.float(), *columns], -1)
