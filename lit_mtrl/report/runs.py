"""Recorded runs, read from the folders that ``fit`` leaves behind.

A table's last line without a line end was cut short when the run was killed, and is dropped; so is a last evaluation that lacks tasks.
"""

# pandas annotates whatever is selected from a table as table, column or array at once.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from lit_mtrl.spec import BENCHMARKS, ConfigError, require
from lit_mtrl.tables import flat

FILES = ("config.yaml", "run.json", "eval.csv", "metrics.csv", "plasticity.csv")
"""What of a run's folder is read."""
TIME = "time/total"
NORMS = tuple(f"norm/{net}/{what}" for net in ("actor", "critic") for what in ("params", "grad"))
METRICS = (TIME, *NORMS)
"""The columns of ``metrics.csv`` that are read."""
PLASTICITY = ("dormant_0.1", "srank", "effective_rank", "change_start", "change_last")
WATCHING = ("progress", "checkpoint", "pictures", "gradients", "plasticity")
"""Callbacks that leave training as it is."""
FINISHED, UNFINISHED = "finished", "unfinished"


@dataclass(eq=False)
class Recorded:
    """One run: E evaluations of T tasks, what it was configured with, and how it ended.

    ``labels``: the configuration by dotted key, the tags, ``tasks``, and ``parameters.actor`` and ``.critic`` where known. ``metrics``: for
    each of `METRICS` that was recorded its frames and values. ``plasticity``: the rows of layer ``total``, or None. ``time``: seconds since
    1970 at which it began or was last written to, to tell repetitions apart. ``link``: its page in the MLflow UI.
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
    time: float = 0.0
    link: str | None = None

    @property
    def seed(self) -> str:
        """As text, empty if unknown."""
        return text(self.labels.get("seed", ""))

    @property
    def last(self) -> int:
        """Frames at the last evaluation, 0 if there is none."""
        return int(self.frames[-1]) if len(self.frames) else 0

    @property
    def budget(self) -> int:
        """Frames it was to be trained for, 0 if unknown."""
        return int(self.labels.get("frames") or 0)

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
    """The run of one folder; `ConfigError` names a file that cannot be read."""
    folder = Path(path)
    config = _mapping(folder / "config.yaml", yaml.safe_load)
    extra = _mapping(folder / "run.json", json.loads) if (folder / "run.json").exists() else {}
    frames, tasks, success, returns = _evaluations(folder / "eval.csv")
    table = folder / "eval.csv" if len(frames) else folder / "config.yaml"
    run = Recorded(
        name=str(config.get("run_name") or folder.name),
        source=str(path),
        status=UNFINISHED,
        labels=labels_of(config, extra, tasks),
        config=config,
        frames=frames,
        tasks=tasks,
        success=success,
        returns=returns,
        metrics=_metrics(folder / "metrics.csv"),
        plasticity=_plasticity(folder / "plasticity.csv"),
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


def labels_of(config: dict[str, Any], extra: dict[str, Any], tasks: tuple[str, ...]) -> dict[str, Any]:
    """What a run can be grouped and filtered by; tags of ``extra`` (``run.json``) go before what the configuration says."""
    own = {key: value for key, value in flat(config).items() if not key.endswith("_target_")}
    labels = {key: str(value) if isinstance(value, list | dict) else value for key, value in own.items()}
    algo, network, env = (config.get(key) or {} for key in ("algo", "network", "env"))
    backend = str(env.get("_target_", "")).rsplit(".", 1)[-1].lower()
    labels["method"] = f"{algo.get('name', '?')}-{network.get('name', '?')}"
    labels["weighting"] = _weighting(config.get("weighting") or {})
    labels["callbacks"] = ", ".join(sorted(set(config.get("callbacks") or {}) - set(WATCHING))) or "none"
    labels["backend"] = backend
    labels |= {key: text(env[key]) for key in ("rewards", "horizon", "goals") if key in env}
    labels["benchmark"] = text((config.get("benchmark") or {}).get("name", "?"))
    if backend == "metaworld" and tasks:
        names = {tuple(value): key for key, value in BENCHMARKS.items()}
        labels["benchmark"] = names.get(tasks, f"mt{len(tasks)}-{'+'.join(tasks)}")
    labels |= {str(key): value for key, value in (extra.get("tags") or {}).items() if key != "seed"}
    labels["tasks"] = ", ".join(tasks)
    counts = extra.get("parameters") or {}
    return labels | {f"parameters.{net}": int(counts[net]) for net in ("actor", "critic") if counts.get(net)}


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


def _mapping(path: Path, parse: Any) -> dict[str, Any]:
    try:
        value = parse(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({type(error).__name__}); restore it or leave this run out"
        ) from error
    require(isinstance(value, dict), f"{path}: holds no keys and values; restore it or leave this run out")
    return value


def _table(path: Path, **options: Any) -> pd.DataFrame | None:
    """A CSV file without a last line that was cut short; None if there is none, or no row."""
    if not path.exists():
        return None
    content = path.read_bytes()
    content = content[: content.rfind(b"\n") + 1]
    if content.count(b"\n") < 2:
        return None
    try:
        return pd.read_csv(io.BytesIO(content), **options)
    except ValueError as error:  # pandas' parser errors are such
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: cannot be read ({reason}); repair it or leave this run out") from error


def _evaluations(path: Path) -> tuple[NDArray, tuple[str, ...], NDArray, NDArray]:
    columns = {"frames": np.int64, "task": str, "success": np.float64, "return": np.float64}
    table = _table(path, usecols=list(columns), dtype=columns)
    if table is None:
        return np.empty(0, np.int64), (), np.empty((0, 0)), np.empty((0, 0))
    tasks = tuple(dict.fromkeys(table["task"]))
    table = table.drop_duplicates(["frames", "task"], keep="last")
    wide = table.pivot(index="frames", columns="task", values=["success", "return"])
    whole = wide.dropna()
    message = f"{path}: evaluations lack tasks, or their success; repair it or leave this run out"
    require(len(wide) - len(whole) <= 1 and wide.index[: len(whole)].equals(whole.index), message)
    success, returns = (whole[key][list(tasks)].to_numpy(np.float64) for key in ("success", "return"))
    return whole.index.to_numpy(np.int64), tasks, success, returns


def _metrics(path: Path) -> dict[str, tuple[NDArray, NDArray]]:
    table = _table(path, usecols=lambda name: name == "frames" or name in METRICS)
    if table is None:
        return {}
    found = {name: table[["frames", name]].dropna() for name in METRICS if name in table}
    return {k: (v["frames"].to_numpy(np.int64), v[k].to_numpy(np.float64)) for k, v in found.items() if len(v)}


def _plasticity(path: Path) -> pd.DataFrame | None:
    table = _table(path, usecols=lambda name: name in ("frames", "net", "layer", *PLASTICITY))
    if table is None:
        return None
    return table[table["layer"] == "total"].drop(columns="layer").drop_duplicates(["frames", "net"], keep="last")
