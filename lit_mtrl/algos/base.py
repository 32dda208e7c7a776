"""The contract of an algorithm: an ordered set of objectives on batches whose row t is task t."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from lit_mtrl.core.errors import require
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.policies.acting import ActingPolicy
from lit_mtrl.policies.tanh_gaussian import TanhGaussian


@dataclass(frozen=True)
class Objective:
    """One loss with the parameters it moves.

    ``loss(batch [T, b]) -> TensorDict [T]``: key ``"loss"`` is minimised, every other key is a metric per task.
    Objectives of an update run in order on the same batch and may write into it for those after them. A weighting may
    ask for the loss again after the step: noise is in the batch (see `Algorithm.draw`) and targets are kept there (see
    `once`), so that only the parameters differ. A loss must not wait for the device, nor choose by values in Python: it
    may be compiled or recorded.

    ``loss=None`` is for parameters that several networks share: they take one step at the end of an update, along the
    sum of the gradients of all its losses.
    """

    name: str
    loss: Callable[[TensorDictBase], TensorDict] | None
    params: tuple[nn.Parameter, ...]
    lr: float
    eps: float = 1e-5
    max_grad_norm: float | None = None
    every: int = 1

    def __post_init__(self) -> None:
        require(self.lr > 0, f"algo.{self.name}_lr={self.lr}: learning rates are positive")
        require(self.every > 0, f"{self.name}: every={self.every} must be at least 1")
        norm = self.max_grad_norm
        require(norm is None or norm > 0, f"algo.max_grad_norm={norm}: give a positive norm, or null for no clipping")


def once(batch: TensorDictBase, key: str, make: Callable[[], Tensor]) -> Tensor:
    """``batch[key]``, made by ``make`` at the first call."""
    if key not in batch.keys():
        batch.set(key, make())
    return batch[key]


class Algorithm(nn.Module):
    """Owns the networks and says what is minimised, in which order.

    ``ranks``: the processes that train together, each on its part of a batch ``[T, b]``. The engine averages losses and
    gradients over them; a loss asks `Ranks.mean` itself where a choice depends on a mean over the batch.
    """

    actor: TanhGaussian
    num_tasks: int
    ranks = Ranks()

    @property
    def policy(self) -> TanhGaussian:
        """The policy that is evaluated: ``policy.mode(obs, task)`` is its action."""
        raise NotImplementedError

    def objectives(self) -> tuple[Objective, ...]:
        """The objectives in the order of the update; the engine asks once the module is on its device."""
        raise NotImplementedError

    def acting_policy(self) -> ActingPolicy:
        """The policy that collects data; it shares the actor's parameters."""
        return ActingPolicy(self.actor)

    def networks(self) -> dict[str, nn.Module]:
        """The networks to look into, each called with ``[T, b, in]``; of an ensemble every copy alone."""
        raise NotImplementedError

    def inputs(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """What each of `networks` sees of ``batch [T, b]``; actions are drawn from the policy."""
        raise NotImplementedError

    def draw(self, batch: TensorDictBase) -> None:
        """Write the random numbers of an update into ``batch [*, T, b]``, one chunk or one batch; nothing else in an
        update is random.
        """

    def prepare(self, data: TensorDictBase) -> TensorDictBase:
        """Once per collected batch ``[n, T]``: advantages, returns. Off-policy: the identity."""
        return data

    def after_update(self) -> None:
        """After every update: target networks, weight projections."""
