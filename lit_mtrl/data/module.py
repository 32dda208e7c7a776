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
import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase

from lit_mtrl.algos.base import Algorithm
from lit_mtrl.core.errors import require
from lit_mtrl.core.keys import DONE, EPISODE_LENGTH, EPISODE_RETURN, STORED, SUCCESS
from lit_mtrl.core.manifest import replay_folders
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.core.suggest import unknown
from lit_mtrl.data.ahead import Ahead
from lit_mtrl.data.collect import TaskCollector, require_workers
from lit_mtrl.data.placement import DEVICES, Place, faster_device, place_replay, require_cuda
from lit_mtrl.data.replay import PerTaskReplay
from lit_mtrl.envs.base import Suite
from lit_mtrl.policies.acting import EXPLORE, RANDOM


@dataclass
class Iteration:
    """n collected vector steps and the updates that are due for them.

    ``chunk``: ``[K, T, b]`` on the learner's device, None during the warm start. ``frames``: environment steps so far,
    summed over tasks and ranks, these included. ``episodes``: float32 ``[m, 4]`` of task, return, length, success of
    those that ended here. ``collect_seconds``: what the learner waited for the steps; with ``overlap`` less than they
    took.
    """

    chunk: TensorDict | None
    frames: int
    episodes: torch.Tensor
    collect_seconds: float


class DataModule(lightning.LightningDataModule):
    """Owns collector and replay, counts frames, and restarts all environments at every epoch.

    ``frames``: the budget; ``epoch_frames``: frames of an epoch, a whole number of episodes of every task. ``copies``:
    environments per task. ``workers``: collecting processes. ``steps``: n, vector steps per iteration (a vector step is
    one step of every environment). ``random_steps``: vector steps of uniform actions without updates.
    ``updates_per_step``: gradient updates per vector step. ``capacity``, ``per_task``: of the replay; ``device``: where
    it lies (auto, cpu, cuda). ``stagger``: see `lit_mtrl.envs.vector`. ``overlap``: collect beside the updates.
    ``policy_device``: where the collecting policy computes (auto, cpu, cuda). ``rank`` of ``ranks``: the part that this
    process takes; ``copies`` and ``workers`` are each rank's own.
    """

    def __init__(
        self,
        suite: Suite,
        algorithm: Algorithm,
        *,
        seed: int,
        frames: int,
        epoch_frames: int,
        copies: int = 1,
        workers: int = 1,
        steps: int = 10,
        random_steps: int = 4000,
        updates_per_step: float = 1,
        capacity: int = 100_000,
        per_task: int = 128,
        stagger: bool = False,
        overlap: bool = False,
        policy_device: str = "auto",
        device: str = "auto",
        rank: int = 0,
        ranks: int = 1,
    ):
        super().__init__()
        require(policy_device in DEVICES, unknown("collector.policy_device", policy_device, DEVICES))
        require_workers(suite, workers, "cpu" if policy_device == "auto" else policy_device)
        require_cuda("collector.policy_device", policy_device)
        require(capacity > 0, f"replay.capacity={capacity}: keep at least one transition per task")
        require(per_task > 0, f"replay.per_task={per_task}: sample at least one transition per task")
        require(copies > 0, f"env.copies={copies}: at least one environment per task")
        require(steps > 0, f"collector.steps={steps}: collect at least one vector step at a time")
        require(random_steps >= 0, f"collector.random_steps={random_steps}: zero or more vector steps")
        step_frames = len(suite.tasks) * copies
        for key, value, whole in (
            ("collector.steps", steps, epoch_frames // step_frames),
            ("replay.per_task", per_task, 0),
            ("replay.capacity", capacity, 0),
        ):
            near = _dividing(value, ranks, whole)
            require(value % ranks == 0, f"{key}={value}: must divide among {ranks} ranks, such as {near}")
        _check_budget(frames, epoch_frames, step_frames, suite.horizon, steps, ranks)
        updates = updates_per_step * steps
        require(
            updates > 0 and updates == int(updates),
            f"collector.updates_per_step={updates_per_step}: times collector.steps={steps} must be a positive whole number",
        )
        self.suite, self.algorithm, self.policy = suite, algorithm, algorithm.acting_policy()
        self.seed, self.budget, self.epoch_frames = seed, frames, epoch_frames
        self.copies, self.workers, self.steps = copies, workers, steps
        self.random_frames, self.updates = random_steps * step_frames, int(updates)
        self.iteration_frames = steps * step_frames
        self.capacity, self.per_task = capacity, per_task
        self.rank, self.ranks = rank, ranks
        self.stagger, self.overlap, self.policy_device, self.device = stagger, overlap, policy_device, device
        self.frames = 0
        self.place: Place | None = None
        self.collector: TaskCollector | None = None
        self.replay: PerTaskReplay | None = None
        self._ahead: Ahead | None = None
        self._replay_path: Path | None = None
        self.resumed: Path | None = None
        """The sidecar that this run was continued from, until the next checkpoint is written."""

    @property
    def epochs(self) -> int:
        """Epochs in the budget."""
        return self.budget // self.epoch_frames

    def settle(self, learner: torch.device) -> Place:
        """Decide where the replay lies and the policy acts if the learner is on ``learner``; raises `ConfigError` if
        the replay does not fit.
        """
        if self.place is None:
            self.place = place_replay(self.device, learner, self.suite, self.capacity, self.ranks)
            self.policy_device = self._acting_device(learner).type
        return self.place

    def setup(self, stage: str) -> None:
        if self.collector is not None:
            return
        learner = self.policy.device if self.trainer is None else self.trainer.strategy.root_device
        place = self.settle(learner)
        part = len(self.suite.tasks), self.capacity // self.ranks, self.per_task // self.ranks
        self.replay = PerTaskReplay(*part, _replay_seed(self.seed, self.rank), device=place.device, learner=learner)
        self.policy_device = Ranks.here().first(self.policy_device)  # a measurement
        acting = learner if learner.type == self.policy_device else torch.device(self.policy_device)
        self.collector = TaskCollector(
            self.suite,
            self.policy,
            self.steps // self.ranks,
            self.copies,
            self.workers,
            stagger=self.stagger,
            policy_device=acting,
        )
        self._ahead = Ahead(self.collector) if self.overlap else None

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
        assert self.collector is not None and self.replay is not None
        if self._replay_path is not None:
            self._load_replay(self.replay, self._replay_path)
            self._replay_path = None
        if self._ahead is not None and self._ahead.busy:  # an epoch was left before its end
            self._ahead.take()
        self.collector.restart(epoch_stream(self.seed, self.frames // self.epoch_frames, self.rank))
        for left in reversed(range(len(self))):
            yield self._iterate(self.collector, self.replay, last=not left)

    def _iterate(self, collector: TaskCollector, replay: PerTaskReplay, last: bool) -> Iteration:
        start = time.perf_counter()
        warm = self._warm
        if self._ahead is None or not self._ahead.busy:
            self._publish(collector)
            data = collector.collect()
        else:
            data = self._ahead.take()
        collected = time.perf_counter() - start
        self.frames += data.numel() * self.ranks
        replay.extend(self.algorithm.prepare(data).select(*STORED))
        chunk = None if warm else replay.sample(self.updates).to(self.policy.device)
        if self._ahead is not None and not last:
            self._publish(collector)
            self._ahead.start()
        return Iteration(chunk, self.frames, _episodes(data), collected)

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

    def resume_replay(self, path: Path) -> None:
        """Fill the replay from the checkpoint's sidecar ``path`` when training starts."""
        self._replay_path = self.resumed = path

    def _load_replay(self, replay: PerTaskReplay, sidecar: Path) -> None:
        """The replay of this rank, or, of a run that had another number of ranks, a share of all."""
        folders = replay_folders(sidecar)
        if len(folders) == self.ranks:
            replay.loads(folders[self.rank])
        else:
            replay.deal(folders, self.rank, self.ranks)
            replay.sampler.generator.manual_seed(mixed_seed(self.seed, self.frames, self.rank))


def epoch_stream(seed: int, epoch: int, rank: int = 0) -> int:
    """The random stream of an epoch's environments and actions on a rank, a 31-bit integer."""
    return int(np.random.SeedSequence((seed, epoch, rank) if rank else (seed, epoch)).generate_state(1)[0] >> 1)


def mixed_seed(*words: int) -> int:
    """One seed, of 63 bits, for each list of words."""
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def _replay_seed(seed: int, rank: int) -> int:
    return mixed_seed(seed, rank) if rank else seed


def _dividing(value: int, ranks: int, whole: int) -> int:
    """The smallest multiple of ``ranks`` from ``value`` on that divides ``whole``, or the smallest if none does."""
    first = -(-value // ranks) * ranks
    return next((n for n in range(first, whole, ranks) if whole % n == 0), first)


def _check_budget(frames: int, epoch_frames: int, step_frames: int, horizon: int, steps: int, ranks: int) -> None:
    require(frames > 0, f"frames={frames}: the budget is positive")
    require(epoch_frames > 0, f"epoch_frames={epoch_frames}: an epoch has at least one episode of every task")
    episode = step_frames * horizon * ranks
    near = max(1, round(epoch_frames / episode)) * episode
    require(
        epoch_frames % episode == 0,
        f"epoch_frames={epoch_frames}: an epoch is a whole number of episodes of every task, a multiple of {episode}"
        f" (tasks x copies x horizon{' x ranks' if ranks > 1 else ''}), such as {near}",
    )
    near = max(1, round(frames / epoch_frames)) * epoch_frames
    require(
        frames % epoch_frames == 0,
        f"frames={frames}: the budget is a whole number of epochs of {epoch_frames} frames, such as {near}",
    )
    vector_steps = epoch_frames // step_frames
    require(
        vector_steps % steps == 0, f"collector.steps={steps}: must divide the {vector_steps} vector steps of an epoch"
    )


def _episodes(data: TensorDictBase) -> torch.Tensor:
    when, task = data[DONE].squeeze(-1).nonzero(as_tuple=True)
    columns = [data[key][when, task].squeeze(-1).float() for key in (EPISODE_RETURN, EPISODE_LENGTH, SUCCESS)]
    return torch.stack([task.float(), *columns], -1)
