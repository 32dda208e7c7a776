"""Per-task replay: one time axis, one task axis, every update drawn with independent times per task."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.data.replay_buffers.samplers import Sampler
from torchrl.data.replay_buffers.storages import Storage

from lit_mtrl.spec import require


class PerTaskSampler(Sampler):
    """Draws index pairs (time ``[K, T, b]``, task ``[1, T, 1]``): exactly b per task, times independent of each other.

    A buffer's ``batch_size`` is K * T * b; K = ``updates`` is set before each draw.
    """

    def __init__(self, num_tasks: int, per_task: int, seed: int):
        super().__init__()
        self.num_tasks, self.per_task = num_tasks, per_task
        self.generator = torch.Generator().manual_seed(seed)
        self.updates = 1

    def sample(self, storage: Storage, batch_size: int) -> tuple[tuple[torch.Tensor, torch.Tensor], dict]:
        shape = (self.updates, self.num_tasks, self.per_task)
        time = torch.randint(len(storage), shape, generator=self.generator)  # pyright: ignore[reportArgumentType]
        return (time, torch.arange(self.num_tasks).view(1, -1, 1)), {}

    def _empty(self, *args: object, **kwargs: object) -> None:
        return None

    def dumps(self, path: str | Path) -> None:
        torch.save(self.state_dict(), path)

    def loads(self, path: str | Path) -> None:
        self.load_state_dict(torch.load(path, weights_only=True))

    def state_dict(self) -> dict:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state_dict: dict) -> None:
        self.generator.set_state(state_dict["generator"])


class PerTaskReplay:
    """Holds the last ``capacity`` transitions of each task; a chunk is ``[K, T, b]``.

    ``capacity``: transitions per task. ``per_task``: b, transitions per task and update.
    """

    def __init__(self, num_tasks: int, capacity: int, per_task: int, seed: int):
        require(capacity > 0, f"replay.capacity={capacity}: keep at least one transition per task")
        require(per_task > 0, f"replay.per_task={per_task}: sample at least one transition per task")
        self.sampler = PerTaskSampler(num_tasks, per_task, seed)
        self.buffer = ReplayBuffer(
            storage=LazyTensorStorage(capacity),
            sampler=self.sampler,
            batch_size=num_tasks * per_task,
            collate_fn=lambda x: x,
        )

    def __len__(self) -> int:
        """Transitions held per task."""
        return len(self.buffer)

    def extend(self, data: TensorDictBase) -> None:
        """Append time slices ``[n, T]``."""
        self.buffer.extend(data)

    def sample(self, updates: int) -> TensorDict:
        """``[K, T, b]`` for K = ``updates``."""
        self.sampler.updates = updates
        return self.buffer.sample()

    def dumps(self, path: Path) -> None:
        """Write what is held, cursor and random state into the folder ``path``, in place of what it held."""
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        if len(self):
            self.buffer.storage[: len(self)].memmap(path / "transitions")
        state = {"writer": self.buffer.writer.state_dict(), "sampler": self.sampler.state_dict()}
        torch.save(state, path / "state.pt")

    def loads(self, path: Path) -> None:
        """Continue from what `dumps` wrote; call it on an empty replay of the same capacity."""
        state = torch.load(path / "state.pt", weights_only=True)
        if (path / "transitions").exists():
            self.extend(TensorDict.load_memmap(path / "transitions"))
        self.buffer.writer.load_state_dict(state["writer"])
        self.sampler.load_state_dict(state["sampler"])
