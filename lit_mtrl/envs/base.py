"""The contract of an environment suite; free of PyTorch and TorchRL, so that evaluation processes start fast.

A **suite** (`Suite`) is a small picklable description: it names its tasks in one-hot order, states sizes, horizon and
goals, and builds single task environments. It travels to worker processes, which build only the tasks that they own.

A **task environment** (`TaskEnv`) is plain NumPy: ``reset(goal)`` starts an episode on one of ``num_goals`` variations
and ``step`` advances it. It never truncates and never resets itself: the horizon belongs to its caller. `reset` must
forget the past: the same goal and actions give the same episode, whatever was played before.

`lit_mtrl.envs.vector.VectorEnv` drives many of them as one TorchRL `EnvBase` of batch size ``[tasks * copies]`` and
owns what suites share: goals drawn anew at every reset, seeds, truncation at the horizon, the true last observation
(under ``next``, taken before the reset), success latched over the episode, and episode statistics. A suite with a
faster backend overrides `Suite.vector_class` and what `VectorEnv` does with task environments: ``_open``, ``_seed``,
``_begin``, ``_advance``, ``_shut``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    from lit_mtrl.envs.vector import VectorEnv


class TaskEnv(Protocol):
    """One task; see the module's text."""

    def reset(self, goal: int) -> NDArray: ...

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool]:
        """Observation, reward, terminated, success after ``action`` (float32, in [-1, 1])."""
        ...

    def close(self) -> None: ...


class Suite(ABC):
    """A list of tasks and how to build them; picklable. Every suite inherits from it.

    ``threaded``: its vector environment steps in threads of its own, so one process collects from all tasks.
    """

    threaded: bool = False

    tasks: Sequence[str]
    obs_dim: int
    action_dim: int
    horizon: int
    num_goals: int

    @abstractmethod
    def make(self, task: int) -> TaskEnv:
        """The environment of task index ``task``."""

    @abstractmethod
    def tags(self) -> dict[str, str]:
        """What a table of results must state: backend, rewards, horizon, goals."""

    def check(self) -> None:  # noqa: B027
        """Raise `ConfigError` on what the installed backend lacks; asked before a run starts, and too slow for the
        constructor.
        """

    def vector_class(self) -> type[VectorEnv] | None:
        """What steps many environments at once, where the suite has something faster than `VectorEnv` itself."""
        return None
