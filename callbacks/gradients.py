"""What the tasks' gradients do to each other: conflicts, cosines, norms, and the weights they get.

At epoch ends the Gramian of the tasks' gradients is formed on batches of the last chunk, for every objective that has a
weighting (SAC: the critics and the actor), whatever the weighting. Two tasks conflict where the cosine of their
gradients is negative. Random numbers come from a copy of the stream, so training is the same with and without this
callback.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_mtrl.core.errors import require
from lit_mtrl.core.tables import append_rows
from lit_mtrl.data.module import Iteration
from lit_mtrl.training.agent import Agent
from lit_mtrl.training.callback import Callback
from lit_mtrl.weighting.base import cosines


class Gradients(Callback):
    """Every ``every_epochs`` epochs and at the end, means over the last batches.

    ``gradients.csv``: for each objective and task its gradient's norm, its weight (over the last iteration), the mean
    of its cosines with the others' and the share of them that are negative. To the loggers: ``conflict/<objective>``,
    the share of conflicting pairs, ``cosine/<objective>`` and ``cosine_min/<objective>``, the mean and the smallest of
    all pairs. ``pictures/cosines.png``: all pairs.

    batches: how many of the last iteration, if it has so many.
    """

    key = "callbacks.gradients"

    def __init__(self, every_epochs: int = 1, batches: int = 4):
        super().__init__(every_epochs)
        require(batches > 0, f"{self.key}.batches={batches}: 1 or more")
        self.batches = batches

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Agent, outputs: Any, batch: Iteration, batch_idx: int
    ) -> None:
        if trainer.is_last_batch and self.due(trainer) and batch.chunk is not None and len(pl_module.tasks) > 1:
            self.measure(trainer, pl_module, batch.chunk[-self.batches :])

    def measure(self, trainer: lightning.Trainer, agent: Agent, chunk: TensorDictBase) -> None:
        """Write table and picture, and tell the loggers, for ``chunk [n, T, b]``."""
        tasks, metrics, pictures = agent.tasks, {}, {}
        folder = self.folder(trainer)
        geometry = gradient_geometry(agent, chunk)  # of the gradients' averages over ranks: all of them take part
        if not trainer.is_global_zero:
            return
        for name in agent.weightings:
            norms, cosine = geometry[name]
            off_diagonal = cosine[:, ~torch.eye(len(tasks), dtype=torch.bool)].view(len(cosine), len(tasks), -1)
            metrics[f"conflict/{name}"] = float((off_diagonal < 0).float().mean())
            metrics[f"cosine/{name}"] = float(off_diagonal.mean())
            metrics[f"cosine_min/{name}"] = float(off_diagonal.amin((1, 2)).mean())
            weights = agent.iteration.get(f"{name}/weight", [1 / len(tasks)] * len(tasks))
            columns = {
                "task": tasks,
                "norm": norms.mean(0).tolist(),
                "weight": weights,
                "cosine": off_diagonal.mean((0, 2)).tolist(),
                "conflicts": (off_diagonal < 0).float().mean((0, 2)).tolist(),
            }
            rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
            append_rows(folder / "gradients.csv", [{"frames": agent.frames, "objective": name, **row} for row in rows])
            pictures[name] = cosine.mean(0)
        if not pictures:
            return
        (folder / "pictures").mkdir(exist_ok=True)
        picture = draw_cosines(folder / "pictures" / "cosines.png", tasks, pictures, agent.frames)
        self.log_metrics(trainer, metrics, agent.frames)
        self.log_artifact(trainer, picture, "pictures")


def gradient_geometry(agent: Agent, chunk: TensorDictBase) -> dict[str, tuple[Tensor, Tensor]]:
    """For each objective norms ``[n, T]`` and cosines ``[n, T, T]`` of the tasks' gradients on each batch of ``chunk
    [n, T, b]``, on the host.
    """
    assert agent.engine is not None
    devices = [agent.device] if agent.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        gramians = [agent.engine.gramians(batch) for batch in chunk.unbind(0)]
    found = {}
    for name in gramians[0]:
        norms, cosine = zip(*(cosines(each[name].cpu()) for each in gramians), strict=True)
        found[name] = torch.stack(norms), torch.stack(cosine)
    return found


def draw_cosines(path: Path, tasks: list[str], cosine: dict[str, Tensor], frames: int) -> Path:
    """One heat map of tasks against tasks for each objective."""
    from matplotlib.figure import Figure

    side = 1.6 + 0.24 * len(tasks)
    figure = Figure(figsize=(2.5 + side * len(cosine), 2 + side), layout="constrained")
    axes = figure.subplots(1, len(cosine), squeeze=False)[0]
    for ax, (name, values) in zip(axes, cosine.items(), strict=True):
        image = ax.imshow(values.numpy(), cmap="RdBu", vmin=-1, vmax=1)
        ax.set_xticks(range(len(tasks)), tasks, fontsize=7, rotation=90)
        ax.set_yticks(range(len(tasks)), tasks if ax is axes[0] else [], fontsize=7)
        ax.set_title(name, fontsize=9)
    figure.colorbar(image, ax=axes, shrink=0.8, label="cosine of the tasks' gradients")
    figure.suptitle(f"{frames:,} frames", fontsize=9)
    figure.savefig(path, dpi=120)
    return path
