"""The contract of an environment suite; free of PyTorch and TorchRL, so that evaluation processes start fast.

A **suite** (`Suite`) is a small picklable description: it names its tasks in one-hot order, states sizes, horizons and
variations, and says what an agent is judged by. It builds single task environments, and travels to worker processes,
which build only the tasks that they own.

A **task environment** (`TaskEnv`) is plain NumPy: ``reset(variation)`` starts an episode on one of ``num_goals``
variations (Meta-World's are its goals, Gymnasium's are seeds) and ``step`` advances it. It never truncates and never
resets itself: the horizon belongs to its caller. `reset` must forget the past: the same variation and actions give the
same episode, whatever was played before.

**Sizes.** Tasks may differ in observations and actions. A task environment has the sizes of its own task; everybody
else sees the largest of the suite, with zeros at the end. Callers of `TaskEnv` pad observations and cut actions.
Policies know the number of each task's actions and leave the others at zero, out of densities and entropies.

`lit_mtrl.envs.vector.VectorEnv` drives many of them as one TorchRL `EnvBase` of batch size ``[tasks * copies]`` and
owns what suites share: variations drawn anew at every reset, seeds, truncation at the horizon, the true last
observation (under ``next``, taken before the reset), success latched over the episode, and episode statistics. A suite
with a faster backend overrides `Suite.vector_class` and what `VectorEnv` does with task environments: ``_open``,
``_seed``, ``_begin``, ``_advance``, ``_shut``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    from lit_mtrl.envs.vector import VectorEnv


class TaskEnv(Protocol):
    """One task; see the module's text."""

    def reset(self, variation: int, /) -> NDArray:
        """The first observation, of the task's own size."""
        ...

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool]:
        """Observation, reward, terminated, success after ``action`` (float32, in [-1, 1], of the task's own size)."""
        ...

    def close(self) -> None: ...


class Suite(ABC):
    """A list of tasks and how to build them; picklable. Every suite inherits from it.

    ``score``: what an agent is judged by, and what the best checkpoint, the reports and sweeps go by: the share of
    episodes that succeed, or the return. Evaluation episodes end at their first success where that is the score, and
    there alone. ``tasks``: their names, in one-hot order. ``obs_dim``, ``action_dim``, ``horizon``: the largest of all
    tasks. ``num_goals``: variations per task. Training draws from all of them; episode e of an evaluation starts on
    variation e modulo their number. ``ranks``: processes that train on this machine and share its cores, each with
    environments of its own.
    """

    score: ClassVar[Literal["success", "return"]] = "success"
    ranks: int = 1

    tasks: Sequence[str]
    obs_dim: int
    action_dim: int
    horizon: int
    num_goals: int

    @property
    def obs_dims(self) -> Sequence[int]:
        """Numbers in an observation of each task."""
        return [self.obs_dim] * len(self.tasks)

    @property
    def action_dims(self) -> Sequence[int]:
        """Numbers in an action of each task."""
        return [self.action_dim] * len(self.tasks)

    @property
    def horizons(self) -> Sequence[int]:
        """Steps after which an episode of each task is truncated."""
        return [self.horizon] * len(self.tasks)

    @abstractmethod
    def make(self, task: int) -> TaskEnv:
        """The environment of task index ``task``."""

    @abstractmethod
    def tags(self) -> dict[str, str]:
        """What a table of results must state: backend, benchmark, rewards, horizon, goals."""

    def check(self) -> None:  # noqa: B027
        """Raise `ConfigError` on what the installed backend lacks; asked before a run starts, and too slow for the
        constructor.
        """

    def vector_class(self) -> type[VectorEnv] | None:
        """What steps many environments at once, where the suite has something faster than `VectorEnv` itself."""
        return None
