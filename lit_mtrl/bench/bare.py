"""Environments stepped without TorchRL, replay or learner, the tasks split over processes as `TaskCollector` splits
them: what collection is compared with. Actions are random.
"""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lit_mtrl.core.processes import die_with_parent
from lit_mtrl.envs.base import Suite, TaskEnv
from lit_mtrl.envs.metaworld import MetaWorld
from lit_mtrl.envs.vector import vector_env
from lit_mtrl.policies.base import Policy

FRAME_SKIP = 5
"""Physics steps of one of Meta-World's environment steps."""


class Cores:
    """Processes that own some of the tasks and do what they are asked, all at once; PyTorch has one thread in each.

    ``run("environment", n)`` makes n steps in every environment, together where the suite has something that steps many
    (`Suite.vector_class`), ``"physics"`` (Meta-World only) the physics of as many, one by one, ``"policy"`` n forward
    passes of ``actor`` on the observations of the process' environments.
    """

    def __init__(self, suite: Suite, workers: int, copies: int = 1, actor: Policy | None = None):
        tasks = len(suite.tasks)
        context = multiprocessing.get_context("spawn")
        actor = None if actor is None else copy.deepcopy(actor).cpu().requires_grad_(False)
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for w in range(workers):
            owned = list(range(w * tasks // workers, (w + 1) * tasks // workers))
            pipe, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, suite, owned, copies, actor), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(pipe)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def run(self, what: str, steps: int) -> None:
        """Have all do it, and wait for the last."""
        for pipe in self._pipes:
            pipe.send((what, steps))
        for pipe in self._pipes:
            pipe.recv()

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join()


def policy_passes(actor: Policy, suite: Suite, tasks: Sequence[int]) -> Callable[[int], None]:
    """A function of n that makes n forward passes of ``actor`` for one observation of each of ``tasks``, noise
    included.
    """
    device = next(actor.parameters()).device
    task = torch.tensor(tasks, device=device)
    obs = torch.randn(len(tasks), suite.obs_dim, device=device)

    @torch.no_grad()
    def passes(n: int) -> None:
        for _ in range(n):
            actor.sample(obs, torch.randn(len(tasks), suite.action_dim, device=device), task)[0].cpu()

    return passes


def _serve(pipe: Connection, suite: Suite, owned: list[int], copies: int, actor: Policy | None) -> None:
    """Runs in the process: answer every order with None when it is done."""
    die_with_parent()
    torch.set_num_threads(1)
    todo = jobs(suite, owned, copies, actor)
    pipe.send(None)
    while True:
        try:
            what, steps = pipe.recv()
        except EOFError:
            return
        todo[what](steps)
        pipe.send(None)


def jobs(suite: Suite, tasks: list[int], copies: int, actor: Policy | None) -> dict[str, Callable[[int], None]]:
    """What `Cores.run` can be asked for, on ``copies`` environments of each of ``tasks``; see there."""
    owned = [task for task in tasks for _ in range(copies)]
    together = suite.vector_class() is not None
    out: dict[str, Callable[[int], None]] = {
        "environment": _together(suite, tasks, copies) if together else _one_by_one(suite, owned)
    }
    if isinstance(suite, MetaWorld):
        out["physics"] = _physics(suite, owned)
    if actor is not None:
        out["policy"] = policy_passes(actor, suite, owned)
    return out


def _together(suite: Suite, tasks: list[int], copies: int) -> Callable[[int], None]:
    env = vector_env(suite, tasks, copies)
    env.set_seed(0)
    env.reset()
    n, length = len(tasks) * copies, 0
    actions = np.random.default_rng(0).uniform(-1, 1, (100, n, suite.action_dim)).astype(np.float32)
    obs, reward = np.zeros((n, suite.obs_dim), np.float32), np.zeros((n, 1), np.float32)
    terminated = np.zeros((n, 1), bool)

    def steps(number: int) -> None:
        nonlocal length
        for _ in range(number):
            env._advance(actions[length % len(actions)], obs, reward, terminated)
            length += 1
            if length % suite.horizon == 0:
                env._begin(range(n), obs)

    return steps


def _one_by_one(suite: Suite, owned: list[int]) -> Callable[[int], None]:
    rng = np.random.default_rng(0)
    envs: list[TaskEnv] = [suite.make(task) for task in owned]
    lengths = np.zeros(len(owned), int)
    for env in envs:
        env.reset(0)

    def steps(n: int) -> None:
        for action in rng.uniform(-1, 1, (n, suite.action_dim)).astype(np.float32):
            for i, (env, task) in enumerate(zip(envs, owned, strict=True)):
                _, _, terminated, _ = env.step(action[: suite.action_dims[task]])
                lengths[i] += 1
                if terminated or lengths[i] >= suite.horizons[task]:
                    env.reset(int(rng.integers(suite.num_goals)))
                    lengths[i] = 0

    return steps


def _physics(suite: MetaWorld, owned: list[int]) -> Callable[[int], None]:
    """The hand walks at random, as far per step as an action can take it."""
    import mujoco

    rng = np.random.default_rng(0)
    bodies: list[tuple[Any, Any, NDArray, NDArray]] = []
    for task in owned:
        env = suite.make_official(task)
        env.reset(0)
        inner = env.official
        bodies.append((inner.model, inner.data, inner.mocap_low, inner.mocap_high))

    def steps(n: int) -> None:
        moves = rng.uniform(-1, 1, (n, 4))
        for model, data, low, high in bodies:
            for move in moves:
                data.mocap_pos[0] = np.clip(data.mocap_pos[0] + move[:3] / 100, low, high)
                data.ctrl[:] = move[3], -move[3]
                mujoco.mj_step(model, data, FRAME_SKIP)  # pyright: ignore[reportAttributeAccessIssue]
                mujoco.mj_forward(model, data)  # pyright: ignore[reportAttributeAccessIssue]

    return steps
