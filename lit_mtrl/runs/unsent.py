"""A finished run whose MLflow store was away: what is still in its queue, sent without training."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from lit_mtrl.core.manifest import exists
from lit_mtrl.runs.folder import require_writable
from lit_mtrl.runs.loggers import build_logger
from lit_mtrl.runs.resume import require_same
from lit_mtrl.runs.tags import RUN
from lit_mtrl.tracking.queue import unsent
from lit_mtrl.training.checkpoint import find, frames_saved
from lit_mtrl.training.weights import saved_part

FILES = ("config.yaml", RUN, "*.csv", "checkpoints/*.ckpt", "pictures/*")
"""What a run has sent when it ends."""


def send_unsent(cfg: DictConfig) -> int | None:
    """Send to MLflow what it lacks of a finished run, one that was trained to ``frames`` while the store was away.

    0 if MLflow now has all, 1 if it stopped answering meanwhile, None if there is nothing to send or the run is to be
    trained on. `ConfigError` if the folder, which the caller has locked, holds another run, or the store cannot be
    used.
    """
    folder = Path(cfg.output_dir)
    checkpoints = folder / "checkpoints"
    if "_target_" not in cfg.logger or not unsent(folder) or not exists(checkpoints):
        return None
    if frames_saved(checkpoints, "--resume") < cfg.frames:
        return None
    require_writable(folder)
    content = find(checkpoints, "--resume").content
    part = saved_part(content, f"--resume {folder}")
    require_same("--resume", folder, part["config"], cfg)
    if part["frames"] < cfg.frames or not part.get("run_id"):
        return None
    logger = build_logger(cfg, {"tags": {}, "parameters": {}}, content)
    logger.connect()
    for path in sorted(path for pattern in FILES for path in folder.glob(pattern)):
        parent = path.parent.relative_to(folder)
        logger.log_artifact(path, str(parent) if parent.name else None)
    logger.finalize("success", patient=True)
    if logger.left:
        return 1
    print(f"{folder}: trained to its end before; MLflow run {logger.run_id} now has all of it")  # noqa: T201
    return 0
