"""The other end of `lit_mtrl.bench.peer`: the peer's own classes, under the Python that has them. Imports nothing of
ours.

Started as a script with one argument, the setting as JSON; does what each line of standard input says, and answers
every one with a line when it is done: "collect" (vector steps, its policy acting) or "update" (gradient updates), as
often as the setting's ``steps`` and ``updates``.
"""

# The Python that checks the types need not have the peer.
# pyright: reportMissingImports=false

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np


class Peer:
    """Multi-head MTSAC on one of Meta-World's benchmarks, as the peer's own examples build it, but for the size."""

    def __init__(self, setting: dict[str, Any]):
        import jax
        from metaworld_algorithms.config.networks import ContinuousActionPolicyConfig, QValueFunctionConfig
        from metaworld_algorithms.config.nn import MultiHeadConfig
        from metaworld_algorithms.config.optim import OptimizerConfig
        from metaworld_algorithms.envs import MetaworldConfig
        from metaworld_algorithms.rl.algorithms import MTSAC, MTSACConfig

        self.jax = jax
        self.steps, self.updates, tasks = setting["steps"], setting["updates"], setting["tasks"]
        optimizer = OptimizerConfig(max_grad_norm=1.0)
        network = MultiHeadConfig(num_tasks=tasks, width=setting["width"], depth=setting["depth"], optimizer=optimizer)
        config = MTSACConfig(
            num_tasks=tasks,
            actor_config=ContinuousActionPolicyConfig(network_config=network),
            critic_config=QValueFunctionConfig(network_config=network),
        )
        env = MetaworldConfig(env_id=setting["benchmark"], max_episode_steps=setting["horizon"])
        self.agent: Any = MTSAC.initialize(config, env, seed=1)
        self.envs = env.spawn(seed=1)
        self.obs, _ = self.envs.reset()
        self.data = jax.device_put(transitions(tasks, setting["per_task"]))

    def collect(self) -> None:
        for _ in range(self.steps):
            self.agent, action = self.agent.sample_action(self.obs)
            self.obs, *_ = self.envs.step(action)

    def update(self) -> None:
        for _ in range(self.updates):
            self.agent, _ = self.agent.update(self.data)
        self.jax.block_until_ready(self.agent)


def transitions(tasks: int, per_task: int) -> Any:
    """Random ones, the task's one-hot behind Meta-World's 39 numbers."""
    from metaworld_algorithms.types import ReplayBufferSamples

    rng = np.random.default_rng(0)
    n = tasks * per_task
    one_hot = np.repeat(np.eye(tasks), per_task, 0)
    obs, after = (np.concatenate([rng.standard_normal((n, 39)), one_hot], 1) for _ in range(2))
    values = obs, rng.uniform(-1, 1, (n, 4)), after, np.zeros((n, 1)), rng.uniform(0, 10, (n, 1))
    return ReplayBufferSamples(*(value.astype(np.float32) for value in values))


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    peer = Peer(json.loads(sys.argv[1]))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        getattr(peer, line.strip())()
        print("done", file=answers, flush=True)
    peer.envs.close()


if __name__ == "__main__":
    main()
