"""Figures of what happens inside the networks: plasticity, and norms of parameters and gradients."""

# pandas annotates whatever is selected from a table as table, column or array at once.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lit_mtrl.report.groups import Panel
from lit_mtrl.report.runs import Recorded
from lit_mtrl.report.style import WIDTH, Drawn, frames_axis, legend, new_figure, styles
from lit_mtrl.report.summary import Measured

NETS = {"actor": "actor", "critic_0": "first critic"}
MEASURES = {
    "dormant_0.1": "dormant neurons (%), τ = 0.1",
    "srank": "srank of features",
    "effective_rank": "effective rank of features",
    "change_start": "relative weight change since start",
    "change_last": "relative weight change since last",
}
POINTS = 200
"""Frames at which a line is drawn, at most."""
Series = tuple[NDArray, NDArray]


def plasticity(panel: Panel, measured: list[Measured], labels: Sequence[str]) -> Drawn:
    """Small multiples over frames: a row per measure, a column per network."""
    shown = "dormant neurons, ranks of the last hidden layer, movement of the weights"
    caption = f"Plasticity over frames, mean over seeds: {shown}."
    out = Drawn("plasticity", "Plasticity", caption)
    grid = [
        [(f"{title}, {name}", _plasticity(net, key)) for net, name in NETS.items()] for key, title in MEASURES.items()
    ]
    return _multiples(out, panel, measured, labels, grid, "plasticity", log=False)


def norms(panel: Panel, measured: list[Measured], labels: Sequence[str]) -> Drawn:
    """Small multiples over frames: parameters' and gradients' norms, a column per objective."""
    caption = (
        "Norms of parameters and of gradients (before clipping) over frames, mean over seeds, on logarithmic axes."
    )
    out = Drawn("norms", "Norms", caption)
    names = {"params": "norm of the parameters", "grad": "norm of the gradient"}
    grid = [
        [(f"{title}, {net}", _metric(f"norm/{net}/{what}")) for net in ("actor", "critic")]
        for what, title in names.items()
    ]
    return _multiples(out, panel, measured, labels, grid, "norm/*", log=True)


def _multiples(
    out: Drawn,
    panel: Panel,
    measured: list[Measured],
    labels: Sequence[str],
    rows: list[list[tuple[str, Callable[[Recorded], Series | None]]]],
    what: str,
    log: bool,
) -> Drawn:
    runs = [run for each in measured for run in each.group.runs]
    lacking = sum(all(read(run) is None for row in rows for _, read in row) for run in runs)
    if lacking:
        out.notes.append(f"{lacking} of {len(runs)} runs did not record {what}.")
    if lacking == len(runs):
        return out
    kept = [row for row in rows if any(read(run) is not None for _, read in row for run in runs)]
    figure = new_figure(WIDTH, 2.2 * len(kept) + 0.3)
    look, entries = styles(labels), {}
    for axes, row in zip(figure.subplots(len(kept), len(kept[0]), squeeze=False, sharex=True), kept, strict=True):
        for ax, (title, read) in zip(axes, row, strict=True):
            for each in measured:
                if line := _mean_line(
                    ax, [s for run in each.group.runs if (s := read(run)) is not None], look[each.label], log
                ):
                    entries.setdefault(each.label, line)
            ax.set_title(title)
            frames_axis(ax)
            if log:
                ax.set_yscale("log")
            else:
                ax.set_ylim(bottom=0)
            ax.set_xlabel(ax.get_xlabel() if row is kept[-1] else "")
    legend(figure, {label: entries[label] for label in labels if label in entries})
    out.figure = figure
    return out


def _mean_line(ax: Axes, series: list[Series], look: dict, log: bool) -> Artist | None:
    """The mean over seeds, where all have values."""
    if not series:
        return None
    low, high = max(at[0] for at, _ in series), min(at[-1] for at, _ in series)
    at = np.unique(np.concatenate([at for at, _ in series]))
    at = at[(at >= low) & (at <= high)]
    if not len(at):
        return None
    at = at[np.unique(np.linspace(0, len(at) - 1, min(POINTS, len(at))).astype(int))]
    mean = np.mean([np.interp(at, *each) for each in series], 0)
    if log:
        mean = np.where(mean > 0, mean, np.nan)
    (line,) = ax.plot(at, mean, linewidth=1.3, marker="o" if len(at) == 1 else None, markersize=4, **look)
    return line


def _plasticity(net: str, key: str) -> Callable[[Recorded], Series | None]:
    scale = 100 if key.startswith("dormant") else 1

    def read(run: Recorded) -> Series | None:
        table = run.plasticity
        if table is None or key not in table:
            return None
        values = table[table["net"] == net][["frames", key]].dropna()
        return (values["frames"].to_numpy(), scale * values[key].to_numpy(float)) if len(values) else None

    return read


def _metric(name: str) -> Callable[[Recorded], Series | None]:
    return lambda run: run.metrics.get(name)
