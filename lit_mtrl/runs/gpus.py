"""Which GPUs a job of a sweep gets: jobs that run at the same time get different ones, or share them evenly."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from lit_mtrl.core.processes import claim

VISIBLE = "CUDA_VISIBLE_DEVICES"


@contextmanager
def assigned_gpus(cfg: DictConfig) -> Iterator[dict[str, str]]:
    """The environment variables of the process that trains ``cfg``: it sees ``trainer.devices`` GPUs, those on which
    the fewest jobs of this user run.

    It sees what this process sees where it asks for all GPUs, for certain ones or for none, and in a job of submitit,
    which assigns its own.
    """
    environment, wanted = dict(os.environ), cfg.trainer.devices
    ours = cfg.trainer.accelerator in ("auto", "gpu", "cuda") and isinstance(wanted, int)
    gpus = visible_gpus() if ours and "SUBMITIT_EXECUTOR" not in environment else []
    if not gpus or not 0 < wanted < len(gpus):
        yield environment
        return
    with claim(Path(tempfile.gettempdir(), f"lit_mtrl-gpus-{os.getuid()}"), gpus, wanted) as chosen:
        print(f"{cfg.output_dir}: on GPU {','.join(chosen)}", flush=True)  # noqa: T201
        yield {**environment, VISIBLE: ",".join(chosen)}


def visible_gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` may name: what it names here, or numbers. CUDA is left alone where NVIDIA's driver
    can be asked otherwise.
    """
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get(VISIBLE, "").replace(" ", "").split(",")
    return named[:count] if named != [""] else [str(index) for index in range(count)]
