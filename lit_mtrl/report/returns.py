"""Benchmarks that are judged by return: curves and final returns of every task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lit_mtrl.evaluation.stats import Estimate, estimate
from lit_mtrl.report.figures import STATISTIC
from lit_mtrl.report.groups import Panel, shorten
from lit_mtrl.report.style import Drawn, frames_axis, grid, interval_line, legend, plain, styles
from lit_mtrl.report.summary import Measured
from lit_mtrl.report.tables import NOT_AVAILABLE

EXPLANATION = (
    "Returns are shown task by task: tasks pay on scales of their own, so a mean over tasks would be that of the"
    " largest. Groups are compared over tasks by the probability of improvement alone, which asks who is better on"
    " each task, not by how much."
)
MOST = 60
"""Tasks that are drawn; the table has all."""


def curves(panel: Panel, measured: Sequence[Measured], labels: Sequence[str], statistic: str) -> Drawn:
    """Return against frames: small multiples, one for each task."""
    over = _over_seeds(statistic)
    caption = f"Evaluation return of each task, {STATISTIC[over]}, with 95 % intervals; one line per group."
    out = Drawn("returns", "Returns", f"{caption} The table has the returns at the frames compared.")
    shown, look, entries = panel.tasks[:MOST], styles(labels), {}
    if len(panel.tasks) > MOST:
        out.notes.append(f"The first {MOST} of {len(panel.tasks)} tasks are drawn.")
    figure, axes = grid(len(shown))
    for each in measured:
        runs, look_of = each.group.runs, look[each.label]
        if not len(each.frames):
            out.notes.append(
                f"{shorten(panel.benchmark)}: the seeds of {each.label} have no evaluation in common, so no curve."
            )
            continue
        values = np.stack([run.returns[np.isin(run.frames, each.frames)] for run in runs], 1)  # [E, n, T]
        for task, ax in enumerate(axes):
            entries[each.label] = interval_line(ax, each.frames, estimate(values[..., task : task + 1], over), look_of)
    for task, ax in zip(shown, axes, strict=True):
        frames_axis(ax)
        ax.set_title(plain(shorten(task, 40)))
        ax.set_ylabel("return")
    legend(figure, entries)
    out.figure = figure
    return out


def rows(panel: Panel, measured: Sequence[Measured], statistic: str) -> pd.DataFrame:
    """Final return: one row per group and task, with its interval over seeds and the lowest and highest seed."""
    out = []
    for each in measured:
        for task, scores in zip(panel.tasks, each.final.T, strict=True):
            value = estimate(scores[:, None], _over_seeds(statistic))
            row = {"benchmark": panel.benchmark, "group": each.label, "task": task}
            row |= {"seeds": len(scores), "frames": panel.frames, "return": float(value.value)}
            row |= {"return_low": float(value.low), "return_high": float(value.high)}
            out.append(row | {"lowest": scores.min(), "highest": scores.max()})
    return pd.DataFrame(out)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A row per group, a column per task; of one benchmark."""
    cells = [
        _interval(Estimate(*row)) for row in table[["return", "return_low", "return_high"]].itertuples(index=False)
    ]
    wide = table.assign(cell=cells).pivot(index="group", columns="task", values="cell")
    wide = wide.loc[list(dict.fromkeys(table["group"])), list(dict.fromkeys(table["task"]))]
    return wide.reset_index().rename_axis(columns=None)


def _over_seeds(statistic: str) -> str:
    """Over the seeds of one task; a statistic that is over tasks, or needs scores in [0, 1], becomes the mean."""
    return statistic if statistic in ("iqm", "mean") else "mean"


def _interval(value: Estimate) -> str:
    bounds = NOT_AVAILABLE if np.isnan(value.low) else f"{value.low:,.1f}, {value.high:,.1f}"
    return f"{value.value:,.1f} [{bounds}]"
