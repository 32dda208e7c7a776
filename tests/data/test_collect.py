"""Collection: row t is task t in time order, whoever steps it; weights arrive; streams repeat; dead workers are
reported.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensordict import TensorDictBase

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.keys import ACTION, DONE, LOG_PROB, NEXT_OBS, OBS, REWARD, STATE_VALUE, TASK
from lit_mtrl.data.collect import TaskCollector, WorkerError
from lit_mtrl.nets.mlp import MLP
from lit_mtrl.policies.acting import EXPLORE, RANDOM, ActingPolicy
from tests.helpers.streams import make_policy
from tests.helpers.suites import LETHAL, TraceSuite
from tests.helpers.suites import SHORT as HORIZON


def make_collector(tasks: int = 5, steps: int = 6, copies: int = 2, workers: int = 1, **options: int) -> TaskCollector:
    suite = TraceSuite(tasks, **options)
    return TaskCollector(suite, make_policy(suite), steps, copies, workers)


def order(collector: TaskCollector, phase: int, action: float | None = None) -> None:
    """Publish a phase and, if given, weights under which every action is tanh(``action``) up to a std of e^-20."""
    collector._source.phase.fill_(phase)
    if action is not None:
        with torch.no_grad():
            for parameter in collector._source.parameters():
                parameter.zero_()
            collector._source.policy.net.head.bias.copy_(torch.tensor([action, -20.0]))
    collector.publish()


@pytest.fixture(scope="module")
def two_workers() -> Iterator[TaskCollector]:
    collector = make_collector(workers=2)  # owning 2 and 3 of the 5 tasks
    yield collector
    collector.shutdown()


@pytest.fixture(scope="module")
def in_process() -> Iterator[TaskCollector]:
    collector = make_collector()
    yield collector
    collector.shutdown()


@pytest.fixture(params=["in_process", "two_workers"])
def collector(request: pytest.FixtureRequest) -> TaskCollector:
    collector = request.getfixturevalue(request.param)
    order(collector, RANDOM)
    collector.restart(0)
    return collector


def collected(collector: TaskCollector, batches: int) -> TensorDictBase:
    """Several batches in a row, ``[T, E, batches * n]``."""
    return torch.cat([collector.collect() for _ in range(batches)], -1)


def test_row_t_is_task_t(collector: TaskCollector) -> None:
    data = collector.collect()
    assert data.batch_size == (5, 2, 6)
    task = torch.arange(5).view(5, 1, 1)
    assert (data[TASK] == task).all()
    for key in (OBS, NEXT_OBS):
        assert (data[key][..., 0] == task).all()
    # Every environment got the action that is stored beside its reward.
    assert torch.allclose(data[REWARD][..., 0], 10 * task + data[ACTION][..., 0])


def test_columns_are_in_time_order_across_batches(collector: TaskCollector) -> None:
    data = collected(collector, 3)
    step = torch.arange(18)
    assert (data[OBS][..., 2] == step % HORIZON).all()
    assert (data[NEXT_OBS][..., 2] == step % HORIZON + 1).all()
    assert (data[DONE][..., 0] == (step % HORIZON == HORIZON - 1)).all()
    goals = data[OBS][..., 1]
    assert torch.equal(goals, data[NEXT_OBS][..., 1])
    for start in range(0, 18, HORIZON):
        episode = goals[..., start : start + HORIZON]
        assert (episode == episode[..., :1]).all()
    assert len(goals[..., ::HORIZON].unique()) > 45  # 5 episodes of 10 environments, 1000 goals: hardly a coincidence


def test_each_batch_has_memory_of_its_own(collector: TaskCollector) -> None:
    first = collector.collect()
    before = first.clone()
    collector.collect()
    assert (first == before).all()


@pytest.mark.parametrize(("tasks", "steps", "copies"), [(1, 1, 1), (1, 3, 1), (3, 1, 1), (1, 1, 3)])
def test_each_batch_has_memory_of_its_own_whatever_its_shape(tasks: int, steps: int, copies: int) -> None:
    collector = make_collector(tasks, steps, copies)
    collector.restart(0)
    first = collector.collect()
    assert first.batch_size == (tasks, copies, steps)
    before = first.clone()
    collector.collect()
    assert (first == before).all()
    collector.shutdown()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_policy_writes_beside_actions_is_collected(workers: int) -> None:
    suite = TraceSuite(3)
    acting = make_policy(suite)
    values = MLP(suite.obs_dim, 1, 3, head_bound=1.0, width=8, depth=1)
    collector = TaskCollector(suite, ActingPolicy(acting.policy, log_prob=True, values=values), 6, 2, workers)
    collector.restart(0)
    collector.publish()
    data = collected(collector, 2)
    assert data[LOG_PROB].shape == (3, 2, 12) and data[STATE_VALUE].shape == (3, 2, 12, 1)
    with torch.no_grad():
        mean, log_std = acting.policy(data[OBS].flatten(1, 2))
        noise = (data[ACTION].flatten(1, 2).atanh() - mean) / log_std.exp()
        _, log_prob = acting.policy.sample(data[OBS].flatten(1, 2), noise)
        torch.testing.assert_close(data[LOG_PROB].flatten(1, 2), log_prob, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(data[STATE_VALUE].flatten(1, 2), values(data[OBS].flatten(1, 2), None))
    collector.shutdown()


def test_a_stream_repeats_bit_for_bit(collector: TaskCollector) -> None:
    batches = []
    for stream in (3, 4, 3):
        collector.restart(stream)
        order(collector, RANDOM)
        random = collector.collect()
        order(collector, EXPLORE)
        batches.append(torch.cat([random, collector.collect()], -1))
        collector.collect()
    assert (batches[0] == batches[2]).all()
    for key in (OBS, ACTION):
        assert not torch.equal(batches[0][key], batches[1][key])


def test_a_restart_begins_new_episodes_everywhere(collector: TaskCollector) -> None:
    collector.collect()  # 6 steps: in the middle of an episode
    collector.restart(1)
    data = collector.collect()
    assert (data[OBS][..., 0, 2] == 0).all()
    assert (data["next", "episode_length"][:, :, 0] == 1).all()


def test_published_weights_act_in_every_environment_from_the_next_step_on(collector: TaskCollector) -> None:
    for wanted in (0.0, 1.0, -0.5, 0.25, *torch.linspace(-1, 1, 10).tolist()):
        order(collector, EXPLORE, wanted)
        assert collector.collect()[ACTION].sub(math.tanh(wanted)).abs().max() < 1e-6


def test_weights_act_only_once_published(collector: TaskCollector) -> None:
    order(collector, EXPLORE, 0.5)
    with torch.no_grad():
        collector._source.policy.net.head.bias.fill_(-20)
    assert collector.collect()[ACTION].sub(math.tanh(0.5)).abs().max() < 1e-6


def test_the_random_phase_is_uniform_whatever_the_weights(collector: TaskCollector) -> None:
    order(collector, RANDOM, 0.0)
    actions = collected(collector, 30)[ACTION]  # [T, E, 180, 1]
    assert actions.abs().max() <= 1
    for task in range(5):
        quarters = torch.histc(actions[task], 4, -1, 1) / 360
        assert ((quarters - 0.25).abs() < 0.1).all()  # four standard deviations
    assert len(actions.unique()) > 1790  # no two environments share their noise
    order(collector, EXPLORE)
    assert collector.collect()[ACTION].abs().max() < 1e-6


def test_workers_change_the_action_noise_but_no_environment(
    in_process: TaskCollector, two_workers: TaskCollector
) -> None:
    """Goals are a stream per (task, copy). Action noise is one stream per worker, so it depends on who owns which
    task.
    """
    data = []
    for collector in (in_process, two_workers):
        order(collector, RANDOM)
        collector.restart(9)
        data.append(collected(collector, 3))
    assert torch.equal(data[0][OBS], data[1][OBS])
    assert not torch.equal(data[0][ACTION], data[1][ACTION])


def test_collecting_in_this_process_leaves_its_generators_alone(in_process: TaskCollector) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    in_process.restart(2)
    order(in_process, RANDOM)
    in_process.collect()
    order(in_process, EXPLORE)
    in_process.collect()
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numpy_before


def test_the_learner_keeps_its_threads_and_gradients(two_workers: TaskCollector) -> None:
    threads = torch.get_num_threads()
    other = make_collector(tasks=2, workers=1)
    assert torch.get_num_threads() == threads
    assert all(p.requires_grad for c in (two_workers, other) for p in c._source.parameters())
    other.shutdown()


def die(collector: TaskCollector, call: Callable[[], object]) -> str:
    """What `call` says, within ten seconds, of a worker that is dead or dies meanwhile; shutting down works."""
    start = time.monotonic()
    with pytest.raises(WorkerError) as error:
        for _ in range(3):  # what the workers had begun may still be delivered
            call()
    assert time.monotonic() - start < 10
    collector.shutdown()
    return str(error.value)


def test_a_killed_worker_is_reported() -> None:
    threads = torch.get_num_threads()
    collector = make_collector(tasks=3, copies=1, workers=2)
    assert torch.get_num_threads() == threads
    collector.restart(0)
    collector.collect()
    os.kill(collector._collector.procs[1].pid, signal.SIGKILL)
    message = die(collector, collector.collect)
    assert "worker 1 (exit code -9)" in message and "task1, task2" in message
    assert "worker 0" not in message and "task0" not in message


def test_a_worker_that_is_ended_from_outside_is_named() -> None:
    """By SIGTERM, as TorchRL itself ends the others of one that has failed."""
    collector = make_collector(tasks=3, copies=1, workers=2)
    collector.restart(0)
    collector.collect()
    os.kill(collector._collector.procs[1].pid, signal.SIGTERM)
    message = die(collector, collector.collect)
    assert "worker 1 (exit code -15), tasks task1, task2, died" in message
    assert "task0" not in message


@pytest.mark.parametrize(
    "said",
    [
        "collecting processes have ended: worker 1 (exit code -9)",
        "At least one process failed: worker 1 (exit code -9). Check for more infos in the log.",
    ],
)
def test_workers_that_torchrl_ended_after_another_died_are_not_blamed(said: str, tmp_path: Path) -> None:
    """However slowly the others end: by themselves, or by its SIGTERM."""
    collector = object.__new__(TaskCollector)
    dead = [SimpleNamespace(join=lambda wait: None, exitcode=-code) for code in (signal.SIGTERM, signal.SIGKILL)]
    collector._collector, collector._logs = SimpleNamespace(procs=dead), SimpleNamespace(name=str(tmp_path))  # pyright: ignore
    collector._owned, collector._names = [[0], [1]], ["push", "reach"]
    assert collector._who_died(RuntimeError(said)) == f"{said}\nworker 1 (exit code -9), tasks reach, died: "


def test_a_worker_that_cannot_send_what_it_has_collected_is_reported() -> None:
    """Its batch would be waited for without end."""
    collector = make_collector(tasks=3, copies=1, workers=2, starving=True)
    collector.restart(0)
    message = die(collector, collector.collect)
    assert "Too many open files" in message and "`ulimit -n`" in message and "\n" not in message


def test_a_worker_that_is_killed_during_the_updates_is_reported() -> None:
    """Weights are published next, to someone who will never acknowledge them."""
    collector = make_collector(tasks=3, copies=1, workers=2)
    collector.restart(0)
    collector.collect()
    os.kill(collector._collector.procs[0].pid, signal.SIGKILL)
    message = die(collector, collector.publish)
    assert "worker 0 (exit code -9)" in message and "task0" in message


def test_an_environment_that_raises_is_reported_with_its_traceback() -> None:
    collector = make_collector(tasks=3, copies=1, workers=2)
    collector.restart(0)
    order(collector, EXPLORE, LETHAL)
    message = die(collector, collector.collect)
    assert "Traceback" in message and "ValueError: task " in message and "exit code 1" in message


def test_an_environment_that_cannot_be_built_is_reported_with_its_traceback() -> None:
    start = time.monotonic()
    with pytest.raises(WorkerError, match="task 2 cannot be built") as error:
        make_collector(tasks=3, copies=1, workers=2, unbuildable=2)
    assert "Traceback" in str(error.value)
    assert time.monotonic() - start < 60


def test_an_error_in_this_process_is_the_error_itself() -> None:
    collector = make_collector(tasks=2, copies=1)
    order(collector, EXPLORE, LETHAL)
    with pytest.raises(ValueError, match="task 0 broke"):
        collector.collect()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "collector.steps=0"),
        ({"copies": 0}, "collector.copies=0"),
        ({"workers": 0}, "collector.workers=0"),
        ({"workers": 6}, "collector.workers=6: between 1 and the number of tasks, 5"),
    ],
)
def test_bad_values_are_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_collector(**arguments)
