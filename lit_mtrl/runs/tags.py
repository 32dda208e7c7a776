"""What a run is known by: its tags and parameter counts, in ``run.json`` and in MLflow."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from omegaconf import DictConfig

from lit_mtrl import __version__
from lit_mtrl.algos.base import Algorithm
from lit_mtrl.envs.base import Suite
from lit_mtrl.nets.base import param_count

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
    """Parameters of each of the algorithm's parts, all copies of an ensemble together."""
    return {part: param_count(getattr(algorithm, part)) for part in algorithm.parts}


def _weighting_tag(cfg: DictConfig) -> str:
    names = {str(key): part.name for key, part in cfg.weighting.items()}
    kinds = sorted(set(names.values()))
    return kinds[0] if len(kinds) == 1 else " ".join(f"{k}={v}" for k, v in names.items())


def git_commit() -> str:
    """``$LIT_MTRL_COMMIT``, which an image without a repository has, else what git says of this checkout; ``unknown``
    without either.
    """
    return os.environ.get("LIT_MTRL_COMMIT") or git("describe", "--always", "--dirty", "--abbrev=12") or "unknown"


def git(*command: str) -> str:
    """What git prints about this checkout, nothing if there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *command],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
