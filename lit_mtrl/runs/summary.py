"""A sweep in MLflow: a run of its own, above those of its jobs, with a table of how they ended."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lit_mtrl.config.instantiate import find_class
from lit_mtrl.core.tables import safe_cell
from lit_mtrl.envs.base import Suite
from lit_mtrl.runs.jobs import name_of
from lit_mtrl.runs.resume import frames_done


def open_parents(cfgs: Sequence[DictConfig], command: str) -> list[Any]:
    """Store, experiments and one parent run in each, made once before jobs start; those of the same sweep before, if
    there are.
    """
    parents = []
    for name in dict.fromkeys(str(cfg.experiment_name) for cfg in cfgs):
        cfg = next(cfg for cfg in cfgs if cfg.experiment_name == name)
        if "_target_" not in cfg.logger:
            continue
        from lit_mtrl.runs.loggers import build_parent

        parent = build_parent(cfg, command, hashlib.sha256(command.encode()).hexdigest()[:16])
        parent.connect()
        parents.append(parent)
    return parents


def log_summary(parent: Any, cfgs: Sequence[DictConfig]) -> None:
    """``sweep.csv``: every run with its frames and final score."""
    path = Path(parent.folder) / "sweep.csv"
    rows = [(name_of(cfg), frames_done(cfg), cfg.frames, final_score(cfg)) for cfg in cfgs]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        scores = "/".join(sorted({score_of(cfg) for cfg in cfgs}))
        csv.writer(file).writerows(
            [("run", "frames", "budget", scores), *([safe_cell(cell) for cell in row] for row in rows)]
        )
    parent.log_artifact(path)


def final_score(cfg: DictConfig) -> float | None:
    """Mean over tasks of the suite's score, success or return, at a run's last evaluation; None if it has none, or its
    ``eval.csv`` cannot be read.
    """
    path, score = Path(cfg.output_dir) / "eval.csv", score_of(cfg)
    try:
        with path.open(newline="") as file:
            rows = [(int(row["frames"]), float(row[score])) for row in csv.DictReader(file)]
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        return None
    last = [value for frames, value in rows if frames == rows[-1][0]]
    return sum(last) / len(last) if last else None


def score_of(cfg: DictConfig) -> str:
    """What runs of this configuration are judged by: ``success`` or ``return``, as the suite's class has it."""
    name = cfg.env["_target_"]
    return find_class(name, Suite, f"env._target_={name}").score  # pyright: ignore[reportAbstractUsage]
