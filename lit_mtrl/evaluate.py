"""Deterministic evaluation on environments of its own, spread over the cores."""

from __future__ import annotations

import copy
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from lit_mtrl.policies import TanhGaussian
from lit_mtrl.processes import die_with_parent
from lit_mtrl.spec import require

if TYPE_CHECKING:
    import gymnasium

    from lit_mtrl.envs.base import Suite, TaskEnv


@dataclass(frozen=True)
class Evaluation:
    """Per task and episode, each ``[T, E]``: success (0 or 1), undiscounted return, length in steps."""

    success: NDArray
    returns: NDArray
    lengths: NDArray


class Evaluator:
    """Plays ``episodes`` episodes of every task with the mean action; episode e starts on goal e mod the suite's goals.

    An episode ends at its first success, as in Meta-World's protocol, so returns fall as a policy gets faster.
    ``workers``: processes, each owning some of the tasks, started at the first evaluation and kept; 0 is one per core. 1 plays in
    this process.
    """

    def __init__(self, suite: Suite, episodes: int = 50, workers: int = 0):
        self.suite, self.episodes = suite, episodes
        count = min(workers or len(os.sched_getaffinity(0)), len(suite.tasks))
        self._owned = [list(range(w, len(suite.tasks), count)) for w in range(count)]
        self._pools: list[ProcessPoolExecutor] = []
        self._local: _Player | None = None

    def run(self, actor: TanhGaussian) -> Evaluation:
        """Evaluate the actor's present weights."""
        if len(self._owned) == 1:
            self._local = self._local or _Player(self.suite, self._owned[0], actor, self.episodes)
            parts = [self._local.play({k: v.cpu() for k, v in actor.state_dict().items()})]
        else:
            weights = {k: v.cpu().numpy() for k, v in actor.state_dict().items()}
            jobs = [pool.submit(_play, weights) for pool in self._pools or self._start(actor)]
            parts = [job.result() for job in jobs]
        out = np.empty((3, len(self.suite.tasks), self.episodes), np.float32)
        for owned, part in zip(self._owned, parts, strict=True):
            out[:, owned] = part
        return Evaluation(*out)

    def _start(self, actor: TanhGaussian) -> list[ProcessPoolExecutor]:
        spawn = multiprocessing.get_context("spawn")
        actor = copy.deepcopy(actor).cpu()
        for owned in self._owned:
            arguments = (self.suite, owned, actor, self.episodes)
            self._pools.append(ProcessPoolExecutor(1, spawn, _start_player, arguments))
        return self._pools

    def close(self) -> None:
        """End the worker processes."""
        for pool in self._pools:
            pool.shutdown()
        self._pools = []
        if self._local is not None:
            self._local.close()
            self._local = None


class OfficialEvaluator:
    """Meta-World's own ``evaluation()`` on its own wrapped environments, for comparison with `Evaluator`.

    Same tasks, horizon, rewards and goals; but goals are drawn with replacement, and success is only known per task: ``success`` is ``[T, 1]``
    and ``lengths`` are NaN. ``workers=1`` steps the tasks in this process, else each has a process.
    """

    def __init__(self, suite: Suite, episodes: int = 50, workers: int = 0):
        from lit_mtrl.envs.metaworld import MetaWorld

        require(isinstance(suite, MetaWorld), "eval.protocol=official: exists for env=metaworld only; use every_goal")
        self.suite, self.episodes, self.workers = cast(MetaWorld, suite), episodes, workers
        self._envs: gymnasium.vector.VectorEnv | None = None

    def run(self, actor: TanhGaussian) -> Evaluation:
        """Evaluate the actor's present weights."""
        from metaworld.evaluation import evaluation

        if self._envs is None:
            self._envs = self.suite.official_vector(in_processes=self.workers != 1)
        agent = _OfficialAgent(actor, len(self.suite.tasks))
        _, _, success, returns = evaluation(agent, self._envs, self.episodes)  # pyright: ignore[reportArgumentType]
        names = [f"{task}-v3" for task in self.suite.tasks]
        rates = np.array([[success[name]] for name in names])
        return Evaluation(rates, np.array([returns[name] for name in names]), np.full_like(rates, np.nan))

    def close(self) -> None:
        """End the environments."""
        if self._envs is not None:
            self._envs.close()
            self._envs = None


class _OfficialAgent:
    def __init__(self, actor: TanhGaussian, num_tasks: int):
        self.actor, self.task = actor, torch.arange(num_tasks)

    @torch.inference_mode()
    def eval_action(self, observations: NDArray) -> NDArray:
        device = next(self.actor.parameters()).device
        obs = torch.from_numpy(observations.astype(np.float32)).to(device)
        return self.actor.mode(obs, self.task.to(device)).cpu().numpy()

    def reset(self, env_mask: NDArray) -> None:
        """Nothing to forget: the policy has no memory."""


class _Player:
    def __init__(self, suite: Suite, tasks: Sequence[int], actor: TanhGaussian, episodes: int):
        self.suite, self.tasks, self.episodes = suite, tasks, episodes
        self.actor = copy.deepcopy(actor).cpu().requires_grad_(False)
        self.envs: list[TaskEnv] = [suite.make(task) for task in tasks]

    @torch.inference_mode()
    def play(self, weights: dict[str, torch.Tensor]) -> NDArray:
        """Success, return and length ``[3, tasks, episodes]``; the tasks advance together so that the policy is batched."""
        self.actor.load_state_dict(weights)
        n = len(self.tasks)
        out = np.zeros((3, n, self.episodes), np.float32)
        episode = np.zeros(n, int)
        obs = np.stack([env.reset(0) for env in self.envs]).astype(np.float32)
        task = torch.tensor(self.tasks)
        playing = list(range(n))
        while playing:
            actions = self.actor.mode(torch.from_numpy(obs[playing]), task[playing]).numpy()
            for i, action in zip(list(playing), actions, strict=True):
                obs[i], reward, terminated, success = self.envs[i].step(action)
                result = out[:, i, episode[i]]
                result += (0, reward, 1)
                if success or terminated or result[2] >= self.suite.horizon:
                    result[0] = success
                    episode[i] += 1
                    if episode[i] == self.episodes:
                        playing.remove(i)
                    else:
                        obs[i] = self.envs[i].reset(int(episode[i]) % self.suite.num_goals)
        return out

    def close(self) -> None:
        for env in self.envs:
            env.close()


_player: _Player | None = None


def _start_player(suite: Suite, tasks: Sequence[int], actor: TanhGaussian, episodes: int) -> None:
    global _player
    die_with_parent()
    torch.set_num_threads(1)
    _player = _Player(suite, tasks, actor, episodes)


def _play(weights: dict[str, NDArray]) -> NDArray:
    assert _player is not None
    return _player.play({k: torch.from_numpy(v) for k, v in weights.items()})
