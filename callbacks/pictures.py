"""Pictures of what a network gives each task: expert weights, routing probabilities, compositional vectors.

Any network with a method ``task_mixture(x [T, n, in_dim]) -> {name: [T, m]}`` is drawn, the actor's only; without one
nothing happens. Observations are those of the last update, so nothing is drawn at random and training is the same with
and without this callback.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from lit_mtrl.core.errors import require
from lit_mtrl.core.keys import OBS
from lit_mtrl.core.tables import append_rows
from lit_mtrl.data.module import Iteration
from lit_mtrl.training.agent import Agent


class Pictures(lightning.Callback):
    """Every ``every_epochs`` epochs and at the end: values into ``mixture.csv``, and into ``pictures/``
    ``mixture.png``, heat maps of tasks against parts, and, for PaCo's w, ``w.png``: its way over training.

    The pictures show the present state and go to every logger that takes artifacts.
    """

    def __init__(self, every_epochs: int = 1):
        require(every_epochs > 0, f"callbacks.pictures.every_epochs={every_epochs}: 1 or more")
        self.every_epochs = every_epochs
        self._observations: Tensor | None = None

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Agent, outputs: Any, batch: Iteration, batch_idx: int
    ) -> None:
        if batch.chunk is not None:
            self._observations = batch.chunk[OBS][-1].clone()  # not the whole chunk

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        net = pl_module.algorithm.policy.net
        due = last or (trainer.current_epoch + 1) % self.every_epochs == 0
        if not due or self._observations is None or not hasattr(net, "task_mixture"):
            return
        observations = pl_module.ranks.joined(self._observations, 1)
        parts: dict[str, Tensor] = net.task_mixture(observations)  # pyright: ignore[reportCallIssue]
        if not parts or not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        (folder / "pictures").mkdir(exist_ok=True)
        values = {name: value.float().cpu() for name, value in parts.items()}
        append_rows(folder / "mixture.csv", _rows(pl_module.frames, pl_module.tasks, values))
        files = [draw_mixture(folder / "pictures" / "mixture.png", pl_module.tasks, values, pl_module.frames)]
        if "w" in values:
            way = read(folder / "mixture.csv", "w", pl_module.tasks)
            files.append(draw_vectors(folder / "pictures" / "w.png", pl_module.tasks, way))
        for logger in trainer.loggers:
            for file in files if hasattr(logger, "log_artifact") else []:
                logger.log_artifact(file, "pictures")  # pyright: ignore[reportAttributeAccessIssue]


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
    """One heat map per name, ``[T, m]``: a row per task, a column per expert, parameter set or route."""
    from matplotlib.figure import Figure

    widths = [max(2.0, 0.45 * v.shape[1]) for v in values.values()]
    figure = Figure(figsize=(3 + sum(widths) + len(widths), 1.6 + 0.24 * len(tasks)), layout="constrained")
    axes = figure.subplots(1, len(values), squeeze=False, width_ratios=widths)[0]
    for ax, (name, value) in zip(axes, values.items(), strict=True):
        signed = bool((value < 0).any())
        top = float(value.abs().max())
        image = ax.imshow(
            value.numpy(), aspect="auto", cmap="RdBu_r" if signed else "viridis", vmin=-top if signed else 0, vmax=top
        )
        figure.colorbar(image, ax=ax)
        side = round(value.shape[1] ** 0.5)
        routes = name.startswith("routing layer")
        labels = (
            [f"{j + 1}→{i + 1}" for i in range(side) for j in range(side)] if routes else range(1, value.shape[1] + 1)
        )
        ax.set_xticks(range(value.shape[1]), labels, fontsize=7, rotation=90 if routes else 0)
        ax.set_yticks(range(len(tasks)), tasks if ax is axes[0] else [], fontsize=7)
        ax.set_title(name, fontsize=9)
    figure.suptitle(f"{frames:,} frames", fontsize=9)
    figure.savefig(path, dpi=120)
    return path


def draw_vectors(path: Path, tasks: list[str], way: Tensor) -> Path:
    """PaCo's compositional vectors over training, ``[evaluations, T, K]``: first two principal components; for K = 2 on
    the unit circle.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    ax = figure.subplots()
    points, text = flat_points(way)
    if way.shape[-1] == 2:
        angle = torch.linspace(0, 2 * torch.pi, 200)
        ax.plot(angle.cos().numpy(), angle.sin().numpy(), color="lightgray", lw=1, zorder=0)
        ax.set_aspect("equal")
    for i, task in enumerate(tasks):
        xs, ys = points[:, i, 0].tolist(), points[:, i, 1].tolist()
        line = ax.plot(xs, ys, lw=0.8, alpha=0.5)[0]
        ax.plot(xs[-1], ys[-1], "o", ms=5, color=line.get_color())
        ax.annotate(task, (xs[-1], ys[-1]), fontsize=7, xytext=(4, 3), textcoords="offset points")
    ax.set(xlabel=f"{text} 1", ylabel=f"{text} 2", title="w of each task, from the first recorded to the last (dot)")
    ax.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    return path


def flat_points(way: Tensor) -> tuple[Tensor, str]:
    """``[evaluations, T, K]`` in the plane, ``[evaluations, T, 2]``, and what its axes are.

    K > 2: the two directions of largest variance of all points; K = 2: directions, on the unit circle; K = 1: zero
    beside it.
    """
    sets = way.shape[-1]
    if sets == 1:
        return torch.cat([way, torch.zeros_like(way)], -1), "w"
    if sets == 2:
        return way / way.norm(dim=-1, keepdim=True).clamp_min(1e-12), "direction"
    centred = way - way.mean((0, 1))
    flat = centred.flatten(0, 1)
    _, directions = torch.linalg.eigh(flat.t() @ flat)  # ascending
    return centred @ directions[:, [-1, -2]], "principal component"


def _rows(frames: int, tasks: list[str], values: dict[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {"frames": frames, "name": name, "task": task, "part": part, "value": value}
        for name, table in values.items()
        for task, row in zip(tasks, table.tolist(), strict=True)
        for part, value in enumerate(row, 1)
    ]
