"""The processes that train one run together: which of them this is, on which device, where they meet, how they stop."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import lightning
import torch
from omegaconf import DictConfig

from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.processes import cores, die_with_parent, rank_of_process
from lit_mtrl.training.strategies import RanksStrategy


def rank_of(cfg: DictConfig) -> int:
    """Which of the run's ``trainer.devices`` ranks this process is; the first, 0, writes and speaks for all.

    `ConfigError` if more ranks have been started than that.
    """
    rank, ranks = rank_of_process() if cfg.trainer.devices > 1 else 0, cfg.trainer.devices
    started = f"SLURM or torchrun has started rank {rank}, counted from 0; start as many ranks as devices"
    require(rank < ranks, f"trainer.devices={ranks}: {started}")
    return rank


def learner_device(cfg: DictConfig, rank: int = 0) -> torch.device:
    """The device on which the learner of a rank is: a GPU of its own, unless ``trainer.accelerator`` or the machine
    says otherwise.

    `ConfigError` if there are fewer GPUs than ``trainer.devices``.
    """
    wanted, devices, gpus = cfg.trainer.accelerator, cfg.trainer.devices, torch.cuda.device_count()
    apple = torch.backends.mps.is_available()
    gpu = "mps" if apple else "cuda"
    kind = {"auto": gpu if apple or gpus else "cpu", "gpu": gpu, "cpu": "cpu", "cuda": "cuda", "mps": "mps"}[wanted]
    require(
        kind != "cuda" or devices <= gpus,
        f"trainer.devices={devices}: this machine has {gpus} GPUs;"
        " ask for no more, or for CPU ranks by trainer.accelerator=cpu",
    )
    return torch.device("cpu") if kind == "cpu" else torch.device(kind, rank)


def require_started(trainer: lightning.Trainer, rank: int, ranks: int, learner: torch.device) -> None:
    """`ConfigError` unless Lightning understands this process's environment as `rank_of` and `learner_device` do."""
    require(
        trainer.world_size == ranks,
        f"trainer.devices={ranks}: SLURM or torchrun has started {trainer.world_size} ranks; start as many as devices",
    )
    require(
        (trainer.global_rank, trainer.strategy.root_device) == (rank, learner),
        f"trainer.devices={ranks}: RANK, LOCAL_RANK and SLURM_PROCID of rank {rank} contradict each other;"
        " unset them, or start ranks by torchrun or SLURM",
    )


def set_threads(cfg: DictConfig) -> None:
    """Give the learner ``trainer.threads``; without it PyTorch chooses, and several ranks share the cores."""
    ranks, threads = cfg.trainer.devices, cfg.trainer.threads
    if ranks > 1 and not threads:
        threads = torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else cores(ranks)
    if threads:
        torch.set_num_threads(threads)
    if ranks > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # or Lightning would choose


def prepare_ranks(trainer: lightning.Trainer) -> None:
    """`ConfigError` unless the ranks can meet; ranks but the first end with the process that started them."""
    strategy, ranks = trainer.strategy, trainer.world_size
    assert isinstance(strategy, RanksStrategy) and strategy.cluster_environment is not None
    try:
        strategy.cluster_environment.validate_settings(num_devices=ranks, num_nodes=1)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"trainer.devices={ranks}: {str(error).splitlines()[0]}") from error
    if not trainer.is_global_zero:
        die_with_parent()
    port = os.environ.get("MASTER_PORT")
    if port and trainer.is_global_zero and "TORCHELASTIC_RUN_ID" not in os.environ:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", int(port)))
            except (OSError, ValueError, OverflowError) as error:
                raise ConfigError(
                    f"MASTER_PORT={port}: ranks cannot meet there ({error}); unset it, or choose a free port"
                ) from error


def stop_together(trainer: lightning.Trainer, came: Sequence[int]) -> None:
    """Stop all ranks before the next iteration once a signal has come to the first, and so is in ``came``.

    Lightning's own handlers, which are not installed, talk to the other ranks from within, wherever the signal finds
    them; two ranks then wait for each other. But it asks the first rank before every iteration whether it has been told
    to stop, and there alone is it told.
    """
    connector, loop = trainer._signal_connector, trainer.fit_loop.epoch_loop
    ask = loop._broadcast_sigterm_tensor

    def asked() -> None:
        connector.received_sigterm = bool(came)
        try:
            ask()
        finally:
            connector.received_sigterm = False

    connector.register_signal_handlers = lambda: None
    loop._broadcast_sigterm_tensor = asked
