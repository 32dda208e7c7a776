"""The contract of a buffer: what has been collected, and the batches that are made of it.

A buffer is built with ``num_tasks``, ``seed``, ``rank`` and ``ranks``, and with the values of its yaml in
``conf/replay``. Every rank has one, for its own part of the data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from tensordict import TensorDict, TensorDictBase

from lit_mtrl.core.errors import require
from lit_mtrl.core.files import Sum


class Buffer(ABC):
    """What a `lit_mtrl.data.module.DataModule` asks of every buffer.

    device: where it shall lie: ``cpu``, ``cuda`` or ``auto``.
    capacity: transitions of each task that it holds when full, on all ranks together; None for one iteration's.
    per_task: b, transitions of each task in a batch, on all ranks together; None if `updates` decides.
    """

    device: str = "auto"
    capacity: int | None = None
    per_task: int | None = None

    @abstractmethod
    def updates(self, steps: int, copies: int, per_step: float) -> int:
        """K, the updates that follow an iteration; asked once, before anything is collected.

        steps: vector steps of an iteration, on all ranks together.
        copies: environments per task, on each rank.
        per_step: ``collector.updates_per_step``, for buffers whose K is a matter of choice.

        Raises `ConfigError` where there is no such whole number.
        """

    @abstractmethod
    def place(self, device: torch.device, learner: torch.device | None = None) -> None:
        """Lie on ``device`` from now on; asked before anything is held. ``learner``: where chunks are wanted."""

    @abstractmethod
    def extend(self, data: TensorDictBase) -> None:
        """Take an iteration, ``[T, E, n]``: task, environment of the task, vector step; its memory is not kept."""

    @abstractmethod
    def sample(self, updates: int) -> TensorDict:
        """A chunk ``[K, T, b]`` for K = ``updates`` updates, in memory of its own."""

    @abstractmethod
    def __len__(self) -> int:
        """Transitions held per task."""

    @abstractmethod
    def reseed(self, seed: int) -> None:
        """Draw from a fresh random stream from here on."""

    @abstractmethod
    def dumps(self, path: Path) -> dict[str, Sum]:
        """Write everything that sampling depends on into the folder ``path``, in place of what it held.

        Returns size and checksum of each file by its name in ``path``; raises `OSError` where the disk is full.
        """

    @abstractmethod
    def loads(self, path: Path) -> None:
        """Continue from what `dumps` wrote, wherever that buffer was; asked of an empty buffer of the same sizes."""

    @abstractmethod
    def deal(self, paths: Sequence[Path], part: int, parts: int) -> None:
        """Take share ``part`` of ``parts`` of what other buffers wrote into ``paths``; asked of an empty buffer."""


def require_divides(key: str, value: int, ranks: int, whole: int = 0) -> None:
    """`ConfigError` unless ``value`` divides among ``ranks``; it suggests a near one, that divides ``whole`` if one
    does.
    """
    first = -(-value // ranks) * ranks
    near = next((n for n in range(first, whole, ranks) if whole % n == 0), first)
    require(value % ranks == 0, f"{key}={value}: must divide among {ranks} ranks, such as {near}")


def gather(held: TensorDictBase, rows: torch.Tensor) -> TensorDict:
    """The transitions ``rows [K, T, b]`` of ``held [n]``, in memory of their own."""
    flat = rows.flatten()
    chunk = held.apply(lambda values: values.index_select(0, flat), batch_size=flat.shape)
    assert isinstance(chunk, TensorDict)
    return chunk.unflatten(0, rows.shape)
