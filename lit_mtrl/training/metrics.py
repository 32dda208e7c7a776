"""Metrics of updates: the engine's own, their sums on the device, and what loggers call them.

Up to the loggers a metric is called ``"<objective>/<name>"``. It has a value for each task, ``[T]``, or a single one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence

import torch
from tensordict import TensorDict
from torch import Tensor

from lit_mtrl.core.ranks import Ranks
from lit_mtrl.weighting.base import Weighting
from lit_mtrl.weighting.mean import Mean

log = logging.getLogger("lit_mtrl")

NORMS = {"grad_norm": "grad", "param_norm": "params"}
"""What loggers call them: ``norm/<objective>/grad``."""
PART = 2**16
"""Numbers of a parameter whose squares `norm` sums at once."""
UNLOGGED = ("finite", "weight", "floored")

Due = tuple[str, ...]
"""The objectives that take part in an update: its kind."""


def report(
    objective: str,
    out: TensorDict,
    losses: Tensor,
    gramian: Tensor | None,
    weighting: Weighting,
    weights: Tensor,
    norm: Tensor,
) -> dict[str, Tensor]:
    """The metrics of an objective in one update: what its loss returned, ``out [T]``, and the engine's own.

    finite: 1 for a task whose loss is finite, and its gradient, if ``gramian`` tells; else 0.
    weight: of the tasks, unless `Mean` gives them.
    floored: 1 for a task that takes part with a loss which is not above the floor of its weighting; else 0.
    grad_norm: ``norm``, before clipping.
    """
    finite = _is_finite(losses)
    if gramian is not None:
        finite &= _is_finite(gramian.diagonal())
    metrics = {key: value.detach() for key, value in out.items()}
    metrics["finite"] = finite.to(losses.dtype)
    if not isinstance(weighting, Mean):
        metrics["weight"] = weights
    if weighting.floor is not None:
        floored = (losses <= weighting.floor) & (losses != 0)
        metrics["floored"] = floored.to(losses.dtype)
    metrics["grad_norm"] = norm
    return {f"{objective}/{key}": value for key, value in metrics.items()}


class Sums:
    """Sums of metrics over updates, on the device: one vector for each kind of update."""

    def __init__(self, ranks: Ranks):
        self.ranks = ranks
        self.totals: dict[Due, Tensor] = {}
        self._shapes: dict[Due, dict[str, torch.Size]] = {}

    def reset(self) -> None:
        """Set all sums to zero, in place: recorded updates go on adding to them."""
        for total in self.totals.values():
            total.zero_()

    def add(self, due: Due, metrics: Mapping[str, Tensor]) -> None:
        """Add the metrics of an update; those of one kind have the same keys and shapes."""
        flat = torch.cat([value.reshape(-1) for value in metrics.values()])
        if due not in self.totals:
            self.totals[due] = torch.zeros_like(flat)
            self._shapes[due] = {key: value.shape for key, value in metrics.items()}
        self.totals[due].add_(flat)

    def means(self, counts: Mapping[Due, int]) -> dict[str, Tensor]:
        """Means over the updates that had a metric, and over ranks; ``counts``: of updates, by kind."""
        sums: dict[str, Tensor] = {}
        numbers: dict[str, int] = {}
        over_ranks = self.ranks.mean(torch.cat([self.totals[due] for due in counts]))
        totals = over_ranks.split([len(self.totals[due]) for due in counts])
        for (due, count), total in zip(counts.items(), totals, strict=True):
            shapes = self._shapes[due]
            parts = total.split([shape.numel() for shape in shapes.values()])
            for (key, shape), part in zip(shapes.items(), parts, strict=True):
                value = part.view(shape)
                sums[key] = sums[key] + value if key in sums else value
                numbers[key] = numbers.get(key, 0) + count
        return {key: value / numbers[key] for key, value in sums.items()}


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm of all entries of all tensors, a 0-d tensor; of parts first, as `lit_mtrl.training.memory.ROW` says."""
    parts = [part for tensor in tensors for part in tensor.flatten().split(PART)]
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(parts)))  # pyright: ignore[reportArgumentType]


def to_host(*metrics: TensorDict) -> dict[str, list[float]]:
    """The values of all ``metrics``, in one transfer."""
    tensors: dict[str, Tensor] = {key: value for each in metrics for key, value in each.items()}
    flat = torch.cat([value.float().flatten() for value in tensors.values()]).tolist()
    values, at = {}, 0
    for key, tensor in tensors.items():
        values[key] = flat[at : at + tensor.numel()]
        at += tensor.numel()
    return values


def first_infinite(metrics: Mapping[str, list[float]], tasks: Sequence[str]) -> tuple[str, list[str]] | None:
    """The first metric with a value that is not finite, and the tasks that broke first, or all if that is not known;
    None if all are finite.
    """
    if math.isfinite(sum(map(sum, metrics.values()))):
        return None
    for key, values in metrics.items():
        if not all(map(math.isfinite, values)):
            shares = metrics.get(f"{key.split('/')[0]}/finite", [1.0] * len(tasks))
            return key, [task for task, share in zip(tasks, shares, strict=True) if share == min(shares)]
    return None


def for_loggers(means: Mapping[str, list[float]], tasks: Sequence[str], per_task: Collection[str]) -> dict[str, float]:
    """What loggers get: ``"<metric>/<task>"`` of the losses' metrics ``per_task``, but for zeros; of others
    ``"<metric>/<objective>"``, the mean over tasks; and norms as ``"norm/<objective>/grad"`` and ``".../params"``.
    """
    named: dict[str, float] = {}
    for key, values in means.items():
        objective, name = key.split("/")
        if name in UNLOGGED:
            continue
        if name in NORMS:
            named[f"norm/{objective}/{NORMS[name]}"] = values[0]
        elif name in per_task:
            named |= {f"{name}/{task}": value for task, value in zip(tasks, values, strict=True) if value != 0}
        else:
            named[f"{name}/{objective}"] = sum(values) / len(values)
    return named


def warn_of_floored(
    means: Mapping[str, list[float]], tasks: Sequence[str], weightings: Mapping[str, Weighting], warned: set[str]
) -> None:
    """Say once which losses a weighting cannot use; ``warned``: the objectives of which that has been said."""
    for objective, weighting in weightings.items():
        shares = means.get(f"{objective}/floored", [])
        if objective in warned or not any(shares):
            continue
        warned.add(objective)
        names = ", ".join(f"{task} ({x:.0%})" for task, x in zip(tasks, shares, strict=True) if x)
        log.warning(
            "weighting.%s: %s needs losses above %g; in some updates those of %s are not, and it does not judge these"
            " tasks then; use weighting.%s=mean, or one that reads gradients, such as pcgrad",
            objective,
            type(weighting).__name__,
            weighting.floor,
            names,
            objective,
        )


def _is_finite(values: Tensor) -> Tensor:
    # `isfinite` takes twice as many kernels.
    return values - values == 0
