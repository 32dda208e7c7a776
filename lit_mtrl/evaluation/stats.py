"""Statistics for few seeds: aggregates, stratified bootstrap intervals, improvement, profiles, areas under curves.

After Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the Statistical Precipice". A *score matrix* is
``[..., seeds, tasks]``, of floats without NaN (`ValueError`); everything is computed as float64.

NOTE 1: the stratified bootstrap resamples the seeds of every task apart, as if tasks were trained apart. One multi-task
        agent learns all of them, so where good seeds are good at many tasks the interval of a ``[seeds, tasks]`` matrix
        is too narrow. A ``[seeds, 1]`` matrix, of means over tasks as in McLean et al. (2025), resamples whole agents.
NOTE 2: of a single seed there is no interval: its bounds are NaN, not the value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown

Floats = NDArray[np.float64]

NUMBERS = 2**22
"""Numbers in the largest temporary array of a bootstrap; a handful of such arrays live at a time."""


@dataclass(frozen=True)
class Estimate:
    """A statistic and the bounds of its interval: three floats, or three arrays of one shape; bounds are NaN for one
    seed.
    """

    value: Any
    low: Any
    high: Any


def iqm(scores: ArrayLike) -> Floats:
    """Interquartile mean ``[...]`` over all N seeds and tasks of ``[..., seeds, tasks]``: ``floor(N / 4)`` scores are
    cut at either end.
    """
    matrix = _matrix(scores)
    flat = matrix.reshape(*matrix.shape[:-2], -1)
    cut = flat.shape[-1] // 4
    last = flat.shape[-1] - cut - 1
    return np.partition(flat, (cut, last), axis=-1)[..., cut : last + 1].mean(-1)


def mean(scores: ArrayLike) -> Floats:
    """Mean ``[...]`` over seeds and tasks of ``[..., seeds, tasks]``."""
    return _matrix(scores).mean((-2, -1))


def median(scores: ArrayLike) -> Floats:
    """Median ``[...]`` over tasks of the mean over seeds of ``[..., seeds, tasks]``."""
    return np.median(_matrix(scores).mean(-2), axis=-1)


def optimality_gap(scores: ArrayLike, target: float = 1.0) -> Floats:
    """By how much ``[..., seeds, tasks]`` falls short of ``target`` in the mean ``[...]``; what is above it makes up
    for nothing.
    """
    return np.maximum(target - _matrix(scores), 0).mean((-2, -1))


STATISTICS: dict[str, Callable[..., Floats]] = {
    "iqm": iqm,
    "mean": mean,
    "median": median,
    "optimality_gap": optimality_gap,
}


def estimate(
    scores: ArrayLike, statistic: str = "iqm", level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """One of `STATISTICS` of ``[..., seeds, tasks]``, with the percentile interval of a bootstrap stratified by task,
    ``[...]`` each.

    Leading axes, such as evaluations, share the resampled seeds. Raises `ConfigError` on an unknown ``statistic``, a
    ``level`` outside (0, 1) or no ``resamples``.
    """
    require(statistic in STATISTICS, unknown("statistic", statistic, STATISTICS))
    _check(level, resamples)
    matrix, function = _matrix(scores), STATISTICS[statistic]
    *lead, seeds, tasks = matrix.shape
    value = function(matrix)
    if seeds == 1:
        return _without_interval(value)
    flat, rng = matrix.reshape(-1, seeds * tasks), np.random.default_rng(seed)
    drawn = np.empty((len(flat), resamples))
    for part in _parts(resamples, seeds * tasks):
        chosen = rng.integers(seeds, size=(part.stop - part.start, seeds, tasks)) * tasks + np.arange(tasks)
        for rows in _parts(len(flat), chosen.size):
            drawn[rows, part] = function(flat[rows].take(chosen, axis=1))
    return _interval(value, drawn.reshape(*lead, resamples), level)


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """Mean over tasks of P(X > Y) + P(X = Y) / 2, over all pairs of a seed of ``x [n, T]`` and one of ``y [m, T]``."""
    return float(_wins(x, y).mean())


def estimate_improvement(
    x: ArrayLike, y: ArrayLike, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """`probability_of_improvement` with its interval: seeds of both are resampled for every task; NaN if either has one
    seed.
    """
    _check(level, resamples)
    wins = _wins(x, y)
    tasks, n, m = wins.shape
    value = wins.mean()
    if min(n, m) == 1:
        return _without_interval(value)
    rng_x, rng_y = np.random.default_rng(seed).spawn(2)
    drawn = np.empty(resamples)
    for part in _parts(resamples, tasks * max(n, m)):
        of_x, of_y = (_counts(rng, part, tasks, seeds) for rng, seeds in ((rng_x, n), (rng_y, m)))
        drawn[part] = ((of_x.swapaxes(0, 1) @ wins) * of_y.swapaxes(0, 1)).sum((0, 2))
    return _interval(value, drawn / wins.size, level)


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Floats:
    """Share ``[k]`` of the scores ``[seeds, tasks]`` above each of ``thresholds [k]``."""
    ordered = np.sort(_plain(scores), axis=None)
    return (ordered.size - np.searchsorted(ordered, np.asarray(thresholds, np.float64), side="right")) / ordered.size


def estimate_profile(
    scores: ArrayLike, thresholds: ArrayLike, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """`performance_profile` with its interval at each of ``thresholds [k]``, ``[k]`` each; the interval is
    pointwise.
    """
    _check(level, resamples)
    matrix = _plain(scores)
    value = performance_profile(matrix, thresholds)
    seeds, tasks = matrix.shape
    if seeds == 1:
        return _without_interval(value)
    above = (matrix.T[..., None] > np.asarray(thresholds, np.float64)).reshape(matrix.size, -1).astype(np.float64)
    rng, drawn = np.random.default_rng(seed), np.empty((len(value), resamples))
    for part in _parts(resamples, matrix.size):
        drawn[:, part] = (_counts(rng, part, tasks, seeds).reshape(-1, matrix.size) @ above).T
    return _interval(value, drawn / matrix.size, level)


def area_under_curve(frames: ArrayLike, values: ArrayLike, until: float | None = None) -> Floats:
    """Mean height ``[...]`` of the curves ``values [..., E]`` from the first to the last of ``frames [E]``, by the
    trapezoidal rule.

    ``until`` ends the curves there, at the height between its two neighbours; beyond the last of ``frames`` it changes
    nothing. Of a single evaluation it is the value. Raises `ValueError` if ``frames`` do not increase, do not fit
    ``values`` or all lie after ``until``.
    """
    at, heights = np.asarray(frames, np.float64), np.asarray(values, np.float64)
    if at.ndim != 1 or not at.size or heights.shape[-1:] != at.shape or not (np.diff(at) > 0).all():
        raise ValueError(f"frames {at.shape} must increase and be as many as the last axis of values {heights.shape}")
    if until is not None and until < at[-1]:
        if until < at[0]:
            raise ValueError(f"until={until:g}: the first evaluation is at {at[0]:g} frames")
        kept = int(np.searchsorted(at, until, side="right"))
        share = (until - at[kept - 1]) / (at[kept] - at[kept - 1])
        end = (1 - share) * heights[..., kept - 1] + share * heights[..., kept]
        at, heights = at[:kept], heights[..., :kept]
        if share:
            at, heights = np.append(at, until), np.concatenate([heights, end[..., None]], -1)
    if at.size == 1:
        return heights[..., 0]
    return np.trapezoid(heights, at, axis=-1) / (at[-1] - at[0])


def _matrix(scores: ArrayLike) -> Floats:
    """``[..., seeds, tasks]`` as float64; raises `ValueError` if it is none, is empty or has NaN."""
    matrix = np.asarray(scores, np.float64)
    if matrix.ndim < 2 or not matrix.size:
        raise ValueError(f"scores {matrix.shape} must be [..., seeds, tasks], with at least one of each")
    if np.isnan(matrix).any():
        raise ValueError("scores must not hold NaN: leave out the seeds or tasks that were not evaluated")
    return matrix


def _plain(scores: ArrayLike) -> Floats:
    """A score matrix without leading axes."""
    matrix = _matrix(scores)
    if matrix.ndim > 2:
        raise ValueError(f"scores {matrix.shape} must be [seeds, tasks]")
    return matrix


def _wins(x: ArrayLike, y: ArrayLike) -> Floats:
    """Which seed of ``x [n, T]`` beats which of ``y [m, T]``: ``[T, n, m]`` of 1, 0 and, where they tie, 0.5."""
    first, second = _plain(x).T[:, :, None], _plain(y).T[:, None, :]
    if len(first) != len(second):
        raise ValueError(f"x has {len(first)} tasks and y {len(second)}: they must be the same")
    return (first > second) + 0.5 * (first == second)


def _check(level: float, resamples: int) -> None:
    require(0 < level < 1, f"level={level}: choose one between 0 and 1, such as 0.95")
    require(resamples >= 1, f"resamples={resamples}: choose at least 1, such as 2000")


def _parts(total: int, numbers: int) -> Iterator[slice]:
    """Slices that cover ``range(total)``, of as many elements as `NUMBERS` allows where each takes ``numbers``; at
    least one.
    """
    step = max(1, NUMBERS // numbers)
    return (slice(start, min(start + step, total)) for start in range(0, total, step))


def _counts(rng: np.random.Generator, part: slice, tasks: int, seeds: int) -> Floats:
    """How often resamples ``part`` hold each seed of each task: ``[part, tasks, seeds]``, whole numbers, so that sums
    are exact.
    """
    shape = (part.stop - part.start, tasks)
    return rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=shape).astype(np.float64)


def _interval(value: Any, drawn: Floats, level: float) -> Estimate:
    """Percentiles of ``drawn [..., resamples]`` around ``value [...]``."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return Estimate(value, low, high)


def _without_interval(value: Any) -> Estimate:
    return Estimate(value, np.full_like(value, np.nan)[()], np.full_like(value, np.nan)[()])
