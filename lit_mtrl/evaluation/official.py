"""Meta-World's own ``evaluation()``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from lit_mtrl.core.errors import require
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.core.signals import starting_processes
from lit_mtrl.evaluation.evaluator import Episodes

if TYPE_CHECKING:
    import gymnasium

    from lit_mtrl.envs.base import Suite
    from lit_mtrl.policies.base import Policy


class OfficialEvaluator:
    """Meta-World's own ``evaluation()`` on its own wrapped environments, for comparison with `Evaluator`.

    Same tasks, horizon, rewards and goals; but goals are drawn with replacement, and success is only known per task:
    ``success`` is ``[T, 1]`` and ``lengths`` are NaN. ``workers=1`` steps the tasks in this process, else each has a
    process. Of several ``ranks`` the first plays it. ``tasks``: numbers of those whose results are wanted; all are
    played, since they act in one batch.
    """

    def __init__(
        self,
        suite: Suite,
        episodes: int = 50,
        workers: int = 0,
        ranks: Ranks | None = None,
        tasks: Sequence[int] | None = None,
    ):
        from lit_mtrl.envs.metaworld import MetaWorld

        require(isinstance(suite, MetaWorld), "eval.protocol=official: exists for env=metaworld only; use every_goal")
        self.suite, self.episodes, self.workers = cast(MetaWorld, suite), episodes, workers
        self._ranks, self.tasks = ranks or Ranks(), range(len(suite.tasks)) if tasks is None else tasks
        self._envs: gymnasium.vector.VectorEnv | None = None

    def run(self, actor: Policy) -> Episodes:
        """Evaluate the actor's present weights."""
        return self._ranks.first(None if self._ranks.rank else self._play(actor))  # pyright: ignore[reportReturnType]

    def _play(self, actor: Policy) -> Episodes:
        from metaworld.evaluation import evaluation

        if self._envs is None:
            with starting_processes():
                self._envs = self.suite.official_vector(in_processes=self.workers != 1)
        agent = _OfficialAgent(actor, len(self.suite.tasks))
        _, _, success, returns = evaluation(agent, self._envs, self.episodes)  # pyright: ignore[reportArgumentType]
        names = [f"{self.suite.tasks[task]}-v3" for task in self.tasks]
        rates = np.array([[success[name]] for name in names])
        return Episodes(rates, np.array([returns[name] for name in names]), np.full_like(rates, np.nan))

    def close(self) -> None:
        """End the environments."""
        if self._envs is not None:
            self._envs.close()
            self._envs = None


class _OfficialAgent:
    def __init__(self, actor: Policy, num_tasks: int):
        self.actor, self.task = actor, torch.arange(num_tasks)

    @torch.inference_mode()
    def eval_action(self, observations: NDArray) -> NDArray:
        device = next(self.actor.parameters()).device
        obs = torch.from_numpy(observations.astype(np.float32)).to(device)
        return self.actor.mode(obs, self.task.to(device)).cpu().numpy()

    def reset(self, env_mask: NDArray) -> None:
        """Nothing to forget: the policy has no memory."""
