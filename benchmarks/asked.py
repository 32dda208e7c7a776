"""What is asked of a GPU, and what `benchmarks.gpu` measured."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lit_mtrl.envs.benchmarks import MT10

PUBLISHED = {1024: {1_000_000: 0.41, 2_000_000: 0.64}, 256: {1_000_000: 0.28, 2_000_000: 0.50}}
"""Width, frames and success: read from figure 4a of McLean et al. (2025)."""
CLOSE = "within 0.1 of"


class Size(NamedTuple):
    """What differs between the checks and their trial on the CPU."""

    name: str
    """Of the folder in ``outputs`` and of the experiment."""
    frames: int
    epoch_frames: int
    every_epochs: int
    """Epochs from one evaluation to the next."""
    widths: tuple[int, ...]
    width: int
    """Of the network whose speed is measured, ``seconds`` for each figure."""
    seconds: float
    overrides: tuple[str, ...]
    pytest: tuple[str, ...]
    environment: dict[str, str]


FULL = Size("gpu", 2_000_000, 200_000, 5, (1024, 256), 400, 2.0, (), ("-n", "8", "--dist", "worksteal"), {})
SMALL = Size(
    name="gpu_small",
    frames=20_000,
    epoch_frames=5_000,
    every_epochs=2,
    widths=(32, 16),
    width=32,
    seconds=0.2,
    overrides=("replay.per_task=8", "replay.capacity=2_000", "eval.episodes=1", "collector.random_steps=200"),
    pytest=("--collect-only",),
    # Compiling takes a minute per batch, however small the network is; without Dynamo the mode is eager.
    environment={"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TORCHDYNAMO_DISABLE": "1"},
)


class Check(NamedTuple):
    """A figure, None if it was not measured, and what is asked of it: to be at most, at least or within 0.1 of
    ``asked``.
    """

    name: str
    relation: str
    asked: float | None
    measured: float | None
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """None where nothing is asked, or nothing measured."""
        if self.asked is None or self.measured is None:
            return None
        if self.relation == CLOSE:
            return round(abs(self.measured - self.asked), 6) <= 0.1
        return self.measured <= self.asked if self.relation == "at most" else self.measured >= self.asked

    def row(self, small: bool) -> dict[str, str]:
        """For the table."""
        asked = "-" if self.asked is None else f"{self.relation} {self.asked:,g} {self.unit}".strip()
        value = 0.0 if self.measured is None else self.measured
        measured = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
        met = {True: "yes", False: "no", None: "not measured" if self.measured is None else "not asked"}[self.met]
        if small and self.measured is not None:
            met = "not judged (small)"
        measured = "-" if self.measured is None else f"{measured} {self.unit}".strip()
        return {"check": self.name, "asked": asked, "measured": measured, "met": met}


def checks(parts: Mapping[str, dict[str, Any]], widths: Sequence[int], size: Size) -> list[Check]:
    """Every figure that something is asked of, measured or not, and those of all runs.

    ``parts``: of ``gpu.json``. ``widths``: of the runs, which may be yet to come.
    """
    tests, update, end_to_end = (parts.get(name, {}).get("result") for name in ("tests", "update", "end_to_end"))
    recorded = not any("mode=cudagraph" in line for line in parts.get("update", {}).get("eager", ()))
    ms = next((row["update_ms"] for row in update or () if row["mode"] == "cudagraph" and recorded), None)
    rate = next((row["frames_per_second"] for row in end_to_end or () if row["overlap"]), None)
    found = [
        Check("tests that need a GPU", "at most", 0, tests, "failed"),
        Check(f"update, width {size.width}, cudagraph", "at most", 0.5, ms, "ms"),
        Check(f"end to end, width {size.width}", "at least", 15_000, rate, "frames/s"),
    ]
    runs = [entry for entry in parts.values() if "success" in entry]
    for each in sorted({*widths, *(run["width"] for run in runs)}, reverse=True):
        found += _training(each, [run for run in runs if run["width"] == each])
    return found


def _training(width: int, runs: Sequence[dict[str, Any]]) -> list[Check]:
    published = PUBLISHED.get(width, {})
    found = []
    for frames in sorted({*published, *(int(f) for run in runs for f in run["success"])}):
        values = [run["success"][str(frames)] for run in runs if str(frames) in run["success"]]
        seeds = f", {len(values)} seeds" if len(values) > 1 else ""
        name = f"success, width {width}, {frames:,} frames{seeds}"
        found.append(Check(name, CLOSE, published.get(frames), statistics.mean(values) if values else None))
    if rates := [run["frames_per_second"] for run in runs if run.get("frames_per_second")]:
        found.append(Check(f"training, width {width}", "", None, statistics.median(rates), "frames/s"))
    return found


def success(run: Path) -> dict[str, float]:
    """Frames and mean success over tasks of every evaluation in ``run``'s ``eval.csv``."""
    rows: dict[str, list[float]] = {}
    for row in _rows(run / "eval.csv"):
        rows.setdefault(row["frames"], []).append(float(row["success"]))
    return {frames: round(statistics.mean(each), 4) for frames, each in rows.items() if len(each) == len(MT10)}


def speed(run: Path) -> float | None:
    """Median of ``metrics.csv``'s frames per second, once there are updates; without evaluations and checkpoints."""
    rows = [row for row in _rows(run / "metrics.csv") if float(row["speed/updates_per_second"] or 0) > 0]
    return statistics.median(float(row["speed/frames_per_second"]) for row in rows) if rows else None


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table that another process may be writing: a last one that is not whole is left out."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]
