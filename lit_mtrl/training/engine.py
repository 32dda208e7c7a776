"""Runs K updates of an algorithm on one chunk without a host synchronisation.

Modes: ``eager``, one operation at a time; ``compile``, losses and their gradients compiled by TorchInductor;
``cudagraph``, whole updates replayed as CUDA graphs; ``compile+cudagraph``, graphs of compiled losses. All give the
same numbers up to rounding. Objectives whose weighting reads a Gramian are not compiled (their layers are watched);
they are recorded in graphs like all others.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from lit_mtrl.algos.base import Algorithm, Objective
from lit_mtrl.core.errors import require
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.nets.tape import Tape
from lit_mtrl.training.memory import GradientMemory, padded
from lit_mtrl.training.modes import Compiler, Graphs, Loss, resolve_mode
from lit_mtrl.weighting.base import Weighting
from lit_mtrl.weighting.mean import Mean

log = logging.getLogger("lit_mtrl")


class Engine:
    """Optimizers, gradient clipping, weightings and metrics around an algorithm's objectives.

    ``weightings`` maps objective names to `Weighting`; objectives that it does not name are averaged over tasks.
    ``mode`` is how an update is executed, ``auto`` for ``cudagraph`` on a GPU and ``eager`` elsewhere. ``precision`` of
    the networks' products: ``tf32`` (GPUs; for the whole process), or ``bf16`` by autocast, parameters and everything
    behind the networks' outputs staying as they are. ``optimizers`` are the objectives', under their names, and
    ``"<objective>/weighting"`` for weightings that learn.

    ``ranks``: with several, each calls the engine with its own part of every batch; gradients, and the losses and
    Gramians that weightings see, are averages over them. There is one all-reduce for an objective's gradients, those of
    what it shares included; before it one for the losses, if the weighting looks at them, and for a Gramian one
    all-gather of what its layers saw. ``backward``: puts averaged gradients into ``.grad`` itself (PyTorch's DDP); None
    for the engine's own all-reduce.

    Raises `ConfigError` on a mode or precision that the device does not have.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        weightings: Mapping[str, Weighting] | None = None,
        mode: str = "eager",
        precision: str = "fp32",
        ranks: Ranks | None = None,
        backward: Callable[[Tensor], object] | None = None,
    ):
        self.algorithm, self.ranks, self._backward = algorithm, ranks or Ranks(), backward
        algorithm.ranks = self.ranks
        self.device = next(algorithm.parameters()).device
        self.mode, self.precision = resolve_mode(mode, precision, self.device.type), precision
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        self.updates = 0
        self._all = algorithm.objectives()
        self.objectives = tuple(o for o in self._all if o.loss is not None)
        passive = [o for o in self._all if o.loss is None]
        assert len(passive) <= 1, "an algorithm has one objective without a loss at most"
        self.shared = passive[0] if passive else None
        strangers = set(weightings or {}) - {o.name for o in self.objectives}
        require(not strangers, f"weighting.{'/'.join(sorted(strangers))}: the algorithm has no such objective")
        mean = Mean(algorithm.num_tasks)
        self.weightings = {o.name: (weightings or {}).get(o.name) or mean for o in self.objectives}
        self._tapes = {o.name: Tape(algorithm, o.params, self.ranks) for o in self.objectives}
        self._grads = {o.name: GradientMemory(o.params) for o in self._all if self.shared is None or o is self.shared}
        if self.shared is not None:  # large, as a rule: one memory for all losses
            largest = max((o.params for o in self.objectives), key=padded)
            memory = GradientMemory(largest, self.shared.params).flat
            self._grads |= {o.name: GradientMemory(o.params, self.shared.params, memory) for o in self.objectives}
        self.optimizers = {o.name: torch.optim.Adam(o.params, lr=o.lr, eps=o.eps, fused=True) for o in self._all}
        learning = {f"{name}/weighting": w.optimizer() for name, w in self.weightings.items()}
        self.optimizers |= {name: optimizer for name, optimizer in learning.items() if optimizer is not None}
        self._losses = self._executed()
        self._totals: dict[tuple[str, ...], tuple[dict[str, torch.Size], Tensor]] = {}
        self._execute = self._add
        if "cudagraph" in self.mode:
            self._execute = Graphs(self._add, self.optimizers.values())

    def _executed(self) -> dict[str, Loss]:
        """The objectives' losses, compiled if the mode says so."""
        losses = {o.name: o.loss for o in self.objectives if o.loss is not None}
        if "compile" not in self.mode:
            return losses
        watched = [name for name, weighting in self.weightings.items() if weighting.reads_gramian]
        if watched:
            log.info("engine.mode=%s: %s not compiled, for their weightings' sake", self.mode, ", ".join(watched))
        compiler = Compiler()
        return {name: loss if name in watched else compiler.wrap(loss) for name, loss in losses.items()}

    def run(self, chunk: TensorDictBase) -> tuple[TensorDict, TensorDict]:
        """K updates on ``chunk [K, T, b]``, already on the learner's device.

        Returns the means over the updates of the per-task metrics, ``"<objective>/<key>" [T]``, and of the scalar ones,
        ``"<objective>/grad_norm" []``, with ``"<objective>/param_norm" []`` after the last update.
        ``"<objective>/finite"`` is the share of updates in which the task's loss was finite, and its gradient, if a
        weighting looks at it: the task with the smallest broke first.
        """
        chunk = chunk.copy()
        self.algorithm.draw(chunk)
        for _, total in self._totals.values():
            total.zero_()
        kinds: Counter[tuple[str, ...]] = Counter()
        for batch in chunk.unbind(0):
            due = self._due()
            self._execute(due, batch)
            kinds[due] += 1
            self.updates += 1
        means = self._means(kinds)
        for o in self._all:
            means[f"{o.name}/param_norm"] = _norm([p.detach() for p in o.params])
        per_task = {k: v for k, v in means.items() if v.ndim}
        scalar = {k: v for k, v in means.items() if not v.ndim}
        return TensorDict(per_task, [self.algorithm.num_tasks]), TensorDict(scalar, [])

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """One update on ``batch [T, b]``: every objective that is due, in order, then the algorithm's ``after_update``.

        What objectives write into the batch stays out of the caller's. Never as a graph; its metrics are not summed.
        """
        batch = batch.copy()
        self.algorithm.draw(batch)
        metrics = self._update(self._due(), batch)
        self.updates += 1
        return metrics

    def _due(self) -> tuple[str, ...]:
        return tuple(o.name for o in self.objectives if self.updates % o.every == 0)

    def _update(self, due: tuple[str, ...], batch: TensorDictBase) -> dict[str, Tensor]:
        metrics: dict[str, Tensor] = {}
        batch = batch.copy()
        for objective in self.objectives:
            if objective.name in due:
                metrics.update(self._step(objective, batch))
        if self.shared is not None:
            metrics.update(self._step_shared(self.shared))
        self.algorithm.after_update()
        return metrics

    def _add(self, due: tuple[str, ...], batch: TensorDictBase) -> None:
        """One update, its metrics added to the total of its kind."""
        metrics = self._update(due, batch)
        flat = torch.cat([value.reshape(-1) for value in metrics.values()])
        if due not in self._totals:
            self._totals[due] = {key: value.shape for key, value in metrics.items()}, torch.zeros_like(flat)
        self._totals[due][1].add_(flat)

    def _means(self, kinds: Mapping[tuple[str, ...], int]) -> dict[str, Tensor]:
        """The metrics' means over the updates that had them, given how many of each kind there were."""
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        over_ranks = self.ranks.mean(torch.cat([self._totals[due][1] for due in kinds]))
        totals = over_ranks.split([self._totals[due][1].numel() for due in kinds])
        for (due, number), total in zip(kinds.items(), totals, strict=True):
            shapes, _ = self._totals[due]
            for (key, shape), part in zip(
                shapes.items(), total.split([s.numel() for s in shapes.values()]), strict=True
            ):
                value = part.view(shape)
                sums[key] = sums[key] + value if key in sums else value
                counts[key] = counts.get(key, 0) + number
        return {key: value / counts[key] for key, value in sums.items()}

    def _evaluate(self, objective: Objective, batch: TensorDictBase) -> TensorDict:
        with self._autocast():
            return self._losses[objective.name](batch)

    def _autocast(self) -> AbstractContextManager[object]:
        # Without its cache of cast weights, which would outlive a recorded graph's memory.
        half = self.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False) if half else nullcontext()

    def _step(self, objective: Objective, batch: TensorDictBase) -> dict[str, Tensor]:
        assert objective.loss is not None
        weighting = self.weightings[objective.name]
        gramian = None
        if weighting.reads_gramian:
            out, gramian = self._recorded(objective, batch, weighting.shared_only)
        else:
            out = self._evaluate(objective, batch)
        losses = out["loss"]  # [T]
        seen = losses.detach()
        if weighting.reads_losses:
            seen = self.ranks.mean(seen)
        weights = weighting(seen, gramian)
        gradients = self._grads[objective.name]
        self._differentiate((weights * losses).sum(), gradients)
        norm = torch.linalg.vector_norm(gradients.flat)
        if objective.max_grad_norm is not None:
            gradients.flat.mul_((objective.max_grad_norm / norm).clamp(max=1.0))
        if self.shared is not None:
            self._grads[self.shared.name].flat.add_(gradients.shared)
        self._adam(objective)
        self._learn(objective, weighting, batch)
        metrics = {f"{objective.name}/{key}": value.detach() for key, value in out.items()}
        finite = seen.isfinite()
        if gramian is not None:
            finite &= gramian.diagonal().isfinite()
        metrics[f"{objective.name}/finite"] = finite.to(losses.dtype)
        if not isinstance(weighting, Mean):
            metrics[f"{objective.name}/weight"] = weights
        if weighting.floor is not None:
            floored = seen <= weighting.floor
            if "masked" in out.keys():  # whose loss is zero by intention
                floored &= out["masked"] == 0
            metrics[f"{objective.name}/floored"] = floored.to(losses.dtype)
        metrics[f"{objective.name}/grad_norm"] = norm
        return metrics

    def _differentiate(self, total: Tensor, into: GradientMemory) -> None:
        """The gradients of ``total``, averaged over the ranks."""
        if self._backward is None:
            # An objective need not touch what others share.
            own = self.shared is None
            into.take(torch.autograd.grad(total, into.params, allow_unused=not own, materialize_grads=not own))
            self.ranks.mean_(into.flat)
            return
        for parameter in into.params:
            parameter.grad = None
        self._backward(total)
        into.take([torch.zeros_like(p) if p.grad is None else p.grad for p in into.params])

    def gramians(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Inner products ``[T, T]`` of the tasks' gradients of every objective on ``batch [T, b]``; nothing is moved."""
        batch = batch.copy()
        self.algorithm.draw(batch)
        return {objective.name: self._recorded(objective, batch, False)[1] for objective in self.objectives}

    def _recorded(self, objective: Objective, batch: TensorDictBase, shared_only: bool) -> tuple[TensorDict, Tensor]:
        """What the objective returns, and the Gramian of its losses' gradients."""
        assert objective.loss is not None
        tape = self._tapes[objective.name]
        with tape.record(), self._autocast():
            out = objective.loss(batch)
        return out, tape.gramian(out["loss"], shared_only)

    def _learn(self, objective: Objective, weighting: Weighting, batch: TensorDictBase) -> None:
        """One step of what the weighting learns, after the objective's."""
        optimizer = self.optimizers.get(f"{objective.name}/weighting")
        if optimizer is None:
            return
        if weighting.evaluates_again:
            with torch.no_grad():
                # In a copy: what the first evaluation wrote for the objectives after it stays.
                weighting.learn(self.ranks.mean(self._evaluate(objective, batch.copy())["loss"]))
        optimizer.step()
        weighting.after_step()

    def _step_shared(self, objective: Objective) -> dict[str, Tensor]:
        """One step along the gradients that this update's losses have added up, and an empty sum for the next."""
        flat = self._grads[objective.name].flat
        norm = torch.linalg.vector_norm(flat)
        self._adam(objective)
        flat.zero_()
        return {f"{objective.name}/grad_norm": norm}

    def _adam(self, objective: Objective) -> None:
        for parameter, gradient in zip(objective.params, self._grads[objective.name].own, strict=True):
            parameter.grad = gradient
        self.optimizers[objective.name].step()


def _norm(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """L2 norm of all entries of all tensors, a 0-d tensor."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))  # pyright: ignore[reportArgumentType]


def param_count(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
