"""What one update does for an objective: losses, weights, step, report."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from lit_mtrl.algos.base import Objective
from lit_mtrl.core.errors import PAGE, ConfigError
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.nets.tape import Tape
from lit_mtrl.training.memory import GradientMemory
from lit_mtrl.training.metrics import report
from lit_mtrl.training.modes import Loss
from lit_mtrl.weighting.base import Weighting


@dataclass
class ObjectiveUpdate:
    """One step along the weighted gradients of an objective's losses.

    objective: what is minimised.
    loss: its loss, as the engine's mode executes it.
    eager_loss: the same, never compiled, for a Gramian.
    tape: watches it then.
    weighting: of the tasks' losses.
    gradients: memory of those of the objective's parameters.
    optimizer: of these parameters.
    weighting_optimizer: of what the weighting learns, None if it learns nothing.
    ranks: the losses that the weighting sees are averaged over them.
    """

    objective: Objective
    loss: Loss
    eager_loss: Loss
    tape: Tape
    weighting: Weighting
    gradients: GradientMemory
    optimizer: torch.optim.Optimizer
    weighting_optimizer: torch.optim.Optimizer | None
    ranks: Ranks

    def __call__(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Metrics of the step on ``batch [T, b]``, `report`'s; what the loss writes into the batch stays there."""
        out, losses, gramian = self.evaluate(batch)
        weights = self.weighting(losses, gramian)
        self.require_one_per_task(weights, f"weighting.{self.objective.name}", self.weighting, "forward")
        norm = self.step((weights * out["loss"]).sum())
        self.teach_weighting(batch)
        return report(self.objective.name, out, losses, gramian, self.weighting, weights, norm)

    def evaluate(self, batch: TensorDictBase) -> tuple[TensorDict, Tensor, Tensor | None]:
        """What the loss returns, and what the weighting sees: losses ``[T]`` without graph, and the Gramian ``[T, T]``
        of their gradients if it asks for that.
        """
        if self.weighting.reads_gramian:
            out, gramian = self.evaluate_with_gramian(batch, self.weighting.shared_only)
        else:
            out, gramian = self.loss(batch), None
        self.require_one_per_task(out["loss"], "algo", self.objective.loss, "the loss")
        losses = out["loss"].detach()
        return out, self.ranks.mean(losses) if self.weighting.reads_losses else losses, gramian

    def require_one_per_task(self, numbers: object, key: str, whose: object, what: str) -> None:
        """`ConfigError` unless ``numbers`` are a tensor ``[T]``; others would be broadcast, and trained on."""
        shape = getattr(numbers, "shape", None)
        if shape != (self.weighting.num_tasks,):
            owner = getattr(whose, "__self__", whose)
            gave = type(numbers).__name__ if shape is None else list(shape)
            said = f"{key} ({type(owner).__name__}): {what} of '{self.objective.name}' is {gave}"
            raise ConfigError(f"{said}; it must be [T] = [{self.weighting.num_tasks}], one number per task; see {PAGE}")

    def evaluate_with_gramian(self, batch: TensorDictBase, shared_only: bool = False) -> tuple[TensorDict, Tensor]:
        """What the loss returns, and the Gramian of its gradients; ``shared_only``: by parameters that tasks share."""
        with self.tape.record():
            out = self.eager_loss(batch)
        return out, self.tape.gramian(out["loss"], shared_only)

    def step(self, total: Tensor) -> Tensor:
        """Move the parameters against the clipped gradient of ``total``; its norm before clipping."""
        self.gradients.fill(total)
        norm = self.gradients.clip(self.objective.max_grad_norm)
        self.gradients.hand_over()
        self.optimizer.step()
        return norm

    def teach_weighting(self, batch: TensorDictBase) -> None:
        """One step of what the weighting learns, after that of the parameters."""
        if self.weighting_optimizer is None:
            return
        if self.weighting.evaluates_again:
            with torch.no_grad():
                # In a copy: what the first evaluation wrote for the objectives after it stays.
                self.weighting.learn(self.ranks.mean(self.loss(batch.copy())["loss"]))
        self.weighting_optimizer.step()
        self.weighting.after_step()


@dataclass
class SharedUpdate:
    """One step of what objectives share, along the sum of the gradients that they have left in ``gradients``."""

    objective: Objective
    gradients: GradientMemory
    optimizer: torch.optim.Optimizer

    def __call__(self) -> dict[str, Tensor]:
        """Metrics of the step; the sum is empty afterwards."""
        norm = self.gradients.clip(None)
        self.gradients.hand_over()
        self.optimizer.step()
        self.gradients.flat.zero_()
        return {f"{self.objective.name}/grad_norm": norm}
