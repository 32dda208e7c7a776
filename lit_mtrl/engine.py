"""Runs K updates of an algorithm on one chunk without a host synchronisation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from lit_mtrl.algos.base import Algorithm, Objective
from lit_mtrl.spec import require
from lit_mtrl.weighting.base import Weighting
from lit_mtrl.weighting.mean import Mean

MODES = ("eager",)


class Engine:
    """Optimizers, gradient clipping, weightings and metrics around an algorithm's objectives.

    ``mode`` is how an update is executed; all modes give the same numbers. ``weightings`` maps objective names to
    `Weighting`; objectives that it does not name are averaged over tasks.
    """

    def __init__(self, algorithm: Algorithm, weightings: Mapping[str, Weighting] | None = None, mode: str = "eager"):
        self.algorithm = algorithm
        self.mode = mode
        self.updates = 0
        self.objectives = algorithm.objectives()
        unknown = set(weightings or {}) - {o.name for o in self.objectives}
        require(not unknown, f"weighting.{'/'.join(sorted(unknown))}: the algorithm has no such objective")
        self.weightings = {o.name: (weightings or {}).get(o.name) or Mean() for o in self.objectives}
        self._grads = {o.name: [torch.zeros_like(p) for p in o.params] for o in self.objectives}
        self.optimizers = {o.name: torch.optim.Adam(o.params, lr=o.lr, eps=o.eps, fused=True) for o in self.objectives}

    def run(self, chunk: TensorDictBase) -> tuple[TensorDict, TensorDict]:
        """K updates on ``chunk [K, T, b]``, already on the learner's device.

        Returns the means over the updates of the per-task metrics, ``"<objective>/<key>" [T]``, and of the scalar ones,
        ``"<objective>/grad_norm" []``, with ``"<objective>/param_norm" []`` after the last update. ``"<objective>/finite"``
        is the share of updates in which the task's loss was finite: the task with the smallest broke first.
        """
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        for batch in chunk.unbind(0):
            for key, value in self.update(batch).items():
                sums[key] = sums[key].add_(value) if key in sums else value.clone()
                counts[key] = counts.get(key, 0) + 1
        means = {key: value / counts[key] for key, value in sums.items()}
        for o in self.objectives:
            means[f"{o.name}/param_norm"] = _norm([p.detach() for p in o.params])
        per_task = {k: v for k, v in means.items() if v.ndim}
        scalar = {k: v for k, v in means.items() if not v.ndim}
        return TensorDict(per_task, [self.algorithm.num_tasks]), TensorDict(scalar, [])

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """One update on ``batch [T, b]``: every objective that is due, in order, then the algorithm's ``after_update``."""
        metrics: dict[str, Tensor] = {}
        for objective in self.objectives:
            if self.updates % objective.every == 0:
                metrics.update(self._step(objective, batch))
        self.algorithm.after_update()
        self.updates += 1
        return metrics

    def _step(self, objective: Objective, batch: TensorDictBase) -> dict[str, Tensor]:
        out = objective.loss(batch)
        losses = out["loss"]  # [T]
        weights = self.weightings[objective.name](losses, objective.params)
        # Only this objective's gradients: the actor's loss also reaches the critic's parameters.
        grads = torch.autograd.grad((weights * losses).sum(), objective.params)
        norm = _norm(grads)
        # Into buffers of the parameters' own layout: fused Adam on the CPU reads memory linearly, whatever a gradient's strides.
        buffers = self._grads[objective.name]
        torch._foreach_copy_(buffers, grads)
        if objective.max_grad_norm is not None:
            torch._foreach_mul_(buffers, (objective.max_grad_norm / norm).clamp(max=1.0))
        for parameter, buffer in zip(objective.params, buffers, strict=True):
            parameter.grad = buffer
        self.optimizers[objective.name].step()
        metrics = {f"{objective.name}/{key}": value.detach() for key, value in out.items()}
        metrics[f"{objective.name}/finite"] = losses.detach().isfinite().to(losses.dtype)
        metrics[f"{objective.name}/grad_norm"] = norm
        return metrics


def _norm(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """L2 norm of all entries of all tensors, a 0-d tensor."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))  # pyright: ignore[reportArgumentType]


def param_count(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
