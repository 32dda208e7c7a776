"""The contract of a policy."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Policy(nn.Module, ABC):
    """A distribution over actions ``[*batch, action_dim]`` in (-1, 1), given observations and tasks.

    Built by a factory that is called with ``obs_dim, action_dim, num_tasks``, the values of its yaml in ``conf/actor``,
    and ``network``, itself a factory called with ``in_dim, out_dim, num_tasks, head_bound``. In all methods ``obs`` is
    ``[*batch, obs]``, ``noise`` standard normal ``[*batch, action]``, and ``task`` ``[*batch]``, None where row t of
    the batch is task t.
    """

    action_dim: int
    num_tasks: int
    net: nn.Module
    """The network to look into, called with ``obs``."""

    @abstractmethod
    def sample(self, obs: Tensor, noise: Tensor, task: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """An action that is a differentiable function of ``noise``, and its log-density ``[*batch]``."""

    @abstractmethod
    def mode(self, obs: Tensor, task: Tensor | None = None) -> Tensor:
        """The deterministic action, for evaluation."""

    def act(self, obs: Tensor, noise: Tensor, task: Tensor | None = None) -> Tensor:
        """The action of `sample` without its density, for collection."""
        return self.sample(obs, noise, task)[0]

    def log_prob(self, obs: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        """The log-density ``[*batch]`` of given actions, for on-policy methods; not every policy has one."""
        raise NotImplementedError(f"{type(self).__name__} has no log_prob")

    def own(self, actions: Tensor, task: Tensor | None = None) -> Tensor:
        """``actions [*batch, action]`` with zeros where a task has none, for suites whose tasks have fewer than
        others.
        """
        return actions
