"""The numbers of a report: what each group reached, with intervals over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lit_mtrl.evaluation.stats import STATISTICS, Estimate, area_under_curve, estimate, estimate_improvement
from lit_mtrl.report.groups import Group, Panel
from lit_mtrl.report.runs import TIME, Recorded

PAIR_RESAMPLES = 1000
"""Of each of up to 190 pairs of groups."""


@dataclass(eq=False)
class Measured:
    """A group of n seeds in numbers. ``final [n, T]``: the panel's score, success or return, of every task at its
    frames; ``end``: its statistic over seeds.

    ``frames [E]``: evaluations that all seeds have; ``curve``: the statistic at each. ``parameters``: actor and critic,
    where known.
    """

    group: Group
    benchmark: str
    final: NDArray[np.float64]
    end: Estimate
    frames: NDArray[np.int64]
    curve: Estimate
    auc: Estimate
    parameters: dict[str, int]

    @property
    def label(self) -> str:
        return self.group.label


def measure(panel: Panel, statistic: str) -> list[Measured]:
    """Every group of the panel, in order."""
    out = []
    for group in panel.groups:
        runs = group.runs
        final = np.stack([run.scores[run.until(panel.frames)] for run in runs])
        frames = reduce(np.intersect1d, [run.frames for run in runs])
        curves = np.stack([run.scores[np.isin(run.frames, frames)] for run in runs], 1)  # [E, n, T]
        areas = [area_under_curve(run.frames, run.scores.mean(1), until=panel.frames) for run in runs]
        nothing = Estimate(*[np.empty(0)] * 3)
        out.append(
            Measured(
                group=group,
                benchmark=panel.benchmark,
                final=final,
                end=over_seeds(final, statistic),
                frames=frames,
                curve=over_seeds(curves, statistic) if len(frames) else nothing,
                auc=estimate(
                    np.array(areas)[:, None], "mean" if statistic in ("median", "optimality_gap") else statistic
                ),
                parameters={k: known[0] for k in ("actor", "critic") if (known := _counts(runs, k))},
            )
        )
    return out


def over_seeds(scores: NDArray, statistic: str) -> Estimate:
    """The statistic ``[...]`` of ``scores [..., n, T]``: over seeds, of each one's mean over tasks; the median is over
    tasks.
    """
    return estimate(scores if statistic == "median" else scores.mean(-1, keepdims=True), statistic)


def hours(run: Recorded, frames: NDArray | int) -> NDArray | None:
    """Hours of training at ``frames``; None if the run did not record them."""
    if TIME not in run.metrics:
        return None
    at, seconds = run.metrics[TIME]
    return np.asarray(np.interp(frames, [0, *at], [0, *seconds])) / 3600


def summary_rows(panel: Panel, measured: Sequence[Measured]) -> pd.DataFrame:
    """One row per group; bounds are NaN of a single seed."""
    rows = []
    for each in measured:
        known = [h for run in each.group.runs if (h := hours(run, panel.frames)) is not None]
        row = {"benchmark": panel.benchmark, "group": each.label, "seeds": len(each.group.runs), "frames": panel.frames}
        row |= _bounds("success", each.end)
        for name in STATISTICS:
            row |= _bounds(name, estimate(each.final, name))
        row |= _bounds("auc", each.auc)
        row |= {f"{net}_parameters": each.parameters.get(net) for net in ("actor", "critic")}
        rows.append(row | {"hours": float(np.mean(known)) if known else None})
    table = pd.DataFrame(rows)
    return table.astype({f"{net}_parameters": "Int64" for net in ("actor", "critic")})


def task_rows(panel: Panel, measured: Sequence[Measured]) -> pd.DataFrame:
    """Mean final success over seeds: one row per group and task, with the lowest and highest seed."""
    rows = [
        {
            "benchmark": panel.benchmark,
            "group": each.label,
            "task": task,
            "seeds": len(scores),
            "success": scores.mean(),
            "lowest": scores.min(),
            "highest": scores.max(),
        }
        for each in measured
        for task, scores in zip(panel.tasks, each.final.T, strict=True)
    ]
    return pd.DataFrame(rows)


def improvement_rows(panel: Panel, measured: Sequence[Measured]) -> pd.DataFrame:
    """P(row > column) of every ordered pair of groups: a run of the first beats one of the second, in the mean over
    tasks.
    """
    rows: list[dict[str, Any]] = []
    for i, x in enumerate(measured):
        for y in measured[i + 1 :]:
            p = estimate_improvement(x.final, y.final, resamples=PAIR_RESAMPLES)
            for a, b, values in ((x, y, (p.value, p.low, p.high)), (y, x, (1 - p.value, 1 - p.high, 1 - p.low))):
                row = {"benchmark": panel.benchmark, "group": a.label, "against": b.label}
                rows.append(row | dict(zip(("probability", "low", "high"), map(float, values), strict=True)))
    order = {each.label: i for i, each in enumerate(measured)}
    rows.sort(key=lambda row: (order[row["group"]], order[row["against"]]))
    return pd.DataFrame(rows)


def run_rows(runs: Sequence[Recorded], groups: Mapping[int, str], superseded: Sequence[Recorded]) -> pd.DataFrame:
    """Every run that was read; ``groups``: the label by `id` of those that count."""
    rows = [
        {
            "run": run.name,
            "benchmark": str(run.labels.get("benchmark", "")),
            "group": groups.get(id(run), ""),
            "seed": run.seed,
            "status": run.status,
            "counted": "yes" if id(run) in groups else "superseded" if run in superseded else "no",
            "frames": run.last,
            "budget": run.budget,
            "success": run.success[-1].mean() if len(run.frames) and run.score == "success" else np.nan,
            "source": run.source,
            "page": run.link or "",
        }
        for run in runs
    ]
    return pd.DataFrame(rows)


def _counts(runs: Sequence[Recorded], net: str) -> list[int]:
    return [count for run in runs if (count := run.labels.get(f"parameters.{net}"))]


def _bounds(name: str, value: Estimate) -> dict[str, float]:
    return {name: float(value.value), f"{name}_low": float(value.low), f"{name}_high": float(value.high)}
