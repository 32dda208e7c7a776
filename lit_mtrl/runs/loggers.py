"""The loggers of a run and of a sweep: ``metrics.csv``, and what the ``logger`` group names."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from lit_mtrl.config.instantiate import make
from lit_mtrl.config.resolve import as_written
from lit_mtrl.core.errors import require
from lit_mtrl.core.tables import flat
from lit_mtrl.core.text import shown
from lit_mtrl.runs.tags import RUN, git
from lit_mtrl.tracking.csv import CSVLogger

PARENTS = "LIT_MTRL_PARENT_RUNS"
"""Environment variable of a sweep's jobs: JSON, name of an MLflow experiment to the id of the sweep's run in it."""


def build_loggers(cfg: DictConfig, labels: Mapping[str, Any], checkpoint: Mapping[str, Any] | None) -> list[Any]:
    """`CSVLogger`, and the logger of the ``logger`` group if that has a class; see `build_logger`."""
    loggers: list[Any] = [CSVLogger(cfg.output_dir)]
    return [*loggers, build_logger(cfg, labels, checkpoint)] if "_target_" in cfg.logger else loggers


def build_logger(cfg: DictConfig, labels: Mapping[str, Any], checkpoint: Mapping[str, Any] | None) -> Any:
    """The logger of the ``logger`` group, below the sweep's run if this run belongs to one.

    `ConfigError` if the environment names sweeps in another form than a sweep does.

    cfg: the run's configuration.
    labels: ``"tags"``: what the run is found by; ``"parameters"``: counts by part.
    checkpoint: what the run is continued from: it goes on in the checkpoint's own logged run; None for a new one.
    """
    saved = checkpoint["lit_mtrl"] if checkpoint else {}
    parent = sweep_runs().get(cfg.experiment_name)
    return make(
        cfg.logger,
        Logger,
        "logger",
        skip=("log_frames",),
        tags=labels["tags"] | _source() | ({"mlflow.parentRunId": parent} if parent else {}),
        params=_comparable(cfg) | {f"parameters.{name}": count for name, count in labels["parameters"].items()},
        run_id=saved.get("run_id"),
        done=saved.get("frames", 0),
        replaces=None if checkpoint else run_before(Path(cfg.output_dir)),
        **_names(cfg),
    )


def build_parent(cfg: DictConfig, command: str, key: str) -> Any:
    """The logger of a sweep's own run; ``key`` identifies the sweep, so that the same one continues it."""
    names = _names(cfg) | dict(run_name=f"sweep {key[:6]}", folder=Path(cfg.output_dir).parent / "sweeps" / key[:6])
    tags = {"sweep": command, "sweep_parent": key, "mlflow.note.content": f"`fit --multirun {command}`", **_source()}
    return make(
        cfg.logger, Logger, "logger", skip=("log_frames",), tags=tags, params={}, unique="sweep_parent", **names
    )


def sweep_runs() -> dict[str, str]:
    """By the name of an MLflow experiment, the id of the run of the sweep that this process is a job of."""
    text = os.environ.get(PARENTS) or "{}"
    try:
        runs = json.loads(text)
    except (ValueError, RecursionError):
        runs = None
    fits = isinstance(runs, dict) and all(isinstance(run, str) for run in runs.values())
    require(fits, f"{PARENTS}={shown(text)}: is not what a sweep sets for its jobs; unset it")
    return runs or {}


def run_before(folder: Path) -> str | None:
    """The MLflow run of a process that died here before its first checkpoint."""
    try:
        run_id = json.loads((folder / RUN).read_text())["run_id"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return run_id if isinstance(run_id, str) else None


def _names(cfg: DictConfig) -> dict[str, Any]:
    return dict(experiment=cfg.experiment_name, run_name=cfg.run_name, folder=cfg.output_dir)


def _comparable(cfg: DictConfig) -> dict[str, Any]:
    """The configuration by dotted key, without names, paths and classes: they tell nothing about the method."""
    left_out = ("_target_", "output_dir", "run_name", "experiment_name")
    return {key: value for key, value in flat(as_written(cfg)).items() if not key.endswith(left_out)}


def _source() -> dict[str, str]:
    """What MLflow's pages show as a run's source."""
    tags = {"name": shlex.join(["lit_mtrl", *sys.argv[1:]]), "type": "LOCAL", "git.commit": git("rev-parse", "HEAD")}
    return {f"mlflow.source.{key}": value for key, value in tags.items() if value}
