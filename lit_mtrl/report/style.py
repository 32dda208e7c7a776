"""What the figures look like, and how they are written: the same bytes for the same numbers."""

from __future__ import annotations

import logging
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from lit_mtrl.evaluation.stats import Estimate

RC: dict[Any, Any] = {
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "svg.fonttype": "none",
    "svg.hashsalt": "lit_mtrl",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
COLOURS = (
    "#1f77b4 #d62728 #2ca02c #ff7f0e #9467bd #8c564b #e377c2 #17becf #bcbd22 #7f7f7f"
    " #0b3c5d #7a0019 #0b5d1e #a35200 #4b2a7b #3e2723 #a1066f #006d77 #6b6b00 #2b2b2b"
).split()
LINES = ("-", "--", "-.", ":")
GREYS = ("0.2", "0.4", "0.55")
WIDTH = 9.5
"""Inches of most figures."""
DPI = 110

# Names of fonts that only some machines have are no news.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


@dataclass
class Drawn:
    """A figure (None if there was nothing to draw), what it shows, and what must be said about it."""

    name: str
    title: str
    caption: str
    figure: Figure | None = None
    notes: list[str] = field(default_factory=list)


def styles(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and line of each label: 20 colours, the darker ten dashed; then the same with other lines."""
    dashes = {label: LINES[(i // 10) % 4] for i, label in enumerate(labels)}
    return {label: {"color": COLOURS[i % 20], "linestyle": dashes[label]} for i, label in enumerate(labels)}


def grey(index: int) -> dict[str, Any]:
    """The style of a published line."""
    return {"color": GREYS[index % 3], "linestyle": ("--", ":", "-.")[(index // 3) % 3], "linewidth": 1.2}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that belongs to no window."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def grid(count: int, height: float = 3.3) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` axes, at most three abreast."""
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = new_figure(WIDTH if columns > 1 else 7.5, height * rows + 0.2)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes[:count]


def interval_line(ax: Axes, x: NDArray, values: Estimate, look: dict[str, Any]) -> Artist:
    """A line with its interval; a point, where it is one."""
    marker = "o" if len(x) == 1 else None
    (line,) = ax.plot(x, values.value, linewidth=1.6, marker=marker, markersize=4, **look)
    if not np.isnan(values.low).any():
        ax.fill_between(x, values.low, values.high, color=look["color"], alpha=0.15, linewidth=0)
    return line


def legend(figure: Figure, entries: dict[str, Artist]) -> None:
    """Below the axes, in as many columns as fit; the figure grows by its height."""
    if not entries:
        return
    width, height = figure.get_size_inches()
    wrapped = ["\n".join(textwrap.wrap(plain(label), int(width * 10), break_long_words=True)) for label in entries]
    longest = max(len(line) for label in wrapped for line in label.splitlines())
    columns = max(1, min(len(wrapped), 4, int(width * 12 / (longest + 8))))
    lines = sum(label.count("\n") + 1 for label in wrapped) / columns
    figure.set_size_inches(width, height + 0.25 + 0.18 * (int(lines) + 1))
    figure.legend(entries.values(), wrapped, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def frames_axis(ax: Axes) -> None:
    """The x-axis of everything over frames."""
    ax.set_xlabel("frames (environment steps, all tasks)")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(alpha=0.25)


def log_ticks(ax: Axes, values: Sequence[float]) -> None:
    """A logarithmic x-axis with a tick at each value that has room."""
    ax.set_xscale("log")
    ticks: list[float] = []
    spread = max(values) / min(values)
    for value in sorted(set(values)):
        if not ticks or value / ticks[-1] > max(1.02, spread**0.09):
            ticks.append(value)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    ax.grid(alpha=0.25)


def compact(value: float) -> str:
    """``512``, ``1.3M``."""
    return f"{value:.0f}" if value < 10_000 else EngFormatter(sep="")(float(f"{value:.3g}"))


def plain(text: str) -> str:
    """A name as Matplotlib shows it unchanged: no mathematics, and no underscore in front, which would hide it."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def wrap(text: str, width: int = 44) -> str:
    """A name over as many lines as it needs."""
    return "\n".join(textwrap.wrap(plain(text), width, break_long_words=True)) or " "


def save(figure: Figure, folder: Path, name: str) -> None:
    """``<name>.png`` and ``<name>.svg``, without dates."""
    with matplotlib.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # names in any script; the page has them right
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
        figure.set_layout_engine("none")  # laid out already, which takes most of the time
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
