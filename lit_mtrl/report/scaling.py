"""Figures over the size of networks: success over parameters, dormant neurons over width."""

# pandas annotates whatever is selected from a table as table, column or array at once.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from lit_mtrl.evaluation.stats import Estimate, estimate
from lit_mtrl.report.figures import STATISTIC, Measures, papers_bars, scale
from lit_mtrl.report.groups import Group, Panel, named, natural, shorten
from lit_mtrl.report.published import DORMANT, name_of, nearest_rows
from lit_mtrl.report.runs import Recorded, positive, text
from lit_mtrl.report.style import WIDTH, Drawn, grey, legend, log_ticks, new_figure, styles

SIZES = ("network.width", "actor.network.width", "critic.network.width", "network.depth", "network.match")
"""Keys that make a point of a line, not a line."""
Points = list[tuple[float, Estimate]]


def success_by_parameters(panels: Measures, statistic: str, published: pd.DataFrame) -> Drawn:
    """Final success over the actor's parameters, a line per benchmark and method."""
    caption = f"Success at the frames compared ({STATISTIC[statistic]}, 95 % intervals) over the actor's parameters."
    out = Drawn("success_by_parameters", "Success by parameters", caption + papers_bars(published))
    everything = [each for _, measured in panels for each in measured]
    lacking = sum(len(each.group.runs) for each in everything if "actor" not in each.parameters)
    if lacking:
        out.notes.append(f"Parameter counts of {lacking} runs are not known.")
    lines: dict[str, Points] = {}
    for panel, measured in panels:
        for each in measured:
            if "actor" in each.parameters:
                name = series(panel, each.group, len(panels) > 1)
                lines.setdefault(name, []).append((each.parameters["actor"], each.end))
    others = _published(panels, published, "success", "parameters")
    if len({x for points in lines.values() for x, _ in points}) < 2:
        out.notes.append("All groups have actors of equal size, or of unknown size.")
        return out
    _draw(out, lines, others, "parameters of the actor", scale(statistic), 1.0)
    return out


def dormant_by_width(panels: Measures, published: pd.DataFrame) -> Drawn:
    """Final share of dormant neurons of the first critic over its width, a line per benchmark."""
    caption = (
        "Dormant neurons (τ = 0.1) of the first critic in percent, at the last measurement by the frames compared,"
        " mean over seeds with 95 % intervals; one line per number of tasks."
    )
    out = Drawn("dormant_by_width", "Dormant neurons by width", caption)
    runs = [run for _, measured in panels for each in measured for run in each.group.runs]
    shares = {
        id(run): _dormant(run.plasticity, panel.frames) for panel, m in panels for each in m for run in each.group.runs
    }
    lacking = sum(value is None for value in shares.values())
    if lacking:
        out.notes.append(f"{lacking} of {len(runs)} runs did not record plasticity of critic_0.")
    if lacking == len(runs):
        return out
    x_of, label = _width, "width of the critic"
    if len({_width(run) for run in runs}) < 2:
        x_of, label = _critic_parameters, "parameters of the critics"
    lines: dict[str, Points] = {}
    for panel, measured in panels:
        for each in measured:
            x, known = x_of(each.group.runs[0]), [v for run in each.group.runs if (v := shares[id(run)]) is not None]
            if known and x:
                name = f"{len(panel.tasks)} tasks, {series(panel, each.group, True)}"
                lines.setdefault(name, []).append((x, estimate(100 * np.array(known)[:, None], "mean")))
    if len({x for points in lines.values() for x, _ in points}) < 2:
        out.notes.append("All groups' critics are of equal size, or of unknown size.")
        return out
    others = _published(panels, published, DORMANT, "width") if x_of is _width else {}
    _draw(out, lines, others, label, "dormant neurons (%)", None)
    return out


def series(panel: Panel, group: Group, with_benchmark: bool) -> str:
    """What a line is called: the group without its sizes, after the benchmark if ``with_benchmark``."""
    keys = [key for key in group.values if key not in SIZES and key not in ("benchmark", "tasks", "method")]
    method = text(group.runs[0].labels.get("method"))
    own = ", ".join([method, *(named(key, group.values[key]) for key in keys)])
    return f"{shorten(panel.benchmark, 40)}, {own}" if with_benchmark else own


def _draw(out: Drawn, lines: dict[str, Points], others: dict[str, Points], x: str, y: str, top: float | None) -> None:
    figure = new_figure(WIDTH * 0.75, 4.0)
    ax, entries = figure.subplots(), {}
    look = styles(sorted(lines, key=natural))
    for name in look:
        entries[name] = _points(ax, lines[name], {**look[name], "marker": "o"})
    for i, (name, points) in enumerate(others.items()):
        entries[name] = _points(ax, points, {**grey(i), "marker": "x"})
    log_ticks(ax, [at for points in (*lines.values(), *others.values()) for at, _ in points])
    ax.set(xlabel=x, ylabel=y)
    ax.set_ylim(-0.02 if top else 0, top and top + 0.02)
    legend(figure, entries)
    out.figure = figure


def _points(ax: Axes, points: Points, look: dict) -> Artist:
    points = sorted(points, key=lambda point: point[0])
    x = [at for at, _ in points]
    value, low, high = (np.array([float(getattr(e, name)) for _, e in points]) for name in ("value", "low", "high"))
    has = ~np.isnan(low) & ~np.isnan(high)
    ax.vlines(np.array(x)[has], low[has], high[has], color=look["color"], linewidth=2, alpha=0.5)
    (line,) = ax.plot(x, value, markersize=5, **{"linewidth": 1.3, **look})
    return line


def _published(panels: Measures, table: pd.DataFrame, metric: str, x: str) -> dict[str, Points]:
    """Of every method and protocol the values at the frames nearest to those compared."""
    lines: dict[str, Points] = {}
    for panel, _ in panels:
        rows = table[(table["metric"] == metric) & (table["benchmark"] == panel.benchmark) & table[x].notna()]
        for row in nearest_rows(rows, panel):
            name = name_of(row, panel, f"{row['method']}, {panel.benchmark}")
            lines.setdefault(name, []).append((row[x], Estimate(row["value"], row["low"], row["high"])))
    return lines


def _dormant(table: pd.DataFrame | None, frames: int) -> float | None:
    if table is None or "dormant_0.1" not in table:
        return None
    values = table[(table["net"] == "critic_0") & (table["frames"] <= frames)]["dormant_0.1"].dropna()
    return float(values.iloc[-1]) if len(values) else None


def _width(run: Recorded) -> float | None:
    return positive(run, "critic.network.width") or positive(run, "network.width")


def _critic_parameters(run: Recorded) -> float | None:
    return positive(run, "parameters.critic")
