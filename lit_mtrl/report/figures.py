"""Figures of success: over frames and hours, at the end, per task, over scores, and of one group against another."""

# pandas annotates whatever is selected from a table as table, column or array at once.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lit_mtrl.evaluation.stats import Estimate, estimate_profile
from lit_mtrl.report.groups import Panel, shorten
from lit_mtrl.report.published import name_of, nearest_rows, success_rows
from lit_mtrl.report.style import Drawn, frames_axis, grey, grid, interval_line, legend, new_figure, plain, styles, wrap
from lit_mtrl.report.summary import Measured, hours

STATISTIC = {
    "iqm": "interquartile mean over seeds",
    "mean": "mean over seeds",
    "median": "median over tasks",
    "optimality_gap": "optimality gap",
}
GAP = "optimality_gap"
IMPROVEMENT = {"success": ("improvement", "more success"), "return": ("improvement_of_returns", "a higher return")}
PROFILE = np.linspace(0, 1, 101)
Measures = Sequence[tuple[Panel, list[Measured]]]


def scale(statistic: str) -> str:
    """What the axis shows."""
    return STATISTIC[GAP] if statistic == GAP else "success"


def over_frames(panels: Measures, labels: Sequence[str], statistic: str, published: pd.DataFrame) -> Drawn:
    """Success against frames."""
    caption = f"Evaluation success, {STATISTIC[statistic]}, with 95 % intervals; one line per group."
    out = Drawn("learning_curves", "Learning curves", caption)
    return _curves(out, panels, labels, statistic, lambda each: each.frames, published)


def over_hours(panels: Measures, labels: Sequence[str], statistic: str) -> Drawn:
    """Success against hours of training, those of the mean over seeds."""
    caption = "The same against hours of training (mean over seeds), as the machines of these runs took them."
    out = Drawn("learning_curves_wall_clock", "Learning curves over time", caption)
    runs = [run for _, measured in panels for each in measured for run in each.group.runs]
    lacking = sum(hours(run, 0) is None for run in runs)
    if lacking:
        out.notes.append(f"{lacking} of {len(runs)} runs did not record time/total.")
    return out if lacking == len(runs) else _curves(out, panels, labels, statistic, _mean_hours)


def papers_bars(published: pd.DataFrame) -> str:
    """The end of a caption: what the bars of published numbers are."""
    return (
        " Bars of published numbers are what their authors give: intervals, deviations or ranges."
        if len(published)
        else ""
    )


def final(panels: Measures, labels: Sequence[str], statistic: str, published: pd.DataFrame) -> Drawn:
    """Success at the end: statistic, interval and seeds."""
    caption = (
        f"Success at the frames compared: {STATISTIC[statistic]} (large dot), 95 % interval (bar), seeds (small dots)."
    )
    out = Drawn("final_success", "Final success", caption + papers_bars(published))
    names = [
        [(wrap(each.label), each) for each in measured]
        + [(wrap(name_of(row, panel)), row) for row in _finals(published, panel)]
        for panel, measured in panels
    ]
    lines = [sum(max(1.6, name.count("\n") + 1.3) for name, _ in rows) for rows in names]
    figure = new_figure(8.5, 0.17 * sum(lines) + 0.9 * len(panels))
    all_axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[line + 1 for line in lines])[:, 0]
    look = styles(labels)
    for ax, (panel, _), rows in zip(all_axes, panels, names, strict=True):
        places, at = [], 0.0
        for name, row in rows:
            half = max(1.6, name.count("\n") + 1.3) / 2
            at += half
            places.append(at)
            if isinstance(row, Measured):
                colour = look[row.label]["color"]
                seeds = 1 - row.final.mean(1) if statistic == GAP else row.final.mean(1)
                ax.scatter(seeds, [at] * len(seeds), s=14, color=colour, alpha=0.35, linewidth=0)
                _interval(ax, row.end, at, colour)
            else:
                _interval(ax, Estimate(row["value"], row["low"], row["high"]), at, "0.45")
            at += half
        ax.set_yticks(places, [name for name, _ in rows], fontsize=8)
        ax.set(ylim=(at, 0), xlim=(-0.03, 1.03))
        ax.set_title(f"{plain(shorten(panel.benchmark))}, at {panel.frames:,} frames", loc="left")
        ax.grid(axis="x", alpha=0.25)
    all_axes[-1].set_xlabel(scale(statistic))
    out.figure = figure
    return out


def per_task(panel: Panel, measured: list[Measured]) -> Drawn:
    """Heat map of groups and tasks."""
    caption = "Success per task at the frames compared, mean over seeds."
    out = Drawn("per_task", "Success per task", caption)
    values = np.array([each.final.mean(0) for each in measured])
    few = len(panel.tasks) <= 12
    names = [wrap(each.label, 36) for each in measured]
    row = max(0.26, 0.15 * max(name.count("\n") + 1 for name in names) + 0.06)
    out.figure = new_figure(3.4 + (0.55 if few else 0.21) * len(panel.tasks), 1.9 + row * len(measured))
    ax = out.figure.subplots()
    image = ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(range(len(panel.tasks)), [plain(task) for task in panel.tasks], rotation=90, fontsize=8)
    ax.set_yticks(range(len(measured)), names, fontsize=8)
    ax.spines[:].set_visible(False)
    for (i, j), value in np.ndenumerate(values) if few else []:
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color="white" if value > 0.6 else "black")
    out.figure.colorbar(image, ax=ax, label="success", fraction=0.05, pad=0.02)
    return out


def profile(panels: Measures, labels: Sequence[str]) -> Drawn:
    """Share of scores above each threshold."""
    caption = "Share of all seeds' tasks with a success above τ, with 95 % intervals; higher is better everywhere."
    out = Drawn("performance_profile", "Performance profile", caption)
    look, entries = styles(labels), {}
    figure, axes = grid(len(panels))
    for ax, (panel, measured) in zip(axes, panels, strict=True):
        for each in measured:
            shares = estimate_profile(each.final, PROFILE)
            entries[each.label] = interval_line(ax, PROFILE, shares, look[each.label])
        ax.set(xlabel="success τ", xlim=(0, 1), ylim=(-0.02, 1.02), title=plain(shorten(panel.benchmark, 40)))
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("share of scores > τ")
    legend(figure, entries)
    out.figure = figure
    return out


def improvement(panel: Panel, table: pd.DataFrame) -> Drawn:
    """P(row > column)."""
    name, more = IMPROVEMENT[panel.score]
    than = "on a task than one of the column's: mean over tasks."
    caption = f"How probable it is that a run of the row's group has {more} {than}"
    out = Drawn(name, "Probability of improvement", caption + " Intervals are in the table below.")
    if not len(table):
        out.notes.append("There is one group, nothing to compare it with.")
        return out
    names = [group.label for group in panel.groups]
    matrix = (
        table.pivot(index="group", columns="against", values="probability")
        .reindex(index=names, columns=names)
        .to_numpy()
    )
    size, shown = len(names), [wrap(name, 30) for name in names]
    cell = max(0.42, 0.15 * max(name.count("\n") + 1 for name in shown) + 0.08)
    out.figure = new_figure(4 + cell * size, 3 + cell * size)
    ax = out.figure.subplots()
    image = ax.imshow(matrix, cmap="RdBu", vmin=0, vmax=1)
    ax.set_xticks(range(size), shown, rotation=90, fontsize=8)
    ax.set_yticks(range(size), shown, fontsize=8)
    ax.spines[:].set_visible(False)
    for (i, j), value in np.ndenumerate(matrix):
        if i != j:
            colour = "white" if abs(value - 0.5) > 0.3 else "black"
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    out.figure.colorbar(image, ax=ax, label="P(row > column)", fraction=0.05, pad=0.03)
    return out


def _curves(
    out: Drawn,
    panels: Measures,
    labels: Sequence[str],
    statistic: str,
    x_of: Callable[[Measured], NDArray | None],
    published: pd.DataFrame | None = None,
) -> Drawn:
    look, entries = styles(labels), {}
    shared: dict[str, Artist] = {}
    figure, axes = grid(len(panels))
    for ax, (panel, measured) in zip(axes, panels, strict=True):
        for each in measured:
            x = x_of(each)
            if x is None:
                continue
            if not len(x):
                out.notes.append(
                    f"{shorten(panel.benchmark)}: the seeds of {each.label} have no evaluation in common, so no curve."
                )
                continue
            entries[each.label] = interval_line(ax, x, each.curve, look[each.label])
        if published is None:
            ax.set_xlabel("hours of training")
            ax.xaxis.set_major_locator(MaxNLocator(5))
            ax.grid(alpha=0.25)
        else:
            _published_curves(ax, panel, published, shared)
            frames_axis(ax)
        ax.set(ylim=(-0.02, 1.02), title=plain(shorten(panel.benchmark, 40)))
    axes[0].set_ylabel(scale(statistic))
    legend(figure, {label: entries[label] for label in labels if label in entries} | shared)
    out.figure = figure
    return out


def _mean_hours(each: Measured) -> NDArray | None:
    known = [h for run in each.group.runs if (h := hours(run, each.frames)) is not None]
    return np.mean(known, 0) if known else None


def _interval(ax: Axes, value: Estimate, at: float, colour: str) -> None:
    if not (np.isnan(value.low) or np.isnan(value.high)):
        ax.plot([value.low, value.high], [at, at], color=colour, linewidth=3, alpha=0.6, solid_capstyle="butt")
    ax.plot([value.value], [at], "o", color=colour, markersize=6)


def _finals(published: pd.DataFrame, panel: Panel) -> list[dict[str, Any]]:
    """For each published method and size of the benchmark the success at the frames nearest to those compared."""
    return nearest_rows(success_rows(published, panel), panel)


def _published_curves(ax: Axes, panel: Panel, published: pd.DataFrame, entries: dict[str, Artist]) -> None:
    rows = success_rows(published, panel)
    for _, curve in rows.groupby(["source", "method", "width", "horizon"], dropna=False, sort=False):
        curve = curve.sort_values("frames")
        if curve["frames"].nunique() < 2:
            continue
        label = name_of(curve.iloc[0].to_dict(), panel, curve=True)
        known = entries.get(label)
        look = (
            grey(len(entries))
            if not isinstance(known, Line2D)
            else {"color": known.get_color(), "linestyle": known.get_linestyle()}
        )
        (entries[label],) = ax.plot(curve["frames"], curve["value"], **look)
