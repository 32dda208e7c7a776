"""Recorded runs, read from the folders that ``fit`` leaves behind.

A table's last line without a line end was cut short when the run was killed, and is dropped; so is a last evaluation
that lacks tasks.
"""

# pandas annotates whatever is selected from a table as table, column or array at once.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lit_mtrl.config.upgrade import REGROUPED
from lit_mtrl.core.errors import require
from lit_mtrl.core.tables import flat
from lit_mtrl.core.text import one_line
from lit_mtrl.envs.benchmarks import BENCHMARKS
from lit_mtrl.report.files import group, read_mapping, read_table, whole

FILES = ("config.yaml", "run.json", "eval.csv", "metrics.csv", "plasticity.csv")
"""What of a run's folder is read."""
TIME = "time/total"
NORMS = tuple(f"norm/{net}/{what}" for net in ("actor", "critic") for what in ("params", "grad"))
METRICS = (TIME, *NORMS)
"""The columns of ``metrics.csv`` that are read."""
PLASTICITY = ("dormant_0.1", "srank", "effective_rank", "change_start", "change_last")
WATCHING = ("progress", "checkpoint", "pictures", "gradients", "plasticity")
"""Callbacks that leave training as it is."""
PRESENT = {f"{before}.{key}": f"{now}.{key}" for before, key, now in REGROUPED}
"""Keys of older configurations by what they are called now, or old and new runs would not be repetitions."""
GROUPS = ("algo", "network", "env", "benchmark", "weighting", "callbacks")
"""Groups of the configuration that labels are made of."""
MOST_TASKS = 500
FINISHED, UNFINISHED = "finished", "unfinished"


@dataclass(eq=False)
class Recorded:
    """One run: E evaluations of T tasks, what it was configured with, and how it ended.

    ``labels``: the configuration by dotted key, the tags, ``tasks``, and ``parameters.actor`` and ``.critic`` where
    known. ``metrics``: for each of `METRICS` that was recorded its frames and values. ``plasticity``: the rows of layer
    ``total``, or None. ``budget``: frames it was to be trained for, 0 if unknown. ``time``: seconds since 1970 at which
    it began or was last written to, to tell repetitions apart. ``link``: its page in the MLflow UI.
    """

    name: str
    source: str
    status: str
    labels: dict[str, Any]
    config: dict[str, Any]
    frames: NDArray[np.int64]  # [E]
    tasks: tuple[str, ...]
    success: NDArray[np.float64]  # [E, T]
    returns: NDArray[np.float64]  # [E, T]
    metrics: dict[str, tuple[NDArray, NDArray]] = field(default_factory=dict)
    plasticity: pd.DataFrame | None = None
    budget: int = 0
    time: float = 0.0
    link: str | None = None

    @property
    def seed(self) -> str:
        """As text, empty if unknown."""
        return text(self.labels.get("seed", ""))

    @property
    def score(self) -> str:
        """What it is judged by: ``success``, or ``return``."""
        return "return" if self.labels.get("score") == "return" else "success"

    @property
    def scores(self) -> NDArray[np.float64]:
        """``[E, T]``, `success` or `returns`."""
        return self.returns if self.score == "return" else self.success

    @property
    def last(self) -> int:
        """Frames at the last evaluation, 0 if there is none."""
        return int(self.frames[-1]) if len(self.frames) else 0

    def until(self, frames: int) -> int:
        """Index of the last evaluation at or before ``frames``."""
        return int(np.searchsorted(self.frames, frames, side="right")) - 1


def read_folders(paths: Iterable[str | Path]) -> list[Recorded]:
    """The runs at and below ``paths``, in the order of their paths; `ConfigError` if a path holds none."""
    found: dict[Path, Recorded] = {}
    for path in map(Path, paths):
        require(path.is_dir(), f"{path}: no such folder; give the folder of a run, or one above runs' folders")
        folders = sorted(_run_folders(path))
        require(
            bool(folders), f"{path}: holds no run (config.yaml beside eval.csv); give a folder that fit has written"
        )
        found |= {folder.resolve(): read_folder(folder) for folder in folders if folder.resolve() not in found}
    return list(found.values())


def read_folder(path: str | Path) -> Recorded:
    """The run of one folder; `ConfigError` names a file that cannot be read, or that holds what no run writes."""
    folder = Path(path)
    config = read_mapping(folder / "config.yaml")
    extra = read_mapping(folder / "run.json") if (folder / "run.json").exists() else {}
    frames, tasks, success, returns = _evaluations(folder / "eval.csv")
    table = folder / "eval.csv" if len(frames) else folder / "config.yaml"
    run = Recorded(
        name=text(config.get("run_name") or one_line(folder.name)),
        source=one_line(str(path)),
        status=UNFINISHED,
        labels=labels_of(config, extra, tasks, folder),
        config=config,
        frames=frames,
        tasks=tasks,
        success=success,
        returns=returns,
        metrics=_metrics(folder / "metrics.csv"),
        plasticity=_plasticity(folder / "plasticity.csv"),
        budget=whole(config, "frames", folder / "config.yaml"),
        time=table.stat().st_mtime,
    )
    if len(frames) and run.last >= run.budget:
        run.status = FINISHED
    return run


def text(value: Any) -> str:
    """A label as it is written on the command line: ``null``, ``true``, ``0.5``."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def labels_of(config: dict[str, Any], extra: dict[str, Any], tasks: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """What a run can be grouped and filtered by; tags of ``extra`` (``run.json``) go before what the configuration
    leads to.

    Raises `ConfigError`, naming the file in ``folder``, for groups, tags and counts of other types.
    """
    parts = {key: group(config, key, folder / "config.yaml") for key in GROUPS}
    own = {PRESENT.get(key, key): value for key, value in flat(config).items() if not key.endswith("_target_")}
    labels = {key: str(value) if isinstance(value, list | dict) else value for key, value in own.items()}
    algo, network, env = (parts[key] for key in ("algo", "network", "env"))
    backend = str(env.get("_target_", "")).rsplit(".", 1)[-1].lower()
    labels["method"] = f"{algo.get('name', '?')}-{network.get('name', '?')}"
    labels["weighting"] = _weighting(parts["weighting"])
    labels["callbacks"] = ", ".join(sorted(set(parts["callbacks"]) - set(WATCHING))) or "none"
    # Where ``run.json`` says nothing of the score.
    labels["backend"], labels["score"] = backend, "return" if backend == "gymnasium" else "success"
    labels |= {key: text(env[key]) for key in ("rewards", "horizon", "goals") if key in env}
    labels["benchmark"] = text(parts["benchmark"].get("name", "?"))
    if backend == "metaworld" and tasks:
        names = {tuple(value): key for key, value in BENCHMARKS.items()}
        labels["benchmark"] = names.get(tasks, f"mt{len(tasks)}-{'+'.join(tasks)}")
    tags = group(extra, "tags", folder / "run.json")
    labels |= {key: text(value) for key, value in tags.items() if key not in own and key != "seed"}
    labels["tasks"] = ", ".join(tasks)
    counts = group(extra, "parameters", folder / "run.json")
    known = {net: whole(counts, net, folder / "run.json") for net in ("actor", "critic")}
    return labels | {f"parameters.{net}": count for net, count in known.items() if count}


def positive(run: Recorded, key: str) -> float | None:
    """A label that is a number above 0, None if it is none."""
    value = run.labels.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _run_folders(path: Path) -> Iterable[Path]:
    for folder, below, files in os.walk(path):
        if "config.yaml" in files and {"eval.csv", "metrics.csv"} & set(files):
            below.clear()
            yield Path(folder)


def _weighting(parts: dict[str, Any]) -> str:
    if "name" in parts:  # a configuration of before there was one per objective
        return str(parts["name"])
    names = {key: str(part.get("name")) for key, part in parts.items() if isinstance(part, dict)}
    kinds = sorted(set(names.values())) or ["mean"]
    return kinds[0] if len(kinds) == 1 else " ".join(f"{key}={name}" for key, name in names.items())


def _evaluations(path: Path) -> tuple[NDArray, tuple[str, ...], NDArray, NDArray]:
    table = read_table(path, ["task"], ["success", "return"])
    if table is None:
        return np.empty(0, np.int64), (), np.empty((0, 0)), np.empty((0, 0))
    tasks = tuple(dict.fromkeys(table["task"]))
    require(len(tasks) <= MOST_TASKS, f"{path}: names more than {MOST_TASKS} tasks; leave this run out")
    inside = table["success"].isna() | table["success"].between(0, 1)
    require(bool(inside.all()), f"{path}: a success is not between 0 and 1; repair it or leave this run out")
    table = table.drop_duplicates(["frames", "task"], keep="last")
    wide = table.pivot(index="frames", columns="task", values=["success", "return"])
    complete = wide.dropna()
    message = f"{path}: evaluations lack tasks, or their success; repair it or leave this run out"
    require(len(wide) - len(complete) <= 1 and wide.index[: len(complete)].equals(complete.index), message)
    success, returns = (complete[key][list(tasks)].to_numpy(np.float64) for key in ("success", "return"))
    return complete.index.to_numpy(np.int64), tasks, success, returns


def _metrics(path: Path) -> dict[str, tuple[NDArray, NDArray]]:
    table = read_table(path, [], [], METRICS)
    if table is None:
        return {}
    table = table.replace([np.inf, -np.inf], np.nan)
    found = {name: table[["frames", name]].dropna() for name in METRICS if name in table}
    return {k: (v["frames"].to_numpy(np.int64), v[k].to_numpy(np.float64)) for k, v in found.items() if len(v)}


def _plasticity(path: Path) -> pd.DataFrame | None:
    table = read_table(path, ["net", "layer"], [], PLASTICITY)
    if table is None:
        return None
    table = table.replace([np.inf, -np.inf], np.nan)
    return table[table["layer"] == "total"].drop(columns="layer").drop_duplicates(["frames", "net"], keep="last")
