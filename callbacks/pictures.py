"""Pictures of what the policy's network gives each task: expert weights, routing probabilities, compositional vectors.

The network has a method ``task_mixture(x [T, n, in_dim])``, which returns by name a weight for each part, ``[T, m]``,
or for each connection between the modules of two layers, ``[T, to, from]``. What it names in ``task_vectors`` are
vectors, whose path over training is drawn, too. Without the method nothing happens. Observations are those of the last
update, so nothing is drawn at random and training is the same with and without this callback.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from lit_mtrl.core.keys import OBS
from lit_mtrl.core.tables import append_rows
from lit_mtrl.data.module import Iteration
from lit_mtrl.training.agent import Agent
from lit_mtrl.training.callback import Callback


class Pictures(Callback):
    """Every ``every_epochs`` epochs and at the end: values into ``mixture.csv``, and into ``pictures/``
    ``mixture.png``, heat maps of tasks against parts, and for vectors such as PaCo's w ``w.png``, their paths.

    The pictures show the present state and go to every logger that takes artifacts.
    """

    key = "callbacks.pictures"

    def __init__(self, every_epochs: int = 1):
        super().__init__(every_epochs)
        self._observations: Tensor | None = None

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Agent, outputs: Any, batch: Iteration, batch_idx: int
    ) -> None:
        if batch.chunk is not None:
            self._observations = batch.chunk[OBS][-1].clone()  # not the whole chunk

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        net: Any = next((m for m in pl_module.algorithm.policy.modules() if hasattr(m, "task_mixture")), None)
        if net is None or self._observations is None or not self.due(trainer):
            return
        mixture: dict[str, Tensor] = net.task_mixture(pl_module.ranks.joined(self._observations, 1))
        if not mixture or not trainer.is_global_zero:
            return
        tasks, table, folder = pl_module.tasks, self.folder(trainer) / "mixture.csv", self.folder(trainer) / "pictures"
        folder.mkdir(exist_ok=True)
        values = {name: value.float().cpu() for name, value in mixture.items()}
        append_rows(table, _rows(pl_module.frames, tasks, values))
        self.log_artifact(trainer, draw_mixture(folder / "mixture.png", tasks, values, pl_module.frames), "pictures")
        for name in getattr(net, "task_vectors", ()):
            picture = draw_paths(folder / f"{name}.png", name, tasks, read(table, name, tasks))
            self.log_artifact(trainer, picture, "pictures")


def read(path: Path, name: str, tasks: list[str]) -> Tensor:
    """All values of ``name`` that ``mixture.csv`` has of whole evaluations: ``[evaluations, T, m]``."""
    found: dict[str, list[float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["name"] == name:
                found.setdefault(row["frames"], []).append(float(row["value"]))
    size = max(map(len, found.values()), default=0)  # a table that was cut short may lack some of an evaluation
    return torch.tensor([values for values in found.values() if len(values) == size]).view(
        -1, len(tasks), size // len(tasks)
    )


def draw_mixture(path: Path, tasks: list[str], values: dict[str, Tensor], frames: int) -> Path:
    """One heat map per name, of ``[T, m]`` or ``[T, to, from]``: a row per task, a column per part or connection."""
    from matplotlib.figure import Figure

    flat = {name: value.flatten(1) for name, value in values.items()}
    widths = [max(2.0, 0.45 * v.shape[1]) for v in flat.values()]
    figure = Figure(figsize=(3 + sum(widths) + len(widths), 1.6 + 0.24 * len(tasks)), layout="constrained")
    axes = figure.subplots(1, len(flat), squeeze=False, width_ratios=widths)[0]
    for ax, (name, value) in zip(axes, flat.items(), strict=True):
        signed = bool((value < 0).any())
        top = float(value.abs().max())
        image = ax.imshow(
            value.numpy(), aspect="auto", cmap="RdBu_r" if signed else "viridis", vmin=-top if signed else 0, vmax=top
        )
        figure.colorbar(image, ax=ax)
        labels = columns(values[name])
        ax.set_xticks(range(len(labels)), labels, fontsize=7, rotation=90 if values[name].ndim == 3 else 0)
        ax.set_yticks(range(len(tasks)), tasks if ax is axes[0] else [], fontsize=7)
        ax.set_title(name, fontsize=9)
    figure.suptitle(f"{frames:,} frames", fontsize=9)
    figure.savefig(path, dpi=120)
    return path


def columns(value: Tensor) -> list[str]:
    """What the columns of ``[T, m]`` or ``[T, to, from]`` are called, in the order of the values."""
    if value.ndim == 2:
        return [str(part) for part in range(1, value.shape[1] + 1)]
    return [f"{j}→{i}" for i in range(1, value.shape[1] + 1) for j in range(1, value.shape[2] + 1)]


def draw_paths(path: Path, name: str, tasks: list[str], vectors: Tensor) -> Path:
    """The tasks' vectors over training, ``[evaluations, T, K]``: first two principal components; for K = 2 on the unit
    circle.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    ax = figure.subplots()
    points, text = flat_points(vectors, name)
    if vectors.shape[-1] == 2:
        angle = torch.linspace(0, 2 * torch.pi, 200)
        ax.plot(angle.cos().numpy(), angle.sin().numpy(), color="lightgray", lw=1, zorder=0)
        ax.set_aspect("equal")
    for i, task in enumerate(tasks):
        xs, ys = points[:, i, 0].tolist(), points[:, i, 1].tolist()
        line = ax.plot(xs, ys, lw=0.8, alpha=0.5)[0]
        ax.plot(xs[-1], ys[-1], "o", ms=5, color=line.get_color())
        ax.annotate(task, (xs[-1], ys[-1]), fontsize=7, xytext=(4, 3), textcoords="offset points")
    ax.set(
        xlabel=f"{text} 1", ylabel=f"{text} 2", title=f"{name} of each task, from the first recorded to the last (dot)"
    )
    ax.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    return path


def flat_points(vectors: Tensor, name: str) -> tuple[Tensor, str]:
    """``[evaluations, T, K]`` in the plane, ``[evaluations, T, 2]``, and what its axes are.

    K > 2: the two directions of largest variance of all points; K = 2: directions, on the unit circle; K = 1: zero
    beside it.
    """
    size = vectors.shape[-1]
    if size == 1:
        return torch.cat([vectors, torch.zeros_like(vectors)], -1), name
    if size == 2:
        return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12), "direction"
    centred = vectors - vectors.mean((0, 1))
    flat = centred.flatten(0, 1)
    _, directions = torch.linalg.eigh(flat.t() @ flat)  # ascending
    return centred @ directions[:, [-1, -2]], "principal component"


def _rows(frames: int, tasks: list[str], values: dict[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {"frames": frames, "name": name, "task": task, "part": part, "value": value}
        for name, table in values.items()
        for task, row in zip(tasks, table.flatten(1).tolist(), strict=True)
        for part, value in enumerate(row, 1)
    ]
