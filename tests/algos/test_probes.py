"""SAC reaches the known values of every probe, for every task apart; and the probes are what their text says."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
import torch

from lit_mtrl.algos.sac import SAC
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.critics.scalar import ScalarCritic
from lit_mtrl.data.collect import TaskCollector
from lit_mtrl.data.replay import PerTaskReplay
from lit_mtrl.envs.probes import KINDS, Probes
from lit_mtrl.nets.mlp import MLP
from lit_mtrl.nets.multi_head import MultiHead
from lit_mtrl.policies.acting import EXPLORE, RANDOM
from lit_mtrl.policies.tanh_gaussian import TanhGaussian
from lit_mtrl.training.engine import Engine

GAMMA = 0.8
HORIZON = 3
"""Short, so that a time limit taken for a terminal state would move `endless` by more than a third of its value."""


def train(suite: Probes, net: type, updates: int = 600) -> SAC:
    """SAC at a temperature too small to matter; an update for every vector step, the first 200 of them random."""
    torch.manual_seed(0)
    network = partial(net, width=32, depth=2)
    sac = SAC(
        partial(TanhGaussian, network),
        partial(ScalarCritic, network),
        suite.obs_dim,
        suite.action_dim,
        len(suite.tasks),
        gamma=GAMMA,
        tau=0.05,
        actor_lr=3e-3,
        critic_lr=3e-3,
        temperature_lr=1e-8,
        initial_temperature=1e-3,
    )
    policy, engine = sac.acting_policy(), Engine(sac)
    replay = PerTaskReplay(len(suite.tasks), capacity=1000, per_task=32, seed=0)
    collector = TaskCollector(suite, policy, steps=10)
    collector.restart(0)
    for step in range(0, 200 + updates, 10):
        policy.phase.fill_(RANDOM if step < 200 else EXPLORE)
        collector.publish()
        replay.extend(collector.collect().select(*sac.stored))
        if step >= 200:
            engine.run(replay.sample(10))
    collector.shutdown()
    return sac


def grid(suite: Probes) -> tuple[torch.Tensor, torch.Tensor]:
    """Every observation of the probe with actions over [-0.9, 0.9], the same for all tasks: ``[T, n, 2]`` and ``[T, n,
    1]``.
    """
    phases = torch.tensor([0.0, 1.0] if suite.kind == "delay" else [0.0])
    axes = torch.as_tensor(suite.signals, dtype=torch.float32), phases, torch.linspace(-0.9, 0.9, 7)
    signal, phase, action = (x.flatten() for x in torch.meshgrid(*axes, indexing="ij"))
    tasks = len(suite.tasks)
    return torch.stack([signal, phase], -1).expand(tasks, -1, -1), action[:, None].expand(tasks, -1, -1)


@pytest.mark.parametrize(
    ("kind", "net"),
    [*((kind, MultiHead) for kind in KINDS), ("delay", MLP), ("both", MLP)],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_sac_reaches_the_known_values(kind: str, net: type) -> None:
    suite = Probes(kind=kind, horizon=HORIZON)
    sac = train(suite, net)
    obs, action = grid(suite)
    with torch.no_grad():
        q, greedy = sac.critic(obs, action).numpy(), sac.actor.mode(obs).numpy()
    for task in range(len(suite.tasks)):
        truth = suite.true_q(task, obs[task].numpy(), action[task].numpy(), GAMMA)
        assert np.abs(q[:, task] - truth).max() < 0.1, f"{kind}, task {task}: {q[:, task]} instead of {truth}"
        if kind in ("action", "both"):
            best = suite.best_action(task, obs[task].numpy())
            assert np.abs(greedy[task] - best).max() < 0.15, (
                f"{kind}, task {task}: acts {greedy[task]} instead of {best}"
            )


@pytest.mark.parametrize("kind", KINDS)
def test_episodes_pay_what_true_q_says(kind: str) -> None:
    """The discounted return of the best policy after any first action; `endless` is summed until nothing is left to
    pay.
    """
    suite = Probes(kind=kind, goals=3)
    for task in range(3):
        env = suite.make(task)
        for goal in range(3):
            for first in (-0.9, 0.1, 0.8):
                obs = env.reset(goal)
                assert obs.dtype == np.float32 and obs.tolist() == [suite.signals[goal], 0]
                expected = suite.true_q(task, obs, np.array([first]), GAMMA)
                action, total, terminated, steps = np.array([first]), 0.0, False, 0
                while not terminated and steps < 100:
                    obs, reward, terminated, _ = env.step(action)
                    total += GAMMA**steps * reward
                    steps += 1
                    action = suite.best_action(task, obs) if kind in ("action", "both") else np.zeros(1)
                assert total == pytest.approx(float(expected), abs=1e-6)
                assert steps == {"delay": 2, "endless": 100}.get(kind, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_no_task_has_another_tasks_values(kind: str) -> None:
    suite = Probes(kind=kind)
    obs, action = (x[0].numpy() for x in grid(suite))
    q = [suite.true_q(task, obs, action, GAMMA) for task in range(3)]
    gaps = [np.abs(q[i] - q[j]).max() for i in range(3) for j in range(i)]
    assert min(gaps) > 0.25


def test_success_is_a_good_action() -> None:
    suite = Probes(kind="both")  # level 1/3, best action 1/4 at signal 1 and -1/4 at signal -1
    env = suite.make(0)
    for goal, action, success in (
        (1, 0.25, True),
        (1, 0.45, True),
        (1, -0.25, False),
        (0, -0.25, True),
        (0, 0.1, False),
    ):
        env.reset(goal)
        assert env.step(np.array([action], np.float32))[3] is success


def test_a_single_goal_is_signal_one() -> None:
    assert Probes(goals=1).make(0).reset(0).tolist() == [1, 0]


def test_it_travels() -> None:
    suite = pickle.loads(pickle.dumps(Probes(["a", "b"], kind="delay", horizon=4, goals=5, seed=3)))
    assert (suite.tasks, suite.kind, suite.horizon, suite.num_goals) == (["a", "b"], "delay", 4, 5)
    assert suite.tags() == {
        "backend": "probes",
        "benchmark": "delay-mt2",
        "rewards": "delay",
        "horizon": "4",
        "goals": "5",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "observatoin"}, "env.kind=observatoin: unknown; did you mean 'observation'?"),
        ({"kind": "delay", "horizon": 1}, "env.horizon=1: .* 2 or more steps"),
        ({"horizon": 0}, "env.horizon=0"),
        ({"goals": 0}, "env.goals=0"),
        ({"tasks": []}, "name at least one task"),
        ({"tasks": ["a", "a"]}, "named twice"),
    ],
)
def test_bad_values_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Probes(**arguments)
