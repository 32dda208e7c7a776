"""Per-task replay: one time axis, one task axis, every update drawn with independent times per task."""

from __future__ import annotations

import io
import logging
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.data.replay_buffers.samplers import Sampler
from torchrl.data.replay_buffers.storages import Storage

from lit_mtrl.core import files
from lit_mtrl.core.errors import require
from lit_mtrl.core.files import Sum
from lit_mtrl.core.seeds import rank_seed
from lit_mtrl.data import tensor_files
from lit_mtrl.data.buffer import Buffer, gather, require_divides

log = logging.getLogger("lit_mtrl")


class PerTaskSampler(Sampler):
    """Draws index pairs (time ``[K, T, b]``, task ``[1, T, 1]``) on ``device``: exactly b per task, times independent
    of each other.

    A buffer's ``batch_size`` is K * T * b; K = ``updates`` is set before each draw.
    """

    def __init__(self, num_tasks: int, per_task: int, seed: int, device: torch.device | str = "cpu"):
        super().__init__()
        self.num_tasks, self.per_task = num_tasks, per_task
        self.generator = torch.Generator(device).manual_seed(seed)
        self.task = torch.arange(num_tasks, device=device).view(1, -1, 1)
        self.updates = 1

    def sample(self, storage: Storage, batch_size: int) -> tuple[tuple[torch.Tensor, torch.Tensor], dict]:
        shape = (self.updates, self.num_tasks, self.per_task)
        held: Any = storage
        time = torch.randint(len(held), shape, generator=self.generator, device=self.task.device)
        return (time, self.task), {}

    def _empty(self, *args: object, **kwargs: object) -> None:
        return None

    def dumps(self, path: str | Path) -> None:
        torch.save(self.state_dict(), path)

    def loads(self, path: str | Path) -> None:
        self.load_state_dict(torch.load(path, weights_only=True))

    def state_dict(self) -> dict:
        return {"generator": self.generator.get_state(), "device": self.generator.device.type}

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue from a state; one from another kind of device seeds the generator, for their states have nothing in
        common.
        """
        state, kind = state_dict["generator"], state_dict.get("device", "cpu")
        if kind == self.generator.device.type:
            self.generator.set_state(state)
            return
        self.generator.manual_seed(zlib.crc32(state.numpy().tobytes()))
        log.info(
            "replay: was on %s, is on %s now; samples follow another random stream from here on",
            kind,
            self.generator.device,
        )


class PerTaskReplay(Buffer):
    """Holds the last ``capacity`` transitions of each task; batches are drawn from it with replacement.

    num_tasks: T.
    capacity: transitions per task.
    per_task: b, transitions per task and update.
    seed: of the samples.
    device: where it lies: ``cpu``, ``cuda``, or ``auto``, the learner's device if half of what is free there suffices.
    rank, ranks: the part of capacity and batches that is this replay's.
    """

    capacity: int
    per_task: int

    def __init__(
        self,
        num_tasks: int,
        capacity: int = 100_000,
        per_task: int = 128,
        seed: int = 0,
        device: str = "auto",
        rank: int = 0,
        ranks: int = 1,
    ):
        require(capacity > 0, f"replay.capacity={capacity}: keep at least one transition per task")
        require(per_task > 0, f"replay.per_task={per_task}: sample at least one transition per task")
        require_divides("replay.per_task", per_task, ranks)
        require_divides("replay.capacity", capacity, ranks)
        self.num_tasks, self.capacity, self.per_task, self.ranks = num_tasks, capacity, per_task, ranks
        self.device, self._seed = device, rank_seed(seed, rank)
        self.place(torch.device("cpu"))

    def updates(self, steps: int, copies: int, per_step: float) -> int:
        due = per_step * steps
        require(
            due > 0 and due == int(due),
            f"collector.updates_per_step={per_step}: times collector.steps={steps} must be a positive whole number",
        )
        return int(due)

    def place(self, device: torch.device, learner: torch.device | None = None) -> None:
        """To a ``learner`` that is a GPU, chunks travel from the host through pinned memory."""
        self.sampler = PerTaskSampler(self.num_tasks, self.per_task // self.ranks, self._seed, device)
        self._buffer: ReplayBuffer | None = None
        apart = learner is not None and learner.type == "cuda" and device.type == "cpu"
        self._staging = _Staging(learner) if learner is not None and apart else None

    @property
    def buffer(self) -> ReplayBuffer:
        """TorchRL's, made when it is first used: even an empty one takes shared memory."""
        if self._buffer is None:
            self._buffer = ReplayBuffer(
                storage=LazyTensorStorage(self.capacity // self.ranks, device=self.sampler.task.device),
                sampler=self.sampler,
                batch_size=self.num_tasks * self.sampler.per_task,
                collate_fn=lambda x: x,
            )
        return self._buffer

    def __len__(self) -> int:
        return len(self.buffer)

    def extend(self, data: TensorDictBase) -> None:
        slices = data.permute(2, 1, 0)  # [n, E, T]
        self.buffer.extend(slices.reshape(-1, self.num_tasks))

    def sample(self, updates: int) -> TensorDict:
        """``[K, T, b]``. `ReplayBuffer.sample` is passed by: it indexes with times and tasks, at three times the
        cost.
        """
        self.sampler.updates = updates
        (time, task), _ = self.sampler.sample(self.buffer.storage, self.buffer.batch_size or 0)
        rows = time * self.num_tasks + task  # whole rows of [time * task]
        held = self.buffer.storage[: len(self)].flatten(0, 1)
        return gather(held, rows) if self._staging is None else self._staging.send(held, rows)

    def reseed(self, seed: int) -> None:
        self.sampler.generator.manual_seed(seed)

    def dumps(self, path: Path) -> dict[str, Sum]:
        """What is held, cursor and random state."""
        files.remove(path)
        path.mkdir(parents=True)
        sums: dict[str, Sum] = {}
        if len(self):
            held = tensor_files.save(self.buffer.storage[: len(self)], path / "transitions")
            sums = {f"transitions/{name}": found for name, found in held.items()}
        state = io.BytesIO()
        torch.save({"writer": self.buffer.writer.state_dict(), "sampler": self.sampler.state_dict()}, state)
        sums["state.pt"] = files.write(path / "state.pt", [state.getbuffer()])
        files.sync(path)
        return sums

    def loads(self, path: Path) -> None:
        state = torch.load(path / "state.pt", weights_only=True)
        if (path / "transitions").exists():
            self.buffer.extend(tensor_files.load(path / "transitions"))
        self.buffer.writer.load_state_dict(state["writer"])
        self.sampler.load_state_dict(state["sampler"])

    def deal(self, paths: Sequence[Path], part: int, parts: int) -> None:
        """Take a share of what replays of equal length wrote into ``paths``; call it on an empty replay.

        Their transitions in one row, oldest first and in turns, are dealt to ``parts`` replays, of which this is number
        ``part``; the oldest few that do not divide are dropped, and those that ``capacity`` has no room for.
        """
        if not all((path / "transitions").exists() for path in paths):
            return  # saved during the warm start, empty
        held = [tensor_files.load(path / "transitions") for path in paths]
        oldest = [torch.load(path / "state.pt", weights_only=True)["writer"]["_cursor"] for path in paths]
        size, owners = len(held[0]), len(held)
        capacity = self.buffer.storage.max_size  # pyright: ignore[reportAttributeAccessIssue]
        row = torch.arange(size * owners % parts + part, size * owners, parts)[-capacity:]
        shares = []
        for owner in range(owners):
            when = row[row % owners == owner] // owners
            shares.append(held[owner][(when + oldest[owner]) % size])  # a full replay writes over its oldest next
        turn = torch.cat([(row % owners == owner).nonzero().flatten() for owner in range(owners)]).argsort()
        self.buffer.extend(torch.cat(shares)[turn])  # pyright: ignore[reportArgumentType, reportCallIssue]


class _Staging:
    """Pinned host memory from which a chunk travels to the ``learner`` while its next update is gathered."""

    def __init__(self, learner: torch.device):
        self.learner = learner
        self._pinned: dict[Any, torch.Tensor] = {}
        self._sent = torch.cuda.Event()

    def send(self, held: TensorDictBase, rows: torch.Tensor) -> TensorDict:
        """The ``rows [K, T, b]`` of ``held [time * task]`` on the learner's device, in its stream's order."""
        updates, size = len(rows), rows[0].numel()
        self._sent.synchronize()  # the last chunk has left the memory
        chunk = TensorDict({}, [updates, size], device=self.learner)
        for key, values in held.items(include_nested=True, leaves_only=True):
            shape = (updates, size, *values.shape[1:])
            if key not in self._pinned or self._pinned[key].shape != shape:
                self._pinned[key] = torch.empty(shape, dtype=values.dtype, pin_memory=True)
            chunk[key] = torch.empty(shape, dtype=values.dtype, device=self.learner)
        for update, index in enumerate(rows.flatten(1)):
            for key, pinned in self._pinned.items():
                torch.index_select(held[key], 0, index, out=pinned[update])
                chunk[key][update].copy_(pinned[update], non_blocking=True)
        self._sent.record(torch.cuda.current_stream(self.learner))
        return chunk.unflatten(1, rows.shape[1:])
