"""A callback of my own: how far the parameters have moved since the start, as a metric."""

from __future__ import annotations

import lightning
import torch
from torch import Tensor

from lit_mtrl.core.errors import require
from lit_mtrl.training.agent import Agent
from lit_mtrl.training.callback import Callback


class MyCallback(Callback):
    """Watches a run, or steps in: with Lightning's hooks, of which a few are below.

    every_epochs: act once in so many epochs; `due` says when.
    norm: your own, with the value in ``conf/callbacks/my_callback.yaml``; add as many as you like, with types.
    """

    def __init__(self, every_epochs: int = 1, norm: float = 2.0):
        super().__init__(every_epochs)
        require(norm > 0, f"callbacks.my_callback.norm={norm}: above 0")  # one line, no traceback
        self.norm = norm
        self.start: Tensor | None = None

    def check(self, agent: Agent) -> None:
        """When the run is built: raise `ConfigError` if it cannot work with this agent."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        """Once, when everything is on its device; of a resumed run at its continuation."""
        self.start = _flat(pl_module)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Agent, *_: object) -> None:
        """After every iteration (steps collected, K updates made); ``pl_module.iteration`` has its metrics.

        Waiting for the device here costs speed.
        """

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        """After every epoch and its evaluation. Of several ranks all are here; the first writes and logs."""
        if not self.due(trainer) or not trainer.is_global_zero or self.start is None:
            return
        moved = float(torch.linalg.vector_norm(_flat(pl_module) - self.start, self.norm))
        # To metrics.csv, MLflow and so on, at the frames so far; files go with self.log_artifact(trainer, path,
        # folder).
        self.log_metrics(trainer, {"my_callback/moved": moved}, pl_module.frames)


def _flat(agent: Agent) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in agent.algorithm.parameters()])
