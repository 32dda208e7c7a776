"""What every algorithm must do; `python -m pytest test_my_algorithm.py`."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tensordict import TensorDict

from lit_mtrl.cli.templates.algorithm.my_algorithm import MyAlgorithm
from lit_mtrl.critics.scalar import ScalarCritic
from lit_mtrl.data.collect import TaskCollector
from lit_mtrl.data.replay import PerTaskReplay
from lit_mtrl.envs.probes import Probes
from lit_mtrl.nets.multi_head import MultiHead
from lit_mtrl.policies.acting import EXPLORE, RANDOM
from lit_mtrl.policies.tanh_gaussian import TanhGaussian
from lit_mtrl.training.engine import Engine

TASKS, BATCH, OBS, ACTION = 3, 8, 4, 2
GAMMA = 0.8


def make(obs: int = OBS, action: int = ACTION, **values: float) -> MyAlgorithm:
    """A small one; the same every time."""
    torch.manual_seed(0)
    network = partial(MultiHead, width=32, depth=2)
    return MyAlgorithm(partial(TanhGaussian, network), partial(ScalarCritic, network), obs, action, TASKS, **values)


def make_batch() -> TensorDict:
    """``[T, b]`` of all keys that transitions have."""
    rows = [TASKS, BATCH]
    after = TensorDict(
        {
            "observation": torch.randn(*rows, OBS),
            "reward": torch.randn(*rows, 1),
            "terminated": torch.rand(*rows, 1) < 0.3,
        },
        rows,
    )
    action = torch.rand(*rows, ACTION) * 1.8 - 0.9
    return TensorDict({"observation": torch.randn(*rows, OBS), "action": action, "next": after}, rows)


def losses(algorithm: MyAlgorithm, batch: TensorDict) -> dict[str, TensorDict]:
    """Of every objective, on the same batch and noise."""
    torch.manual_seed(1)
    batch = batch.clone()
    algorithm.on_sample(batch)
    return {o.name: o.loss(batch) for o in algorithm.objectives() if o.loss is not None}


def test_every_loss_is_one_number_per_task() -> None:
    """And so is every metric; metrics are without graph."""
    for out in losses(make(), make_batch()).values():
        for key, value in out.items():
            assert value.shape == (TASKS,) and value.isfinite().all() and value.requires_grad == (key == "loss"), key


def test_a_task_sees_its_own_row() -> None:
    """Other data of one task leaves the losses of the others as they are."""
    algorithm, batch, other = make(), make_batch(), make_batch()
    other[1:] = batch[1:]
    one, two = losses(algorithm, batch), losses(algorithm, other)
    for name in one:
        torch.testing.assert_close(one[name]["loss"][1:], two[name]["loss"][1:])
        assert one[name]["loss"][0] != two[name]["loss"][0]


def test_every_parameter_moves() -> None:
    """By one objective alone."""
    algorithm = make()
    before = {name: parameter.clone() for name, parameter in algorithm.named_parameters()}
    Engine(algorithm).update(make_batch())
    for name, parameter in algorithm.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    moved = [id(parameter) for objective in algorithm.objectives() for parameter in objective.params]
    assert len(moved) == len(set(moved))


@pytest.mark.parametrize("kind", ["observation", "both"])
def test_it_finds_the_known_actions_and_values(kind: str) -> None:
    """Probes (lit_mtrl.envs.probes) are tiny, and their values are known; `delay` and `endless` need more updates."""
    suite = Probes(kind=kind)
    algorithm = make(suite.obs_dim, suite.action_dim, gamma=GAMMA, tau=0.05, lr=3e-3, temperature=1e-3)
    policy, engine = algorithm.acting_policy(), Engine(algorithm)
    replay = PerTaskReplay(TASKS, capacity=1000, per_task=32, seed=0)
    collector = TaskCollector(suite, policy, steps=10)
    collector.restart(0)
    for step in range(0, 800, 10):
        policy.phase.fill_(RANDOM if step < 200 else EXPLORE)
        collector.publish()
        replay.extend(collector.collect().select(*algorithm.stored))
        if step >= 200:
            engine.run(replay.sample(10))
    collector.shutdown()
    signal = torch.as_tensor(suite.signals, dtype=torch.float32)
    obs = torch.stack([signal, torch.zeros_like(signal)], -1).expand(TASKS, -1, -1)  # [T, goals, 2]
    with torch.no_grad():
        action = algorithm.policy.mode(obs)
        value = algorithm.critic.value(algorithm.critic(obs, action))
    for task in range(TASKS):
        truth = suite.true_q(task, obs[task].numpy(), action[task].numpy(), GAMMA)
        assert abs(value[task].numpy() - truth).max() < 0.15, f"task {task}: {value[task]} instead of {truth}"
        if kind == "both":
            best = suite.best_action(task, obs[task].numpy())
            assert abs(action[task].numpy() - best).max() < 0.2, f"task {task}: {action[task]} instead of {best}"
