"""Draws the evaluation curve of one or more runs: ``python results/plot.py RUN [RUN ...] --out curve.png``."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
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


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("curve.png"))
    parser.add_argument("--title", default="")
    args = parser.parse_args()
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for run in args.runs:
        frames, success = curve(run)
        for task, values in success.items() if len(args.runs) == 1 else []:
            axes.plot(frames, values, lw=1, alpha=0.6, label=task)
        mean = [sum(v) / len(v) for v in zip(*success.values(), strict=True)]
        axes.plot(
            frames, mean, lw=2.5, marker="o", color="black" if len(args.runs) == 1 else None, label=f"mean, {run.name}"
        )
    axes.set(
        xlabel="frames (environment steps, all tasks)",
        ylabel="evaluation success",
        ylim=(-0.02, 1.02),
        title=args.title,
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(args.out, dpi=120)


if __name__ == "__main__":
    main()
