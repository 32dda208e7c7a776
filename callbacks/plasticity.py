"""How alive a network is: dormant neurons, ranks of its features, units that are stuck, and how far its weights have
moved.

On the last batch of an epoch, that of all ranks, with actions drawn from the policy for the critics, as McLean et al.
(2025) measure it. Random numbers come from a copy of the stream and nothing is moved, so training is the same with and
without this callback.

NOTE 1: McLean et al.'s code keys layers by their innermost name, so that layers of equal name overwrite one another;
        here they stay apart (`lit_mtrl.nets.activations`).
NOTE 2: ranks are those of singular values, neither squared nor centred. They are the roots of the eigenvalues of the
        smaller Gramian, in double precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_mtrl.core.errors import require
from lit_mtrl.core.tables import append_rows
from lit_mtrl.data.module import Iteration
from lit_mtrl.nets.activations import Layer, record
from lit_mtrl.training.agent import Agent
from lit_mtrl.training.callback import Callback

TOTAL = "total"
MARGIN = 0.05
"""A unit of a bounded activation function is saturated within this share of half its range from a bound."""
SHARES = ("zero", "saturated")
"""Columns that are shares of units, beside those that begin with ``dormant_``."""
FEATURES = ("srank", "effective_rank", "feature_norm")
"""Columns that describe a layer's activations as a whole."""


class Plasticity(Callback):
    """Every ``every_epochs`` epochs and at the end, for each of the algorithm's networks (SAC: the actor and each
    critic), per layer and in total.

    ``plasticity.csv``: frames, net, layer, units and ``dormant_<tau>`` for each threshold tau, the share of units with
    a mean absolute activation of at most tau times the layer's mean (Sokar et al., 2023, equation 1); ``zero``, the
    share that is zero on every sample; ``saturated``, the share of units of tanh or sigmoid that is near a bound on
    every sample; ``srank``, how many singular values make up 1 - delta of their sum (Kumar et al., 2021);
    ``effective_rank``, exp of the entropy of the normalised singular values (Roy and Vetterli, 2007); ``feature_norm``,
    the mean length of a sample's activations. Rows of layer ``total`` hold shares of all units, ranks and norm of the
    last layer (the features), and ``change_start`` and ``change_last``, how far the weights have moved since the start
    and since the last such row, divided by their length then.

    To the loggers as ``plasticity/<net>/<column>`` of these rows; ``plasticity/<net>/dormant`` is that of the first
    threshold.

    thresholds: different numbers from 0 to below 1.
    delta: between 0 and 1; 0.01 is Kumar et al.'s.
    """

    key = "callbacks.plasticity"

    def __init__(self, every_epochs: int = 1, thresholds: Sequence[float] = (0.1, 0.025), delta: float = 0.01):
        super().__init__(every_epochs)
        shown = ",".join(map(str, thresholds))
        require(
            len(thresholds) > 0 and len(set(thresholds)) == len(thresholds) and all(0 <= tau < 1 for tau in thresholds),
            f"{self.key}.thresholds=[{shown}]: give different numbers from 0 to below 1, such as [0.1,0.025]",
        )
        require(0 < delta < 1, f"{self.key}.delta={delta}: between 0 and 1, such as 0.01")
        self.thresholds, self.delta = tuple(thresholds), delta
        self._start: dict[str, list[Tensor]] = {}
        self._last: dict[str, list[Tensor]] = {}
        self._agent: Agent | None = None

    def setup(self, trainer: lightning.Trainer, pl_module: Agent, stage: str) -> None:
        # Before Lightning restores a checkpoint: a continued run has been built from its seed like a new one.
        self._agent, self._start = pl_module, weights(pl_module)
        self._last = self._last or self._start

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        if not self._last:  # those of the checkpoint
            self._last = weights(pl_module)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Agent, outputs: Any, batch: Iteration, batch_idx: int
    ) -> None:
        if trainer.is_last_batch and self.due(trainer) and batch.chunk is not None:
            ranks, last = pl_module.ranks, batch.chunk[-1]
            size = [last.shape[0], last.shape[1] * ranks.size]
            joined = last.apply(lambda values: ranks.joined(values, 1), batch_size=size)
            if trainer.is_global_zero:
                self.measure(trainer, pl_module, joined)

    def measure(self, trainer: lightning.Trainer, agent: Agent, batch: TensorDictBase) -> None:
        """Write the table, and tell the loggers, for ``batch [T, b]``."""
        with torch.random.fork_rng([agent.device] if agent.device.type == "cuda" else []), torch.no_grad():
            inputs = agent.algorithm.inputs(batch)
        now = weights(agent)
        rows, metrics = [], {}
        for name, net in agent.algorithm.networks().items():
            seen = record(net, inputs[name])
            if not seen or not all(layer.values.isfinite().all() for layer in seen):
                continue  # no activation function that is known; or a run that is about to end as diverged
            layers = [layer_row(layer, self.thresholds, self.delta) for layer in seen]
            total = {
                **total_row(layers),
                "change_start": distance(now[name], self._start[name]),
                "change_last": distance(now[name], self._last[name]),
            }
            metrics |= {f"plasticity/{name}/{key}": value for key, value in total.items() if key != "units"}
            first = f"plasticity/{name}/dormant_{self.thresholds[0]}"
            metrics[f"plasticity/{name}/dormant"] = metrics.pop(first)
            rows += [{"net": name, "change_start": "", "change_last": "", **row} for row in layers]
            rows.append({"net": name, "layer": TOTAL, **total})
        self._last = now
        if not rows:
            return
        order = ["net", "layer", *total]
        table = [{"frames": agent.frames, **{key: row[key] for key in order}} for row in rows]
        append_rows(self.folder(trainer) / "plasticity.csv", table)
        self.log_metrics(trainer, {key: value for key, value in metrics.items() if value == value}, agent.frames)

    def state_dict(self) -> dict[str, Any]:
        """The weights of the last measurement, or nothing where they are the checkpoint's own."""
        now = weights(self._agent) if self._agent else {}
        same = all(torch.equal(a, b) for name in now for a, b in zip(now[name], self._last[name], strict=True))
        return {"last": {} if same else self._last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._last = state_dict["last"]


def weights(agent: Agent) -> dict[str, list[Tensor]]:
    """Copies of all networks' weights, on the host."""
    nets = agent.algorithm.networks()
    return {name: [p.detach().to("cpu", copy=True) for p in net.parameters()] for name, net in nets.items()}


def distance(now: list[Tensor], then: list[Tensor]) -> float:
    """Length of the difference divided by the length of ``then``."""
    moved = sum(float((a - b).double().square().sum()) for a, b in zip(now, then, strict=True))
    return (moved / sum(float(b.double().square().sum()) for b in then)) ** 0.5


def layer_row(layer: Layer, thresholds: Sequence[float], delta: float) -> dict[str, Any]:
    """The measures of one layer; ``saturated`` is NaN without bounds."""
    values = layer.values
    sigma = singular_values(values)
    saturated = float("nan")
    if layer.bounds is not None:
        low, high = layer.bounds
        margin = MARGIN * (high - low) / 2
        saturated = float(((values <= low + margin).all(0) | (values >= high - margin).all(0)).float().mean())
    dormant = {f"dormant_{tau}": float((scores(values) <= tau).float().mean()) for tau in thresholds}
    return {
        "layer": layer.name,
        "units": values.shape[1],
        **dormant,
        "zero": float((values == 0).all(0).float().mean()),
        "saturated": saturated,
        "srank": srank(sigma, delta),
        "effective_rank": effective_rank(sigma),
        "feature_norm": float(values.norm(dim=1).mean()),
    }


def total_row(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares of all units; ranks and norm of the last layer. ``saturated`` is of the units that can be, NaN if none
    can.
    """
    units = sum(row["units"] for row in layers)
    out: dict[str, Any] = {"units": units}
    for key in layers[-1]:
        if key.startswith("dormant_") or key in SHARES:
            known = [row for row in layers if row[key] == row[key]]
            count = sum(row["units"] for row in known)
            out[key] = sum(row[key] * row["units"] for row in known) / count if count else float("nan")
    return out | {key: layers[-1][key] for key in FEATURES}


def scores(values: Tensor) -> Tensor:
    """Sokar et al. (2023), equation 1: of ``values [samples, units]`` each unit's mean absolute activation, divided by
    their mean.
    """
    size = values.abs().mean(0)
    return size / (size.mean() + 1e-9)


def singular_values(values: Tensor) -> Tensor:
    """Of ``values [n, m]``, descending, min(n, m) of them, in double precision."""
    matrix = values.double()
    gramian = matrix @ matrix.mT if matrix.shape[0] < matrix.shape[1] else matrix.mT @ matrix
    return torch.linalg.eigvalsh(gramian).clamp_min(0).sqrt().flip(0)


def srank(sigma: Tensor, delta: float) -> int:
    """The smallest k with the k largest of ``sigma`` (descending) making up 1 - ``delta`` of their sum; 0 if all are
    zero.
    """
    share = sigma.cumsum(0) / sigma.sum()
    return int((share < 1 - delta).sum()) + 1 if sigma.sum() > 0 else 0


def effective_rank(sigma: Tensor) -> float:
    """Exp of the entropy of ``sigma`` divided by their sum; 0 if all are zero."""
    total = float(sigma.sum())
    return float(torch.special.entr(sigma / total).sum().exp()) if total > 0 else 0.0
