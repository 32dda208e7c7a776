"""Runs K updates of an algorithm on one chunk without a host synchronisation.

Modes: ``eager``, one operation at a time; ``compile``, losses and their gradients compiled by TorchInductor;
``cudagraph``, whole updates replayed as CUDA graphs; ``compile+cudagraph``, graphs of compiled losses. All give the
same numbers up to rounding. Objectives whose weighting reads a Gramian are not compiled (their layers are watched);
they are recorded in graphs like all others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from lit_mtrl.algos.base import Algorithm, Objective
from lit_mtrl.core.errors import require
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.nets.tape import Tape
from lit_mtrl.training.memory import Backward, allocate
from lit_mtrl.training.metrics import Due, Sums, norm
from lit_mtrl.training.modes import Graphs, in_mode, in_precision, resolve_mode
from lit_mtrl.training.update import ObjectiveUpdate, SharedUpdate
from lit_mtrl.weighting.base import Weighting
from lit_mtrl.weighting.mean import Mean


class Engine:
    """Optimizers, gradient clipping, weightings and metrics around an algorithm's objectives.

    algorithm: on its device; its objectives are asked for once, here.
    weightings: of objectives, by name; those without one are averaged over tasks.
    mode: how an update is executed; ``auto`` for ``cudagraph`` on a GPU and ``eager`` elsewhere.
    precision: of the networks' products: ``fp32``, ``tf32`` (GPUs; for the whole process), or ``bf16`` by autocast,
        parameters and everything behind the networks' outputs staying as they are.
    ranks: with several, each calls the engine with its own part of every batch; gradients, and the losses and Gramians
        that weightings see, are averages over them. There is one all-reduce for an objective's gradients, those of what
        it shares included; before it one for the losses, if the weighting looks at them, and for a Gramian one
        all-gather of what its layers saw.
    backward: puts averaged gradients into ``.grad`` itself (PyTorch's DDP); None for the engine's own all-reduce.

    ``objectives`` are those with a loss, ``weightings`` theirs by name. ``optimizers`` are those of all objectives, by
    name, and ``"<objective>/weighting"`` for weightings that learn. ``updates`` counts updates.

    Raises `ConfigError` on a mode or precision that the device does not have, and on a weighting without objective.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        weightings: Mapping[str, Weighting] | None = None,
        mode: str = "eager",
        precision: str = "fp32",
        ranks: Ranks | None = None,
        backward: Backward | None = None,
    ):
        self.algorithm, self.ranks = algorithm, ranks or Ranks()
        algorithm.ranks = self.ranks
        device = next(algorithm.parameters()).device.type
        self.mode = resolve_mode(mode, precision, device)
        if device == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        self.updates = 0
        self._all = algorithm.objectives()
        self.objectives = tuple(o for o in self._all if o.loss is not None)
        self.weightings = _for_all(self.objectives, weightings or {}, algorithm.num_tasks)
        self.optimizers = {o.name: o.optimizer(o.params) for o in self._all}
        learning = {f"{name}/weighting": weighting.optimizer() for name, weighting in self.weightings.items()}
        self.optimizers |= {name: optimizer for name, optimizer in learning.items() if optimizer is not None}
        self.parts, self.shared = self._build_parts(precision, device, backward)
        self._sums = Sums(self.ranks)
        self._execute = self._update_and_sum
        if "cudagraph" in self.mode:
            self._execute = Graphs(self._update_and_sum, self.optimizers.values())

    def run(self, chunk: TensorDictBase) -> tuple[TensorDict, TensorDict]:
        """K updates on ``chunk [K, T, b]``, already on the learner's device.

        Returns the means over the updates of the metrics per task, ``"<objective>/<key>" [T]``, and of single ones,
        ``"<objective>/grad_norm" []``, with ``"<objective>/param_norm" []`` after the last update.
        ``"<objective>/finite"`` is the share of updates in which the task's loss was finite, and its gradient, if a
        weighting looks at it: the task with the smallest broke first.
        """
        chunk = chunk.copy()
        self.algorithm.on_sample(chunk)
        self._sums.reset()
        counts: Counter[Due] = Counter()
        for batch in chunk.unbind(0):
            due = self._due()
            self._execute(due, batch)
            counts[due] += 1
            self.updates += 1
        means = self._sums.means(counts)
        means |= {f"{o.name}/param_norm": norm([p.detach() for p in o.params]) for o in self._all}
        per_task = {key: value for key, value in means.items() if value.ndim}
        single = {key: value for key, value in means.items() if not value.ndim}
        return TensorDict(per_task, [self.algorithm.num_tasks]), TensorDict(single, [])

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """One update on ``batch [T, b]``: every objective that is due, in order, then the algorithm's ``after_update``.

        What objectives write into the batch stays out of the caller's. Never as a graph; its metrics are not summed.
        """
        batch = batch.copy()
        self.algorithm.on_sample(batch)
        metrics = self._update(self._due(), batch)
        self.updates += 1
        return metrics

    def gramians(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Inner products ``[T, T]`` of the tasks' gradients, of every objective on ``batch [T, b]``; nothing moves."""
        batch = batch.copy()
        self.algorithm.on_sample(batch)
        return {name: part.evaluate_with_gramian(batch)[1] for name, part in self.parts.items()}

    def _due(self) -> Due:
        """The objectives that take part in the next update."""
        return tuple(o.name for o in self.objectives if self.updates % o.every == 0)

    def _update(self, due: Due, batch: TensorDictBase) -> dict[str, Tensor]:
        """One update: every objective that is ``due``, in order, then what they share; its metrics."""
        batch, metrics = batch.copy(), {}
        for name in due:
            metrics |= self.parts[name](batch)
        if self.shared is not None:
            metrics |= self.shared()
        self.algorithm.after_update()
        return metrics

    def _update_and_sum(self, due: Due, batch: TensorDictBase) -> None:
        """One update, its metrics added to the sums of its kind."""
        self._sums.add(due, self._update(due, batch))

    def _build_parts(
        self, precision: str, device: str, backward: Backward | None
    ) -> tuple[Mapping[str, ObjectiveUpdate], SharedUpdate | None]:
        """What an update does for each objective with a loss, by name, and for the one without."""
        shared = [o for o in self._all if o.loss is None]
        assert len(shared) <= 1, "an algorithm has one objective without a loss at most"
        gradients = allocate(self.objectives, shared[0] if shared else None, self.ranks, backward)
        eager = {o.name: o.loss for o in self.objectives if o.loss is not None}
        watched = [name for name, weighting in self.weightings.items() if weighting.reads_gramian]
        losses = in_mode(eager, self.mode, watched)
        parts = {
            o.name: ObjectiveUpdate(
                objective=o,
                loss=in_precision(losses[o.name], precision, device),
                eager_loss=in_precision(eager[o.name], precision, device),
                tape=Tape(self.algorithm, o.params, self.ranks),
                weighting=self.weightings[o.name],
                gradients=gradients[o.name],
                optimizer=self.optimizers[o.name],
                weighting_optimizer=self.optimizers.get(f"{o.name}/weighting"),
                ranks=self.ranks,
            )
            for o in self.objectives
        }
        last = [SharedUpdate(o, gradients[o.name], self.optimizers[o.name]) for o in shared]
        return parts, last[0] if last else None


def _for_all(
    objectives: Sequence[Objective], weightings: Mapping[str, Weighting], num_tasks: int
) -> dict[str, Weighting]:
    """A weighting for each of ``objectives``, by name: the mean for those that ``weightings`` does not name."""
    strangers = set(weightings) - {o.name for o in objectives}
    require(not strangers, f"weighting.{'/'.join(sorted(strangers))}: the algorithm has no such objective")
    mean = Mean(num_tasks)
    return {o.name: weightings.get(o.name) or mean for o in objectives}
