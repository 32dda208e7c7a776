"""The contract of a weighting."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lit_mtrl.core.errors import require


class Weighting(nn.Module, ABC):
    """Weights ``[T]`` for the tasks' losses; the engine then runs one ordinary backward of ``(weights *
    losses).sum()``.

    Made with ``num_tasks`` and the yaml's values; a `ConfigError` it raises starts with the key, such as ``c=1.2:
    ...``. What it remembers from update to update are buffers and parameters, so that it is part of checkpoints. It
    must not wait for the device.

    ``reads_losses``: `forward` looks at the losses; if not, they may be those of one rank alone. ``reads_gramian``:
    `forward` gets the inner products of the tasks' gradients; ``shared_only``: of shared parameters only. ``floor``:
    losses must be above it, None for any; the engine counts those that are not, and the run says so.

    A weighting that learns has an `optimizer`, which steps after the objective's. `forward` sets its gradients; or
    `learn`, if ``evaluates_again``.
    """

    reads_losses = True
    reads_gramian = False
    evaluates_again = False
    shared_only = False
    floor: float | None = None

    def __init__(self, num_tasks: int):
        super().__init__()
        self.num_tasks = num_tasks

    @abstractmethod
    def forward(self, losses: Tensor, gramian: Tensor | None) -> Tensor:
        """Weights ``[T]`` for ``losses [T]``, both without graph; ``gramian [T, T]`` if ``reads_gramian``."""

    def optimizer(self) -> torch.optim.Optimizer | None:
        """Of what the weighting learns, None if it learns nothing; asked once, when everything is on its device."""
        return None

    def learn(self, losses: Tensor) -> None:
        """Gets the losses ``[T]`` after the objective's step, on the same batch; only if ``evaluates_again``."""

    def after_step(self) -> None:
        """After the `optimizer`'s step."""


class GramianWeighting(Weighting):
    """A weighting that is a function of the Gramian alone."""

    reads_losses = False
    reads_gramian = True

    def __init__(self, num_tasks: int, shared_only: bool = False):
        super().__init__(num_tasks)
        self.shared_only = shared_only


def cosines(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Norms ``[T]`` of the gradients and their cosines ``[T, T]``; a zero gradient's cosines are zero, with itself
    too.
    """
    norms = gramian.diagonal().clamp_min(0).sqrt()
    inverse = torch.where(norms > 0, 1 / norms, 0.0)
    return norms, (gramian * inverse[:, None]) * inverse


def check_rate(name: str, value: float) -> None:
    """Raise `ConfigError` unless ``value`` is a positive learning rate."""
    require(value > 0, f"{name}={value}: learning rates are positive")
