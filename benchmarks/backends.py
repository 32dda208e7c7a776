"""EnvPool against the official Meta-World: the same episodes, the same experts, and how fast.

EnvPool's random numbers are known (MT19937; two words make a double), so the official classes are handed the very
objects and goals that EnvPool draws, and both play the same float32 actions.

1. ``agreement``: per task, largest differences of observations, rewards and successes over whole episodes of 500 steps,
   two with random actions and two with the scripted expert's (seeing the official observation, so that objects are
   moved). ``parts_at`` is the first step at which observations differ by more than 1e-6. EnvPool carries a later MuJoCo
   than the official package; to see the code's differences alone, run it a second time with EnvPool's MuJoCo, which
   goes into a section of its own:

       pip install --no-deps --target /tmp/mujoco mujoco==3.6.0
       PYTHONPATH=/tmp/mujoco python -m benchmarks.backends agreement --json benchmarks/backends.json

2. ``experts``: per task, share of 50 paired episodes in which the scripted expert succeeds, each seeing its own
   backend.
3. ``speed``: MT10, environment steps per second and their ratios, one and four environments per task: EnvPool stepped
   bare (random actions), the whole TorchRL path with a 400x3 policy, gymnasium's AsyncVectorEnv over the official
   ``make_vec``; median over rounds of turns.

    python -m benchmarks.backends agreement experts speed [--tasks reach push] [--episodes 50]
        --json benchmarks/backends.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch
from metaworld.policies import ENV_POLICY_MAP
from numpy.typing import NDArray

from lit_mtrl.envs.benchmarks import MT10, MT50
from lit_mtrl.envs.envpool import SHIFTED, EnvPool, EnvPoolVector, pool_seed
from lit_mtrl.envs.metaworld import MAX_HORIZON, MetaWorld
from lit_mtrl.envs.vector import vector_env

OFFICIAL_MUJOCO = "3.3.0"


class PoolSide:
    """One environment of the EnvPool backend, without TorchRL."""

    def __init__(self, name: str):
        vector = vector_env(EnvPool([name]), [0])
        assert isinstance(vector, EnvPoolVector)
        self.vector = vector
        self._reward, self._terminated = np.empty((1, 1), np.float32), np.empty((1, 1), bool)

    def reset(self) -> NDArray:
        obs = np.empty((1, 39), np.float32)
        self.vector._begin([0], obs)
        return obs[0]

    def step(self, action: NDArray) -> tuple[NDArray, float, bool]:
        obs = np.empty((1, 39), np.float32)
        self.vector._success[:] = False
        self.vector._advance(action[None], obs, self._reward, self._terminated)
        return obs[0], float(self._reward[0, 0]), bool(self.vector._success[0])


class OfficialSide:
    """The official class of one task, which draws what `PoolSide` draws."""

    def __init__(self, name: str):
        self.name, self.episode = name, 0
        self.env = MetaWorld([name], goals=1).make_official(0).official
        self.env._freeze_rand_vec = False
        self.env._get_state_rand_vec = self._draw
        self._reset_model = self.env.reset_model
        self.env.reset_model = self._reset_again
        self._bits = np.random.RandomState(pool_seed(0, 0, 0, 0))

    def _draw(self) -> NDArray:
        space = self.env._random_reset_space
        assert space is not None
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        words = self._bits.randint(0, 2**32, (len(low), 2), dtype=np.uint32).astype(np.float64)
        return low + (words[:, 0] + words[:, 1] * 2.0**32) / 2.0**64 * (high - low)

    def _reset_again(self) -> NDArray:
        self._bits.set_state(self._state)  # the official reset runs this twice; EnvPool's once
        return self._reset_model()

    def reset(self) -> NDArray:
        if self.name in SHIFTED:
            self._bits = np.random.RandomState(pool_seed(0, 0, 0, self.episode))
        self.episode += 1
        self._state = self._bits.get_state()
        self.env._did_see_sim_exception = False
        return self.env.reset()[0].astype(np.float32)

    def step(self, action: NDArray) -> tuple[NDArray, float, bool]:
        # Scaled in the action's own precision by the official code, in float64 by EnvPool.
        obs, reward, _, _, info = self.env.step(action.astype(np.float64))
        return obs.astype(np.float32), float(reward), bool(info["success"])


def compare(name: str, expert: bool, episodes: int = 2, steps: int = MAX_HORIZON) -> dict[str, Any]:
    """Largest differences over paired episodes with equal actions; the expert sees the official observation."""
    pool, official, rng = PoolSide(name), OfficialSide(name), np.random.default_rng(0)
    out: dict[str, Any] = {"reset": 0.0, "observation": 0.0, "reward": 0.0, "successes": 0, "parts_at": None}
    for _ in range(episodes):
        policy = ENV_POLICY_MAP[f"{name}-v3"]()
        ours, theirs = pool.reset(), official.reset()
        out["reset"] = max(out["reset"], float(np.abs(ours - theirs).max()))
        for step in range(steps):
            action = policy.get_action(theirs) if expert else rng.uniform(-1, 1, 4)
            action = np.clip(action, -1, 1).astype(np.float32)
            (ours, paid, won), (theirs, due, wins) = pool.step(action), official.step(action)
            apart = float(np.abs(ours - theirs).max())
            if apart > 1e-6 and out["parts_at"] is None:
                out["parts_at"] = step
            out["observation"] = max(out["observation"], apart)
            out["reward"] = max(out["reward"], abs(paid - due))
            out["successes"] += won != wins
    return out


def expert_success(name: str, episodes: int) -> dict[str, float]:
    """Share of episodes in which the scripted expert succeeds within 500 steps, on both sides."""
    out = {}
    for key, side in (("official", OfficialSide(name)), ("envpool", PoolSide(name))):
        wins = 0
        for _ in range(episodes):
            policy, obs, won, step = ENV_POLICY_MAP[f"{name}-v3"](), side.reset(), False, 0
            while not won and step < MAX_HORIZON:
                obs, _, won = side.step(np.clip(policy.get_action(obs), -1, 1).astype(np.float32))
                step += 1
            wins += won
        out[key] = wins / episodes
    return out


def speed(copies: int, rounds: int, steps: int = 50) -> dict[str, float]:
    """Environment steps per second of MT10; median over rounds."""
    import gymnasium
    import metaworld

    from lit_mtrl.config.compose import compose
    from lit_mtrl.data.collect import TaskCollector
    from lit_mtrl.runs.build import build_algorithm

    torch.set_num_threads(1)
    suite, frames = EnvPool(MT10), steps * copies * 10
    policy = build_algorithm(compose(["mt10_mtmhsac"], []), suite).acting_policy()
    collector = TaskCollector(suite, policy, steps, copies)
    collector.restart(0)
    collector.publish()
    vector: Any = vector_env(suite, range(10), copies)
    vector.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (10 * copies, 4)).astype(np.float32)

    def bare() -> None:
        for _ in range(steps):
            for pool in vector._pools:
                pool.send(actions[pool.rows])
            for pool in vector._pools:
                pool.receive()

    theirs = gymnasium.make_vec("Meta-World/MT10", vector_strategy="async", seed=1)
    theirs.reset()

    def step_theirs() -> None:
        for _ in range(steps):
            theirs.step(actions[:10])

    assert metaworld
    rates: dict[str, list[float]] = {"bare": [], "collector": [], "async_vector_env": []}
    calls = (bare, collector.collect, step_theirs)
    for i in range(rounds + 1):
        for (key, found), call in zip(rates.items(), calls, strict=True):
            start = time.perf_counter()
            call()
            done = steps * 10 if key == "async_vector_env" else frames
            if i:  # the first round warms up
                found.append(done / (time.perf_counter() - start))
    collector.shutdown()
    theirs.close()
    middle = {key: statistics.median(found) for key, found in rates.items()}
    for other in ("bare", "async_vector_env"):
        ratios = [a / b for a, b in zip(rates["collector"], rates[other], strict=True)]
        middle[f"collector/{other}"] = statistics.median(ratios)
    return middle


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, merge into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=["agreement", "experts", "speed"])
    parser.add_argument("--tasks", nargs="*", default=MT50)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", "Constant")
    for what in args.what:
        report: dict[str, Any] = {}
        if what == "speed":
            report = {f"copies {copies}": speed(copies, args.rounds) for copies in (1, 4)}
            print(json.dumps(report, indent=2))
        for name in args.tasks if what != "speed" else ():
            if what == "agreement":
                report[name] = {mode: compare(name, mode == "expert") for mode in ("random", "expert")}
            else:
                report[name] = expert_success(name, args.episodes)
            print(name, report[name], flush=True)
        section = (
            what if mujoco.__version__ == OFFICIAL_MUJOCO else f"{what}, MuJoCo {mujoco.__version__} on both sides"
        )
        if args.json:
            before = json.loads(args.json.read_text()) if args.json.exists() else {}
            args.json.write_text(json.dumps({**before, section: report}, indent=1) + "\n")


if __name__ == "__main__":
    main()
