"""Writes folders as ``fit`` leaves them behind, with numbers that a test chooses."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lit_mtrl.envs.benchmarks import BENCHMARKS

CONFIG: dict[str, Any] = {
    "benchmark": {"name": "mt10", "tasks": "mt10"},
    "env": {"_target_": "lit_mtrl.envs.metaworld.MetaWorld", "horizon": 500, "goals": 50, "rewards": "v2"},
    "algo": {"_target_": "lit_mtrl.algos.sac.SAC", "name": "sac", "adam_eps": 1.0e-05, "mask_out": None},
    "network": {"_target_": "lit_mtrl.nets.multi_head.MultiHead", "name": "multi_head", "width": 64, "skip": False},
    "weighting": {"critic": {"name": "mean"}, "actor": {"name": "mean"}},
    "collector": {"steps": 10, "workers": 2},
    "eval": {"episodes": 50, "protocol": "every_goal"},
    "critic": {"size": 2, "network": {}},
    "actor": {"network": {}},
    "seed": 0,
    "frames": 2000,
    "epoch_frames": 1000,
    "experiment_name": "mt10",
}


def write_run(
    folder: Path,
    success: Sequence[Sequence[float]],
    at: Sequence[int] = (1000, 2000),
    tasks: Sequence[str] = BENCHMARKS["mt10"][:3],
    seconds: float | None = 3600.0,
    plasticity: bool = False,
    extra: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """A run with ``success [E][T]`` at frames ``at``; keys of ``config`` have ``__`` for dots. ``seconds``: of training
    until ``at[-1]``.
    """
    folder.mkdir(parents=True)
    settings = copy.deepcopy(CONFIG)
    for key, value in {"run_name": folder.name, "output_dir": str(folder), **config}.items():
        *path, last = key.split("__")
        place = settings
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    rows = [
        {"frames": frame, "task": task, "success": value, "return": 100 * value, "length": 500.0}
        for frame, values in zip(at, success, strict=True)
        for task, value in zip(tasks, values, strict=True)
    ]
    write_csv(folder / "eval.csv", rows)
    table = []
    for frame in range(at[-1] // 4, at[-1] + 1, at[-1] // 4):
        norms = {f"norm/{net}/{what}": 1 + frame / 1000 for net in ("actor", "critic") for what in ("params", "grad")}
        time = {} if seconds is None else {"time/total": seconds * frame / at[-1]}
        table.append({"frames": frame, "loss/critic": 1.0, **time, **norms})
    write_csv(folder / "metrics.csv", table)
    if plasticity:
        width = settings["network"]["width"]
        write_csv(folder / "plasticity.csv", [row for frame in at for row in plasticity_rows(frame, width)])
    if extra is not None:
        (folder / "run.json").write_text(json.dumps(extra))
    return folder


def plasticity_rows(frames: int, width: int) -> list[dict[str, Any]]:
    """Of layer ``total``, and one of another layer that must not be read."""
    rows = []
    for i, net in enumerate(("actor", "critic_0", "critic_1")):
        numbers = {
            "dormant_0.1": width / 1000 + i / 100,
            "dormant_0.025": 0.0,
            "srank": 50 - i,
            "effective_rank": 30.5 + i,
        }
        changes = {"change_start": frames / 1000, "change_last": 0.1}
        rows.append(
            {
                "frames": frames,
                "net": net,
                "layer": "body.0",
                **dict.fromkeys(numbers, 0.99),
                **dict.fromkeys(changes, ""),
            }
        )
        rows.append({"frames": frames, "net": net, "layer": "total", **numbers, **changes})
    return rows


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """All rows have the keys of the first."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
