"""What a run is known by: tags, parameters and counts, in ``run.json`` and in MLflow."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from lit_mtrl import __version__
from lit_mtrl.algos.base import Algorithm
from lit_mtrl.config.instantiate import make
from lit_mtrl.config.resolve import as_written
from lit_mtrl.core.tables import flat
from lit_mtrl.envs.base import Suite
from lit_mtrl.training.engine import param_count

PARENTS = "LIT_MTRL_PARENT_RUNS"
"""Environment variable of a sweep's jobs: JSON, name of an MLflow experiment to the id of the sweep's run in it."""
RUN = "run.json"
"""In a run's folder: its tags, parameter counts and MLflow run."""


def tags(cfg: DictConfig, suite: Suite) -> dict[str, str]:
    """What a run is found and grouped by; ``group`` is the same for all its seeds."""
    return {
        "method": f"{cfg.algo.name}-{cfg.network.name}",
        "weighting": _weighting_tag(cfg),
        "seed": str(cfg.seed),
        "group": re.sub(rf"-s{cfg.seed}(?=-|$)", "", cfg.run_name),
        "lit_mtrl": __version__,
        "git_commit": git_commit(),
        **suite.tags(),
        "score": suite.score,
    }


def counts(algorithm: Algorithm) -> dict[str, int]:
    """Parameters of the actor and of all critics."""
    return {name: param_count(getattr(algorithm, name)) for name in ("actor", "critic")}


def build_logger(cfg: DictConfig, labels: dict[str, Any], checkpoint: dict[str, Any] | None) -> Any:
    """The logger of the ``logger`` group, on the checkpoint's run if there is one, below the sweep's run if it belongs
    to one.
    """
    parent = json.loads(os.environ.get(PARENTS, "{}")).get(cfg.experiment_name)
    return make(
        cfg.logger,
        Logger,
        "logger",
        skip=("log_frames",),
        tags=labels["tags"] | _source() | ({"mlflow.parentRunId": parent} if parent else {}),
        params=_comparable(cfg) | {f"parameters.{name}": count for name, count in labels["parameters"].items()},
        run_id=checkpoint["lit_mtrl"].get("run_id") if checkpoint else None,
        done=checkpoint["lit_mtrl"]["frames"] if checkpoint else 0,
        replaces=run_before(Path(cfg.output_dir)) if not checkpoint else None,
        **_names(cfg),
    )


def build_parent(cfg: DictConfig, command: str, key: str) -> Any:
    """The logger of a sweep's own run; ``key`` identifies the sweep, so that the same one continues it."""
    names = _names(cfg) | dict(run_name=f"sweep {key[:6]}", folder=Path(cfg.output_dir).parent / "sweeps" / key[:6])
    tags = {"sweep": command, "sweep_parent": key, "mlflow.note.content": f"`fit --multirun {command}`", **_source()}
    return make(
        cfg.logger, Logger, "logger", skip=("log_frames",), tags=tags, params={}, unique="sweep_parent", **names
    )


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


def _weighting_tag(cfg: DictConfig) -> str:
    names = {str(key): part.name for key, part in cfg.weighting.items()}
    kinds = sorted(set(names.values()))
    return kinds[0] if len(kinds) == 1 else " ".join(f"{k}={v}" for k, v in names.items())


def git_commit() -> str:
    """``$LIT_MTRL_COMMIT``, which an image without a repository has, else what git says of this checkout; ``unknown``
    without either.
    """
    return os.environ.get("LIT_MTRL_COMMIT") or _git("describe", "--always", "--dirty", "--abbrev=12") or "unknown"


def _git(*command: str) -> str:
    """What git prints about this checkout, nothing if there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *command], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def _source() -> dict[str, str]:
    """What MLflow's pages show as a run's source."""
    tags = {"name": shlex.join(["lit_mtrl", *sys.argv[1:]]), "type": "LOCAL", "git.commit": _git("rev-parse", "HEAD")}
    return {f"mlflow.source.{key}": value for key, value in tags.items() if value}
