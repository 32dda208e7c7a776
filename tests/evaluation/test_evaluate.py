"""Evaluation: every goal once, episodes end at the first success, numbers worked out by hand, training left alone."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lit_mtrl.data.collect import TaskCollector
from lit_mtrl.envs.base import Suite
from lit_mtrl.envs.probes import Probes, ProbeTask
from lit_mtrl.evaluation.evaluator import Episodes, Evaluator
from lit_mtrl.evaluation.players import EvaluationError, Player, split
from lit_mtrl.policies.acting import ActingPolicy
from lit_mtrl.policies.tanh_gaussian import TanhGaussian
from tests.helpers.actors import make_actor
from tests.helpers.suites import Killed, Raising

HORIZON = 4
SCRIPT = {0: (2, 0), 1: (0, 0), 2: (0, 3), 3: (4, 0), 4: (1, 1)}
"""Goal to step of success and step of termination, 0 for never."""


class Scripted:
    """Step k = 1, 2, ... pays k times 10^task, and ends as in `SCRIPT`."""

    def __init__(self, task: int):
        self.task = task
        self.goals: list[int] = []
        self.steps = self.last = 0
        self.closed = False

    def reset(self, goal: int) -> NDArray:
        self.goals.append(goal)
        self.last = 0
        return np.zeros(1)

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool]:
        self.steps += 1
        self.last += 1
        success, end = SCRIPT[self.goals[-1]]
        return np.zeros(1), self.last * 10.0**self.task, self.last == end, self.last == success

    def close(self) -> None:
        self.closed = True


class ScriptedSuite(Suite):
    obs_dim, action_dim, horizon, num_goals = 1, 1, HORIZON, 5

    def __init__(self, tasks: int = 2):
        self.tasks = [f"task{i}" for i in range(tasks)]
        self.made: list[Scripted] = []

    def make(self, task: int) -> Scripted:
        self.made.append(Scripted(task))
        return self.made[-1]

    def tags(self) -> dict[str, str]:
        return {}


def test_numbers_by_hand() -> None:
    suite = ScriptedSuite()
    result = Evaluator(suite, episodes=5, workers=1).run(make_actor(suite))
    # Goals 0 to 4: success at step 2; nothing until the horizon of 4; terminal at step 3 without success; success at
    # the last step that there is; success and terminal at step 1.
    lengths = [2, 4, 3, 4, 1]
    returns = [1 + 2, 1 + 2 + 3 + 4, 1 + 2 + 3, 1 + 2 + 3 + 4, 1]
    assert result.lengths.tolist() == [lengths, lengths]
    assert result.returns.tolist() == [returns, [10 * r for r in returns]]
    assert result.success.tolist() == [[1, 0, 0, 1, 1]] * 2


@pytest.mark.parametrize(("episodes", "goals"), [(5, [0, 1, 2, 3, 4]), (3, [0, 1, 2]), (7, [0, 1, 2, 3, 4, 0, 1])])
def test_episode_e_is_goal_e_and_nothing_else_is_played(episodes: int, goals: list[int]) -> None:
    suite = ScriptedSuite()
    evaluator = Evaluator(suite, episodes, workers=1)
    result = evaluator.run(make_actor(suite))
    assert result.lengths.shape == (2, episodes)
    assert [env.goals for env in suite.made] == [goals, goals]
    assert [env.steps for env in suite.made] == result.lengths.sum(-1).tolist()
    evaluator.run(make_actor(suite))
    assert [env.goals for env in suite.made] == [
        goals * 2,
        goals * 2,
    ]  # again from the first goal, in the same environments
    evaluator.close()
    assert all(env.closed for env in suite.made)


def expected_on_probes(suite: Probes, actor: TanhGaussian) -> NDArray:
    """Rewards ``[T, goals]`` of the mean actions, computed in the learner's layout, where row t is task t."""
    signals = torch.as_tensor(suite.signals, dtype=torch.float32)
    obs = torch.stack([signals, torch.zeros_like(signals)], -1).expand(len(suite.tasks), -1, -1)
    with torch.no_grad():
        action = actor.mode(obs)
    return np.array([suite.true_q(t, obs[t].numpy(), action[t].numpy(), 0.0) for t in range(len(suite.tasks))])


def test_every_task_is_played_by_its_own_mean_action() -> None:
    suite = Probes(["a", "b", "c"], kind="both", goals=4)
    actor = make_actor(suite)
    rewards = expected_on_probes(suite, actor)
    assert np.ptp(rewards) > 1  # the actions matter
    result = Evaluator(suite, episodes=4, workers=1).run(actor)
    np.testing.assert_allclose(result.returns, rewards, rtol=1e-5)
    assert (result.lengths == 1).all()


def test_tasks_that_are_done_early_do_not_disturb_the_others() -> None:
    """When a task has played its episodes, the rows of the batch move up."""

    class Uneven(Probes):
        """Episodes of task t take t + 1 steps of the same reward."""

        def make(self, task: int) -> ProbeTask:
            env = super().make(task)
            step, steps = env.step, itertools.count(1)

            def patient(action: NDArray) -> tuple[NDArray, float, bool, bool]:
                obs, reward, _, _ = step(action)
                return obs, reward, next(steps) % (task + 1) == 0, False

            env.step = patient
            return env

    suite = Uneven(["a", "b", "c"], kind="action", goals=2)
    actor = make_actor(suite)
    result = Evaluator(suite, episodes=2, workers=1).run(actor)
    assert result.lengths.tolist() == [[1, 1], [2, 2], [3, 3]]
    np.testing.assert_allclose(result.returns / result.lengths, expected_on_probes(suite, actor), rtol=1e-5)


def test_time_limits_end_episodes() -> None:
    suite = Probes(["a", "b"], kind="endless", horizon=6)
    result = Evaluator(suite, episodes=2, workers=1).run(make_actor(suite))
    assert (result.lengths == 6).all() and (result.success == 0).all()
    np.testing.assert_allclose(result.returns, [[6 * 0.5] * 2, [-6.0] * 2], rtol=1e-6)


def test_present_weights_are_evaluated_and_left_as_they_are() -> None:
    suite = Probes(["a", "b", "c"], kind="both", goals=2)
    actor = make_actor(suite)
    evaluator = Evaluator(suite, episodes=2, workers=1)
    for seed in (1, 2):
        actor.load_state_dict(make_actor(suite, seed).state_dict())
        before = {key: value.clone() for key, value in actor.state_dict().items()}
        np.testing.assert_allclose(evaluator.run(actor).returns, expected_on_probes(suite, actor), rtol=1e-5)
        assert all(torch.equal(value, before[key]) for key, value in actor.state_dict().items())
        assert all(p.requires_grad and not p.is_inference() for p in actor.parameters())


def test_training_does_not_notice_an_evaluation() -> None:
    """Neither its environments nor its random numbers."""
    suite = Probes(["a", "b", "c"], kind="endless", horizon=7, goals=5)
    batches = []
    for evaluate in (False, True):
        actor = make_actor(suite)
        collector = TaskCollector(suite, ActingPolicy(actor), steps=4)
        evaluator = Evaluator(suite, episodes=5, workers=1)
        collector.restart(1)
        collector.publish()
        parts, states = [], []
        for _ in range(4):
            parts.append(collector.collect())
            if evaluate:
                evaluator.run(actor)
                assert evaluator._local is not None
                assert not set(map(id, evaluator._local.envs)) & set(map(id, collector._collector.env._envs))
            states.append(torch.get_rng_state())
        batches.append((torch.cat(parts), states))
        collector.shutdown()
    (plain, plain_states), (watched, watched_states) = batches
    assert (plain == watched).all()
    assert all(torch.equal(a, b) for a, b in zip(plain_states, watched_states, strict=True))


@pytest.mark.parametrize(("tasks", "episodes"), [(3, 4), (1, 7), (10, 50), (2, 1)])
def test_shares_are_equal_and_complete(tasks: int, episodes: int) -> None:
    for workers in {*range(1, 21), 64, tasks * episodes} & {*range(tasks * episodes + 1)}:
        shares = split(tasks, episodes, workers)
        played = [[(p.task, e) for p in parts for e in range(p.first, p.stop)] for parts in shares]
        assert list(itertools.chain(*played)) == list(itertools.product(range(tasks), range(episodes)))
        sizes = [len(share) for share in played]
        assert len(shares) == workers and max(sizes) - min(sizes) <= 1
        if tasks % workers == 0:
            assert all(part == (part.task, 0, episodes) for parts in shares for part in parts)


@pytest.mark.parametrize("kind", ["both", "endless"])
def test_any_shares_give_the_same_result(kind: str) -> None:
    """Up to the rounding of batches of other sizes; played here, one share after the other."""
    suite = Probes(["a", "b", "c"], kind=kind, goals=4, horizon=6)
    actor = make_actor(suite)
    whole = Evaluator(suite, episodes=6, workers=1).run(actor)
    for workers in (2, 3, 4, 5, 7, 18):
        out = np.full((3, 3, 6), np.nan, np.float32)
        for parts in split(3, 6, workers):
            for part, values in zip(parts, Player(suite, parts, actor).play(), strict=True):
                out[:, part.task, part.first : part.stop] = values
        np.testing.assert_array_equal(out[[0, 2]], [whole.success, whole.lengths])
        np.testing.assert_allclose(out[1], whole.returns, rtol=1e-5)


@pytest.fixture(scope="module")
def processes() -> Iterator[tuple[Probes, Evaluator]]:
    """More than tasks, so that one is shared."""
    suite = Probes(["a", "b"], kind="both", goals=3)
    evaluator = Evaluator(suite, episodes=3, workers=3)
    yield suite, evaluator
    evaluator.close()


def close_to(a: Episodes, b: Episodes) -> bool:
    return np.array_equal(a.success, b.success) and np.allclose(a.returns, b.returns, rtol=1e-5, atol=1e-6)


def test_processes_give_the_same_result(processes: tuple[Probes, Evaluator]) -> None:
    suite, evaluator = processes
    assert len(evaluator._shares) == 3
    state = torch.random.get_rng_state()
    for seed in (3, 4):  # the second time with weights that the processes have not seen
        actor = make_actor(suite, seed)
        torch.random.set_rng_state(state)
        assert close_to(evaluator.run(actor), Evaluator(suite, episodes=3, workers=1).run(actor))
        assert torch.equal(torch.random.get_rng_state(), state)


def test_a_job_has_the_weights_of_its_submission(processes: tuple[Probes, Evaluator]) -> None:
    suite, evaluator = processes
    actor = make_actor(suite, 5)
    expected = Evaluator(suite, episodes=3, workers=1).run(actor)
    job = evaluator.submit(actor)
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.fill_(1)
    deadline = time.perf_counter() + 60
    while not job.done():
        assert time.perf_counter() < deadline
        time.sleep(0.01)
    assert close_to(job.result(), expected) and close_to(job.result(), expected)


@pytest.mark.parametrize(
    ("cores", "workers", "processes"), [(1, 0, 1), (2, 0, 1), (16, 0, 8), (16, 1, 1), (16, 12, 12)]
)
def test_background_leaves_cores_and_is_never_this_process(
    cores: int, workers: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    evaluator = Evaluator(ScriptedSuite(10), 50, workers, background=True)
    assert len(evaluator._shares) == processes and not evaluator._here
    evaluator = Evaluator(ScriptedSuite(10), 50, workers)
    assert len(evaluator._shares) == (workers or cores)
    assert evaluator._here == ((workers or cores) == 1)


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        (Raising, r"the process that plays a, b died: Traceback(.*\n)*.*ValueError: the gripper fell off$"),
        (Killed, r"the process that plays a, b died \(exit code -9\)$"),
    ],
)
def test_dead_process_is_one_error_that_names_tasks_and_cause(suite: type[Probes], said: str) -> None:
    broken = suite(["a", "b"], kind="endless", horizon=50)
    evaluator = Evaluator(broken, episodes=4, workers=1, background=True)
    job = evaluator.submit(make_actor(broken))
    with pytest.raises(EvaluationError, match=f"^evaluation: {said}"):
        job.result()
    evaluator.close()


def test_process_that_died_between_evaluations(processes: tuple[Probes, Evaluator]) -> None:
    suite, _ = processes
    evaluator = Evaluator(suite, episodes=3, workers=1, background=True)
    evaluator.run(make_actor(suite))
    pid = evaluator._workers[0]._process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EvaluationError, match="plays a, b died"):
        evaluator.run(make_actor(suite))
    evaluator.close()


def test_close_does_not_wait_for_what_is_played() -> None:
    suite = Probes(["a", "b"], kind="endless", horizon=10**9)
    evaluator = Evaluator(suite, episodes=1, workers=1, background=True)
    evaluator.submit(make_actor(suite))
    pid = evaluator._workers[0]._process.pid
    start = time.perf_counter()
    evaluator.close()
    assert time.perf_counter() - start < 5
    assert not os.path.exists(f"/proc/{pid}")


def test_workers_are_at_most_the_episodes() -> None:
    suite = ScriptedSuite(tasks=1)
    result = Evaluator(suite, episodes=1, workers=8).run(make_actor(suite))
    assert result.success.tolist() == [[1]] and len(suite.made) == 1


class Returns(ScriptedSuite):
    """Judged by return; the second task's episodes are shorter."""

    score = "return"

    @property
    def horizons(self) -> list[int]:
        return [HORIZON, HORIZON - 2]


def test_where_the_return_counts_no_success_ends_an_episode() -> None:
    suite = Returns()
    result = Evaluator(suite, episodes=5, workers=1).run(make_actor(suite))
    assert result.lengths.tolist() == [[4, 4, 3, 4, 1], [2, 2, 2, 2, 1]]
    assert result.returns.tolist() == [[10, 10, 6, 10, 1], [30, 30, 30, 30, 10]]
    assert result.success.tolist() == [[1, 0, 0, 1, 1], [1, 0, 0, 0, 1]]


class Sized(ScriptedSuite):
    """Tasks of other sizes: observations of ones, and actions that must have the task's own size."""

    obs_dim, action_dim = 3, 2

    @property
    def obs_dims(self) -> list[int]:
        return [3, 1]

    @property
    def action_dims(self) -> list[int]:
        return [1, 2]

    def make(self, task: int) -> Scripted:
        env = super().make(task)
        plain = env.step

        def step(action: NDArray) -> tuple[NDArray, float, bool, bool]:
            assert action.shape == (self.action_dims[task],)
            return np.ones(self.obs_dims[task]), *plain(action)[1:]

        env.step, env.reset = step, lambda goal: (Scripted.reset(env, goal), np.ones(self.obs_dims[task]))[1]
        return env


def test_policies_see_zeros_behind_a_task_s_own_observation() -> None:
    suite = Sized()
    actor = make_actor(suite)
    seen = []
    mode = actor.mode
    actor.mode = lambda obs, task=None: (seen.append((obs.tolist(), task.tolist())), mode(obs, task))[1]  # pyright: ignore
    player = Player(suite, [part for share in split(2, 2, 1) for part in share], actor)
    player.play()
    assert len(seen) > 2
    for obs, task in seen:
        assert obs == [[[1, 1, 1], [1, 0, 0]][t] for t in task]
