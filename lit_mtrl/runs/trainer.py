"""Lightning's trainer as a run uses it: an epoch is a fixed number of frames, a batch is an iteration."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment
from lightning.fabric.plugins.environments import TorchElasticEnvironment as TorchrunEnvironment
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint
from omegaconf import DictConfig

from lit_mtrl.config.resolve import as_written
from lit_mtrl.core import files
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.training.strategies import choose_strategy


def build_trainer(
    cfg: DictConfig, callbacks: Sequence[lightning.Callback], loggers: Sequence[Any] = (), *, epochs: int
) -> lightning.Trainer:
    """Lightning's trainer; `ConfigError` for what it refuses.

    cfg: the configuration as it will be written: ranks compare it before they train.
    callbacks: called in this order.
    loggers: those of this rank.
    epochs: the budget.
    """
    devices = cfg.trainer.devices
    strategy = choose_strategy(cfg.trainer.strategy, devices > 1, as_written(cfg))
    try:
        return lightning.Trainer(
            accelerator=cfg.trainer.accelerator,
            devices=devices,
            strategy=strategy,
            max_epochs=epochs,
            logger=list(loggers),
            callbacks=list(callbacks),
            enable_checkpointing=any(isinstance(each, Checkpoint) for each in callbacks),  # Lightning adds none
            default_root_dir=cfg.output_dir,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            use_distributed_sampler=False,
            plugins=[_environment(devices), _CheckpointFiles()],
        )
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise ConfigError(f"trainer: {str(error).splitlines()[0]}") from error


class _CheckpointFiles(TorchCheckpointIO):
    """Written beside their names and synced; Lightning writes them elsewhere, moves them, and leaves what a full disk
    has cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        content = io.BytesIO()  # through a file, PyTorch would hide why it cannot be written
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        files.write(Path(path), [content.getbuffer()])


def _environment(devices: int) -> ClusterEnvironment:
    """Who starts the ranks: torchrun, SLURM, or Lightning itself.

    Lightning would ask SLURM also for one device, for which it starts none, and would let its signals save from within
    a step.
    """
    if devices > 1 and TorchrunEnvironment.detect():  # also within a job of SLURM
        return TorchrunEnvironment()
    if devices > 1 and SLURMEnvironment.detect():
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()
