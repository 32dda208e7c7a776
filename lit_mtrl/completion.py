"""What MLflow lacks of a run that has been trained to its end: sent without training."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig

from lit_mtrl.checkpoint import MANIFEST, load
from lit_mtrl.folder import LOCK, leads, require_idle, require_same, require_writable
from lit_mtrl.labels import RUN, build_logger
from lit_mtrl.mlflow_queue import unsent
from lit_mtrl.processes import hold

FILES = ("config.yaml", RUN, "*.csv", "checkpoints/*.ckpt", "pictures/*")
"""What a run has sent when it ends."""


def complete(cfg: DictConfig) -> int | None:
    """Send what MLflow lacks of the run in ``output_dir`` and end it there, if it was trained to ``frames`` by a process that could not do so.

    0 if MLflow now has all, 1 if it stopped answering meanwhile, None if there is nothing to do or the run is to be trained on. `ConfigError`
    if the folder holds another run, a process trains there, or the store cannot be used.
    """
    folder = Path(cfg.output_dir)
    if "_target_" not in cfg.logger or not leads(cfg) or not unsent(folder) or _frames(folder) < cfg.frames:
        return None
    require_writable(folder)
    try:
        lock = hold(folder / LOCK)
    except BlockingIOError:
        require_idle(folder)
        raise
    with lock:
        checkpoint = load(folder / "checkpoints" / "last.ckpt", "--resume")
        require_same("--resume", folder, checkpoint["lit_mtrl"]["config"], cfg)
        if checkpoint["lit_mtrl"]["frames"] < cfg.frames or not checkpoint["lit_mtrl"].get("run_id"):
            return None
        logger = build_logger(cfg, {"tags": {}, "parameters": {}}, checkpoint)
        logger.connect()
        for path in sorted(path for pattern in FILES for path in folder.glob(pattern)):
            parent = path.parent.relative_to(folder)
            logger.log_artifact(path, str(parent) if parent.name else None)
        logger.finalize("success", patient=True)
    if logger.left:
        return 1
    print(f"{folder}: trained to its end before; MLflow run {logger.run_id} now has all of it")  # noqa: T201
    return 0


def _frames(folder: Path) -> int:
    """Frames of the last checkpoint, 0 if its manifest cannot be read."""
    try:
        return int(json.loads((folder / "checkpoints" / "last" / MANIFEST).read_text())["frames"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
