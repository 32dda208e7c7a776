"""Draws the evaluation curve of one or more runs: ``python results/plot.py RUN [RUN ...] --out curve.png``."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter


def curve(run: Path) -> tuple[list[int], dict[str, list[float]]]:
    """Frames, and success per task at each of them, from a run's ``eval.csv``."""
    success: dict[str, list[float]] = {}
    frames: list[int] = []
    with (run / "eval.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if not frames or frames[-1] != int(row["frames"]):
                frames.append(int(row["frames"]))
            success.setdefault(row["task"], []).append(float(row["success"]))
    return frames, success


def column(run: Path, name: str) -> tuple[list[int], list[float]]:
    """Frames and values of a column of ``metrics.csv``, where it has any."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(name)]
    return [int(row["frames"]) for row in rows], [float(row[name]) for row in rows]


def draw_success(axes: Axes, runs: list[Path], title: str) -> None:
    """The mean over tasks of every run; of a single run every task, too."""
    for run in runs:
        frames, success = curve(run)
        for task, values in success.items() if len(runs) == 1 else []:
            axes.plot(frames, values, lw=1, alpha=0.6, label=task)
        mean = [sum(v) / len(v) for v in zip(*success.values(), strict=True)]
        axes.plot(
            frames, mean, lw=2.5, marker="o", color="black" if len(runs) == 1 else None, label=f"mean, {run.name}"
        )
    axes.set(ylabel="evaluation success", ylim=(-0.02, 1.02), title=title)


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--metrics", nargs="*", default=[], help="columns of metrics.csv, a panel each, beside success")
    parser.add_argument("--out", type=Path, default=Path("curve.png"))
    parser.add_argument("--title", default="")
    args = parser.parse_args()
    panels = 1 + len(args.metrics)
    size = (7, 4) if panels == 1 else (3 + 4 * panels, 4)
    figure = plt.figure(figsize=size, layout="constrained")
    first, *others = figure.subplots(1, panels, squeeze=False)[0]
    draw_success(first, args.runs, args.title)
    for axes, name in zip(others, args.metrics, strict=True):
        for run in args.runs:
            axes.plot(*column(run, name), lw=1.5, color=None if len(args.runs) > 1 else "black")
        axes.set(ylabel=name)
    for axes in (first, *others):
        axes.set(xlabel="frames (environment steps, all tasks)")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3)
    figure.legend(*first.get_legend_handles_labels(), fontsize=8, loc="outside center right")
    figure.savefig(args.out, dpi=120)


if __name__ == "__main__":
    main()
