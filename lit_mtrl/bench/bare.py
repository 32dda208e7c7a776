"""Environments stepped without TorchRL, replay or learner: what collection is compared with. Actions are random.

`Cores` steps a suite's own environments, the tasks split over processes as `TaskCollector` splits them; `Pools` steps
EnvPool.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lit_mtrl.core.processes import die_with_parent
from lit_mtrl.envs.base import Suite, TaskEnv
from lit_mtrl.envs.metaworld import MetaWorld
from lit_mtrl.policies.base import Policy

FRAME_SKIP = 5
"""Physics steps of one of Meta-World's environment steps."""


class Cores:
    """Processes on one thread each, that own some of the tasks and do what they are asked, all at once.

    ``run("environment", n)`` makes n steps in every environment, ``"physics"`` (Meta-World only) the physics of as
    many, ``"policy"`` n forward passes of ``actor`` on the observations of the process' environments.
    """

    def __init__(self, suite: Suite, workers: int, copies: int = 1, actor: Policy | None = None):
        tasks = len(suite.tasks)
        context = multiprocessing.get_context("spawn")
        actor = None if actor is None else copy.deepcopy(actor).cpu().requires_grad_(False)
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for w in range(workers):
            owned = [task for task in range(w * tasks // workers, (w + 1) * tasks // workers) for _ in range(copies)]
            pipe, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, suite, owned, actor), daemon=True)
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


class Pools:
    """One EnvPool per task with ``copies`` environments: all pools are sent actions, then received."""

    def __init__(self, tasks: Sequence[str], copies: int, horizon: int):
        import envpool

        from lit_mtrl.envs.envpool import env_id

        self._ids = np.arange(copies, dtype=np.int32)
        self._actions = np.random.default_rng(0).uniform(-1, 1, (100, len(tasks), copies, 4)).astype(np.float32)
        self._pools = [
            envpool.make(
                env_id(task),
                env_type="gymnasium",
                num_envs=copies,
                num_threads=min(copies, -(-len(os.sched_getaffinity(0)) // len(tasks))),
                seed=seed,
                max_episode_steps=horizon,
                partially_observable=False,
            )
            for seed, task in enumerate(tasks)
        ]
        for pool in self._pools:
            pool.reset()

    def step(self, steps: int) -> None:
        """Steps of every environment; one that is done is reset at its next step."""
        for i in range(steps):
            for pool, action in zip(self._pools, self._actions[i % len(self._actions)], strict=True):
                pool.send(action, self._ids)
            for pool in self._pools:
                pool.recv()

    def close(self) -> None:
        """End the pools' threads."""
        for pool in self._pools:
            pool.close()


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


def _serve(pipe: Connection, suite: Suite, owned: list[int], actor: Policy | None) -> None:
    """Runs in the process: answer every order with None when it is done."""
    die_with_parent()
    torch.set_num_threads(1)
    todo = jobs(suite, owned, actor)
    pipe.send(None)
    while True:
        try:
            what, steps = pipe.recv()
        except EOFError:
            return
        todo[what](steps)
        pipe.send(None)


def jobs(suite: Suite, owned: list[int], actor: Policy | None) -> dict[str, Callable[[int], None]]:
    """What `Cores.run` can be asked for, on environments of the tasks ``owned``; see there."""
    out: dict[str, Callable[[int], None]] = {"environment": _environments(suite, owned)}
    if isinstance(suite, MetaWorld):
        out["physics"] = _physics(suite, owned)
    if actor is not None:
        out["policy"] = policy_passes(actor, suite, owned)
    return out


def _environments(suite: Suite, owned: list[int]) -> Callable[[int], None]:
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
