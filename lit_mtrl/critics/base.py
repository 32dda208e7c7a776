"""The contract of a critic: it owns its target, its loss and its value; algorithms never look into a prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Critic(nn.Module, ABC):
    """``size`` critics of state and action, as one module.

    Built by a factory that is called with ``obs_dim, action_dim, num_tasks``, the values of its yaml in
    ``conf/critic``, and ``network``, itself a factory called with ``in_dim, out_dim, num_tasks, head_bound``.

    What `forward` returns, a *prediction* ``[size, *batch, ...]``, may be values, logits or quantiles; what `target`
    returns is whatever `loss` compares it with.
    """

    @abstractmethod
    def forward(self, obs: Tensor, action: Tensor, task: Tensor | None = None, frozen: bool = False) -> Tensor:
        """The prediction at ``obs [*batch, obs]`` and ``action [*batch, action]``.

        task: ``[*batch]``, None where row t of the batch is task t.
        frozen: gradients reach the action, not the parameters.
        """

    @abstractmethod
    def target(self, prediction: Tensor, reward: Tensor, discount: Tensor, bonus: Tensor) -> Tensor:
        """``[*batch, ...]``: what the prediction before a step should have been, reward + discount (value + bonus).

        prediction: of the target critics at the next state and action.
        reward, discount: ``[*batch]``; the discount is zero after a terminal state.
        bonus: ``[*batch]``, what is added to the next value, such as an entropy.
        """

    @abstractmethod
    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``[size, *batch]``: of each critic and sample; zero, with a zero gradient, where both are zero."""

    @abstractmethod
    def values(self, prediction: Tensor) -> Tensor:
        """``[size, *batch]``: the value that each critic predicts."""

    @abstractmethod
    def value(self, prediction: Tensor) -> Tensor:
        """``[*batch]``: the value that all of them stand for, such as the smallest."""

    def networks(self) -> dict[str, nn.Module]:
        """The networks to look into, by name, each called with `inputs`; of several critics every one alone."""
        return {}

    def inputs(self, obs: Tensor, action: Tensor) -> Tensor:
        """What each of `networks` sees."""
        raise NotImplementedError
