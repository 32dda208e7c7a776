"""The rollout of on-policy methods: one iteration, used up by epochs of minibatches without replacement."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase

from lit_mtrl.core import files
from lit_mtrl.core.errors import require
from lit_mtrl.core.files import Sum
from lit_mtrl.core.seeds import rank_seed
from lit_mtrl.data.buffer import Buffer, gather, require_divides


class Rollout(Buffer):
    """Holds the last iteration alone; a chunk is K = ``epochs`` x ``minibatches`` batches ``[K, T, b]``.

    Every epoch uses each transition once. Each task is shuffled by itself, so that every batch has b = steps x copies /
    ``minibatches`` transitions of each.

    num_tasks: T.
    epochs: passes over the iteration.
    minibatches: batches of a pass.
    seed: of the shuffles.
    device: where it lies: ``cpu``, ``cuda``, or ``auto``, the learner's device if half of what is free there suffices.
    rank, ranks: the part of the data that is this buffer's.
    """

    def __init__(
        self,
        num_tasks: int,
        epochs: int = 10,
        minibatches: int = 4,
        seed: int = 0,
        device: str = "auto",
        rank: int = 0,
        ranks: int = 1,
    ):
        require(epochs > 0, f"replay.epochs={epochs}: pass over the iteration at least once")
        require(minibatches > 0, f"replay.minibatches={minibatches}: at least one batch per pass")
        self.num_tasks, self.epochs, self.minibatches, self.ranks = num_tasks, epochs, minibatches, ranks
        self.device, self._seed = device, rank_seed(seed, rank)
        self.place(torch.device("cpu"))

    def updates(self, steps: int, copies: int, per_step: float) -> int:
        require_divides("collector.steps", steps, self.ranks)
        samples = steps // self.ranks * copies
        require(
            samples % self.minibatches == 0,
            f"replay.minibatches={self.minibatches}: must divide the {samples} transitions of each task in an iteration"
            f" (collector.steps={steps} x collector.copies={copies}{' / ranks' if self.ranks > 1 else ''})",
        )
        self.per_task = samples // self.minibatches * self.ranks
        return self.epochs * self.minibatches

    def place(self, device: torch.device, learner: torch.device | None = None) -> None:
        self._device, self._held = device, None
        self._generator = torch.Generator(device).manual_seed(self._seed)

    def extend(self, data: TensorDictBase) -> None:
        held: Any = data.to(self._device)
        self._held = held.flatten(1, 2).flatten(0, 1).clone()  # [T * E * n]

    def sample(self, updates: int) -> TensorDict:
        assert self._held is not None and updates == self.epochs * self.minibatches
        size = len(self)
        keys = torch.rand(self.epochs, self.num_tasks, size, generator=self._generator, device=self._device)
        rows = keys.argsort(-1) + size * torch.arange(self.num_tasks, device=self._device)[:, None]
        batches = rows.unflatten(-1, (self.minibatches, -1)).transpose(1, 2).flatten(0, 1)  # [K, T, b]
        return gather(self._held, batches)

    def __len__(self) -> int:
        return 0 if self._held is None else len(self._held) // self.num_tasks

    def reseed(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def dumps(self, path: Path) -> dict[str, Sum]:
        """The random state alone: at the end of an epoch the iteration has been used up."""
        files.remove(path)
        path.mkdir(parents=True)
        state = io.BytesIO()
        torch.save({"generator": self._generator.get_state(), "device": self._device.type}, state)
        sums = {"state.pt": files.write(path / "state.pt", [state.getbuffer()])}
        files.sync(path)
        return sums

    def loads(self, path: Path) -> None:
        state = torch.load(path / "state.pt", weights_only=True)
        if state["device"] == self._device.type:  # states of different kinds have nothing in common
            self._generator.set_state(state["generator"])

    def deal(self, paths: Sequence[Path], part: int, parts: int) -> None:
        """Nothing is held between iterations."""
