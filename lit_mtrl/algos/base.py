"""The contract of an algorithm: an ordered set of objectives on batches whose row t is task t."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torch import Tensor, nn

from lit_mtrl.core.errors import require
from lit_mtrl.core.keys import ACTION, NEXT_OBS, OBS, REWARD, TERMINATED
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.policies.acting import ActingPolicy
from lit_mtrl.policies.base import Policy

OptimizerFactory = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]


def adam(lr: float, eps: float, key: str) -> OptimizerFactory:
    """A factory of fused Adam; `ConfigError` that names ``key``, the configuration's name of ``lr``, if it is wrong."""
    require(lr > 0, f"{key}={lr}: learning rates are positive")
    return partial(torch.optim.Adam, lr=lr, eps=eps, fused=True)


@dataclass(frozen=True)
class Objective:
    """One loss with the parameters it moves.

    Objectives of an update run in order on the same batch and may write into it for those after them. A weighting may
    ask for the loss again after the step: noise is in the batch (see `Algorithm.on_sample`) and targets are kept there
    (see `once`), so that only the parameters differ. A loss must not wait for the device, nor choose by values in
    Python: it may be compiled or recorded.

    name: what its metrics, its weighting and its optimizer are called by.
    loss: ``loss(batch [T, b]) -> TensorDict [T]``: key ``"loss"`` is minimised, every other key is a metric per task. A
        loss of exactly zero means that the task takes no part in this update. None for parameters that several networks
        share: they take one step at the end of an update, along the sum of the gradients of all its losses.
    params: what it moves, and no other objective.
    optimizer: called with ``params``, makes what moves them; see `adam`.
    max_grad_norm: the gradient of all ``params`` together is scaled down to this norm; None for no clipping.
    every: it takes part in one update of so many, beginning with the first.
    """

    name: str
    loss: Callable[[TensorDictBase], TensorDict] | None
    params: tuple[nn.Parameter, ...]
    optimizer: OptimizerFactory
    max_grad_norm: float | None = None
    every: int = 1

    def __post_init__(self) -> None:
        require(self.every > 0, f"{self.name}: every={self.every} must be at least 1")
        norm = self.max_grad_norm
        require(norm is None or norm > 0, f"algo.max_grad_norm={norm}: give a positive norm, or null for no clipping")


def once(batch: TensorDictBase, key: str, make: Callable[[], Tensor]) -> Tensor:
    """``batch[key]``, made by ``make`` at the first call."""
    if key not in batch.keys():
        batch.set(key, make())
    return batch[key]


class Algorithm(nn.Module, ABC):
    """Owns the networks and says what is minimised, in which order.

    Built with a factory for each of ``parts``, with ``obs_dim, action_dim, num_tasks``, and with the values of its yaml
    in ``conf/algo``, which also names its weightings, buffer and collector.

    parts: groups of the configuration that it is built from; each arrives under its name as a factory, called with
        ``obs_dim, action_dim, num_tasks``, and what it makes is kept under that name. ``network.match`` sizes the
        first.
    stored: keys of a transition that the buffer keeps; the task is implied by the row.
    per_task: metrics of its losses that are reported for each task, but for zeros; of others the mean over tasks is.
    ranks: the processes that train together, each on its part of a batch ``[T, b]``. The engine averages losses and
        gradients over them; a loss asks `Ranks.mean` itself where a choice depends on a mean over the batch.
    """

    parts: ClassVar[tuple[str, ...]] = ()
    stored: ClassVar[tuple[NestedKey, ...]] = (OBS, ACTION, NEXT_OBS, REWARD, TERMINATED)
    per_task: ClassVar[tuple[str, ...]] = ()
    num_tasks: int
    ranks = Ranks()

    @property
    @abstractmethod
    def policy(self) -> Policy:
        """The policy that acts and is evaluated."""

    @abstractmethod
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives in the order of the update; the engine asks once the module is on its device."""

    def acting_policy(self) -> ActingPolicy:
        """What collects data, with the parameters of `policy`; it may write log-densities and values as well."""
        return ActingPolicy(self.policy)

    def networks(self) -> dict[str, nn.Module]:
        """The networks to look into, each called with ``[T, b, in]``; of an ensemble every copy alone."""
        return {}

    def inputs(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """What each of `networks` sees of ``batch [T, b]``; actions are drawn from the policy."""
        return {}

    def prepare(self, rollout: TensorDictBase) -> TensorDictBase:
        """Once per iteration, on the learner's device and without gradients: add advantages, returns.

        rollout: ``[T, E, n]``: task, environment of the task, vector step; what it is given and what it returns.
        """
        return rollout

    def on_sample(self, chunk: TensorDictBase) -> None:
        """Before the updates on ``chunk [K, T, b]``, or the one on a batch ``[T, b]``: set the updates' random numbers,
        for nothing else in an update is random, or rescaled rewards. Tensors in it are the caller's: none is changed in
        place.
        """

    def after_update(self) -> None:
        """After every update: target networks, weight projections."""
