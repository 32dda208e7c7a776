"""Collected data whose numbers tell where they come from, and a stream of iterations with a learner at its end."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from tensordict import TensorDict

from lit_mtrl.algos.sac import SAC
from lit_mtrl.core.keys import ACTION, OBS
from lit_mtrl.critics.scalar import ScalarCritic
from lit_mtrl.data.module import DataModule, Iteration
from lit_mtrl.data.replay import PerTaskReplay
from lit_mtrl.envs.probes import Probes
from lit_mtrl.nets.mlp import MLP
from lit_mtrl.policies.acting import ActingPolicy
from lit_mtrl.policies.tanh_gaussian import TanhGaussian
from lit_mtrl.training.engine import Engine
from tests.helpers.suites import TraceSuite

STEPS, COPIES, TASKS, HORIZON = 4, 2, 3, 20
STEP_FRAMES = TASKS * COPIES
EPOCH = HORIZON * STEP_FRAMES
FRAMES = 4 * EPOCH


def build(**options: Any) -> DataModule:
    """Three probes with two copies each: an epoch is 5 iterations of 4 vector steps, the first 2 iterations are
    random.
    """
    torch.manual_seed(0)
    network = partial(MLP, width=8, depth=1)
    suite = options.pop("suite", None) or Probes(kind="endless", horizon=HORIZON)
    actor, critic = partial(TanhGaussian, network), partial(ScalarCritic, network)
    sac = SAC(actor, critic, suite.obs_dim, suite.action_dim, len(suite.tasks))
    seed = options.pop("seed", 0)
    held = {key: options.pop(key, default) for key, default in (("capacity", 100), ("per_task", 8), ("device", "auto"))}
    buffer = options.pop("buffer", None) or PerTaskReplay(len(suite.tasks), **held, seed=seed)
    sizes = dict(frames=FRAMES, epoch_frames=EPOCH, steps=STEPS, copies=COPIES, random_steps=8)
    return DataModule(suite, sac, buffer, **{"seed": seed, **sizes, **options})


class Learner:
    """What the agent does with an iteration; keeps what it saw."""

    def __init__(self, data: DataModule):
        self.data, self.engine, self.seen = data, Engine(data.algorithm), []
        data.setup("fit")

    def epoch(self) -> None:
        for iteration in self.data:
            self.learn(iteration)

    def learn(self, iteration: Iteration) -> None:
        self.seen.append(iteration)
        if iteration.chunk is not None:
            torch.manual_seed(iteration.frames)
            self.engine.run(iteration.chunk)

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.data.algorithm.parameters()])

    def held(self) -> dict[object, torch.Tensor]:
        """Copies of what the replay holds, in the order in which it was written."""
        buffer = self.data.buffer.buffer.storage[: len(self.data.buffer)]
        return {key: buffer[key].clone() for key in (OBS, ACTION)}


def same(a: Learner, b: Learner) -> bool:
    """Both hold the same transitions and have the same weights, bit for bit."""
    one, other = a.held(), b.held()
    return torch.equal(a.weights(), b.weights()) and all(torch.equal(one[key], other[key]) for key in one)


ROWS, SAMPLES = 4, 16


def slices(start: int, n: int, tasks: int = ROWS) -> TensorDict:
    """Vector steps ``start .. start + n - 1``, ``[T, 1, n]``: every number says its time, its task, or both (time +
    task / 10).
    """
    time = torch.arange(start, start + n).expand(tasks, 1, n)
    task = torch.arange(tasks)[:, None, None].expand(tasks, 1, n)
    after = {
        "observation": torch.stack([time + 1, task], -1).float(),
        "reward": (time + task / 10)[..., None],
        "terminated": (time % 2 == 0)[..., None],
    }
    observation = torch.stack([time, task], -1).float()
    return TensorDict({"observation": observation, "action": -observation, "next": after}, [tasks, 1, n])


def times(chunk: TensorDict) -> torch.Tensor:
    """Stored times ``[K, T, b]``."""
    return chunk["observation"][..., 0].long()


def make_policy(suite: TraceSuite) -> ActingPolicy:
    torch.manual_seed(0)
    return ActingPolicy(TanhGaussian(partial(MLP, width=8, depth=1), suite.obs_dim, suite.action_dim, len(suite.tasks)))
