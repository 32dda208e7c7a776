"""What every suite shares: goals, seeds, time limits, true last observations, episode statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tensordict import TensorDictBase
from torchrl.envs import EnvBase
from torchrl.envs.utils import check_env_specs

from lit_mtrl.core.keys import OBS
from lit_mtrl.envs.base import Suite
from lit_mtrl.envs.metaworld import MetaWorld
from lit_mtrl.envs.probes import KINDS, Probes
from lit_mtrl.envs.vector import VectorEnv, first_horizon, vector_env

GOALS = 1000


class Counting:
    """Observation ``(task, goal, steps so far)``; reward 10 task + steps; success at `succeeds` alone; ends at
    `ends`.
    """

    def __init__(self, task: int, ends: int | None, succeeds: int):
        self.task, self.ends, self.succeeds = task, ends, succeeds
        self.goal = self.count = 0
        self.closed = False

    def reset(self, goal: int) -> NDArray:
        self.goal, self.count = goal, 0
        return np.array([self.task, goal, 0], np.float32)

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool]:
        assert action.shape == (1,) and action.dtype == np.float32
        self.count += 1
        obs = np.array([self.task, self.goal, self.count], np.float32)
        return obs, 10 * self.task + self.count, self.count == self.ends, self.count == self.succeeds

    def close(self) -> None:
        self.closed = True


class CountingSuite(Suite):
    """Task t terminates after ``ends[t]`` steps (None: never)."""

    obs_dim, action_dim, num_goals = 3, 1, GOALS

    def __init__(self, ends: Sequence[int | None], horizon: int = 4, succeeds: int = 2):
        self.tasks = [f"task{i}" for i in range(len(ends))]
        self.ends, self.horizon, self.succeeds = ends, horizon, succeeds

    def make(self, task: int) -> Counting:
        return Counting(task, self.ends[task], self.succeeds)

    def tags(self) -> dict[str, str]:
        return {}


def play(env: VectorEnv, steps: int, seed: int = 0) -> TensorDictBase:
    """``[rows, steps]`` with automatic resets, as a collector plays."""
    env.set_seed(seed, static_seed=True)
    return env.rollout(steps, break_when_any_done=False)


def counts(data: TensorDictBase, key: str | tuple[str, str], row: int) -> list[int]:
    return data[key][row, :, 2].int().tolist()


SUITES = {
    **{kind: (lambda kind=kind: Probes(["a", "b"], kind=kind, horizon=3)) for kind in KINDS},
    "metaworld": lambda: MetaWorld(["reach", "window-open"], horizon=3, goals=2),
}


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("copies", [1, 2])
def test_specs_describe_the_data(suite: str, copies: int) -> None:
    env = VectorEnv(SUITES[suite](), [0, 1], copies)
    assert env.batch_size == (2 * copies,)
    check_env_specs(env, seed=0, break_when_any_done="both")
    env.close()


def test_time_limits_cut_exactly_and_keep_the_true_last_observation() -> None:
    data = play(VectorEnv(CountingSuite([None]), [0]), 9)
    assert counts(data, OBS, 0) == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert counts(data, ("next", OBS), 0) == [1, 2, 3, 4, 1, 2, 3, 4, 1]
    truncated = [False, False, False, True] * 2 + [False]
    assert data["next", "truncated"].flatten().tolist() == truncated
    assert data["next", "done"].flatten().tolist() == truncated
    assert not data["next", "terminated"].any()
    goals = data[OBS][0, :, 1].tolist()
    assert (
        goals == data["next", OBS][0, :, 1].tolist()
    )  # the last observation is of the old goal, the next of a new one
    assert len({*goals[:4]}) == len({*goals[4:8]}) == 1 and len({goals[0], goals[4], goals[8]}) == 3


def test_terminal_states_are_not_truncations_even_at_the_horizon() -> None:
    data = play(VectorEnv(CountingSuite([3, 4]), [0, 1]), 8)
    assert counts(data, ("next", OBS), 0) == [1, 2, 3, 1, 2, 3, 1, 2]
    assert data["next", "terminated"][:, :, 0].int().tolist() == [[0, 0, 1, 0, 0, 1, 0, 0], [0, 0, 0, 1, 0, 0, 0, 1]]
    assert torch.equal(data["next", "terminated"], data["next", "done"])
    assert not data["next", "truncated"].any()


def test_rows_that_go_on_are_untouched_by_the_resets_of_others() -> None:
    data = play(VectorEnv(CountingSuite([2, None]), [0, 1]), 6)
    assert counts(data, OBS, 0) == [0, 1, 0, 1, 0, 1]
    assert counts(data, OBS, 1) == [0, 1, 2, 3, 0, 1]
    assert torch.equal(data[OBS][1, 1:4], data["next", OBS][1, :3])


def test_returns_lengths_and_latched_success() -> None:
    data = play(VectorEnv(CountingSuite([None, None]), [0, 1]), 6)
    # Task 1 pays 11, 12, 13, 14 and succeeds at the second step alone; success stays until the episode ends.
    assert data["next", "reward"][1, :, 0].tolist() == [11, 12, 13, 14, 11, 12]
    assert data["next", "episode_return"][1, :, 0].tolist() == [11, 23, 36, 50, 11, 23]
    assert data["next", "episode_length"][1, :, 0].tolist() == [1, 2, 3, 4, 1, 2]
    assert data["next", "success"][1, :, 0].int().tolist() == [0, 1, 1, 1, 0, 1]
    assert data["success"][1, :, 0].int().tolist() == [0, 0, 1, 1, 0, 0]
    assert data["next", "episode_return"][0, :, 0].tolist() == [1, 3, 6, 10, 1, 3]


def test_statistics_are_not_overwritten_by_later_steps() -> None:
    env = VectorEnv(CountingSuite([None]), [0])
    first = env.step(env.rand_action(env.reset()))
    before = first.clone()
    env.step(env.rand_action(first["next"].clone()))
    assert (first == before).all()


def test_rows_are_tasks_by_copies() -> None:
    data = play(VectorEnv(CountingSuite([None] * 4), [3, 1], copies=3), 2)
    assert data["task_id"][:, 0].tolist() == [3, 3, 3, 1, 1, 1]
    assert data["next", "task_id"][:, 1].tolist() == [3, 3, 3, 1, 1, 1]
    assert data[OBS][:, 0, 0].tolist() == [3, 3, 3, 1, 1, 1]


def goals(tasks: Sequence[int], copies: int, seed: int) -> dict[tuple[int, int], list[float]]:
    """The goals of ten episodes for each (task, copy)."""
    data = play(VectorEnv(CountingSuite([1] * 5), tasks, copies), 10, seed)
    rows = [(task, copy) for task in tasks for copy in range(copies)]
    return {row: data[OBS][i, :, 1].tolist() for i, row in enumerate(rows)}


def test_streams_depend_on_seed_task_and_copy_alone() -> None:
    everything = goals(range(5), 2, seed=7)
    assert goals(range(5), 2, seed=7) == everything
    assert len({tuple(stream) for stream in everything.values()}) == 10  # no two tasks or copies share one
    apart = {**goals([0, 1], 2, seed=7), **goals([4, 2, 3], 2, seed=7)}
    assert apart == everything
    assert goals([3], 1, seed=7)[3, 0] == everything[3, 0]
    other = goals(range(5), 2, seed=8)
    assert all(other[row] != everything[row] for row in everything)


def test_goals_are_drawn_from_all_of_them() -> None:
    suite = Probes(["a"], kind="constant", goals=3)
    signals = play(VectorEnv(suite, [0]), 60)[OBS][0, :, 0].tolist()
    assert {signals.count(z) > 8 for z in (-1, 0, 1)} == {True}


def test_setting_the_seed_restarts_the_stream() -> None:
    env = VectorEnv(CountingSuite([1]), [0])
    first = play(env, 5, seed=3)[OBS]
    play(env, 3, seed=4)
    assert torch.equal(play(env, 5, seed=3)[OBS], first)


def test_partial_resets_leave_the_rest_in_place() -> None:
    env = VectorEnv(CountingSuite([None, None]), [0, 1])
    td = env.reset()
    for _ in range(2):
        td = env.step(env.rand_action(td))["next"]
    again = env.reset(td.clone().set("_reset", torch.tensor([[True], [False]])))
    assert again[OBS][:, 2].tolist() == [0, 2]
    assert again["episode_length"][:, 0].tolist() == [0, 2]
    after = env.step(env.rand_action(again))["next"]
    assert after[OBS][:, 2].tolist() == [1, 3]


def test_actions_reach_their_environment() -> None:
    env = VectorEnv(Probes(["a", "b", "c"], kind="action"), [0, 1, 2])
    td = env.reset().set("action", torch.tensor([[0.25], [-0.5], [0.75]]))  # the best action of each
    assert env.step(td)["next", "reward"][:, 0].tolist() == pytest.approx([1 / 3, -2 / 3, 1])


def test_closing_closes_every_environment() -> None:
    env = VectorEnv(CountingSuite([None, None]), [0, 1], copies=2)
    env.close()
    assert [one.closed for one in env._envs] == [True] * 4


def ends(data: TensorDictBase) -> list[list[int]]:
    """Per row, the steps (from 1) after which an episode ended."""
    return [(row.flatten().nonzero().flatten() + 1).tolist() for row in data["next", "truncated"]]


def test_staggered_first_episodes_spread_the_truncations() -> None:
    suite = CountingSuite([None] * 5, horizon=100)
    data = play(VectorEnv(suite, range(5), copies=2, stagger=True), 230)
    assert ends(data) == [[first, first + 100, first + 200][: 3 if first <= 30 else 2] for first in range(10, 101, 10)]
    assert data["next", "episode_length"][:, :, 0].amax(1).tolist() == [100] * 10
    assert ends(play(VectorEnv(suite, range(5), copies=2), 110)) == [[100]] * 10


def test_staggering_follows_task_and_copy_not_the_workers_rows() -> None:
    suite = CountingSuite([None] * 5, horizon=100)
    apart = [ends(play(VectorEnv(suite, tasks, 2, True), 150)) for tasks in ([0, 1], [4, 2, 3])]
    whole = ends(play(VectorEnv(suite, range(5), 2, True), 150))
    assert apart[0] == whole[:4] and apart[1] == whole[8:] + whole[4:8]


def test_staggered_episodes_have_a_step_at_least_and_the_horizon_at_most() -> None:
    suite = CountingSuite([None] * 7, horizon=3)
    firsts = [first_horizon(suite, task, 0, 1) for task in range(7)]
    assert firsts == [1, 1, 2, 2, 3, 3, 3]


def test_every_seeding_staggers_anew_and_resets_without_steps_change_nothing() -> None:
    env = VectorEnv(CountingSuite([None, None], horizon=4), [0, 1], stagger=True)
    for seed in (1, 2):
        env.set_seed(seed, static_seed=True)
        env.reset()  # `rollout` resets once more
        assert ends(env.rollout(7, break_when_any_done=False)) == [[2, 6], [4]]
    assert ends(env.rollout(5, break_when_any_done=False)) == [[4], [4]]  # a restart without a new seed


def test_a_terminal_state_ends_the_short_episode_too() -> None:
    data = play(VectorEnv(CountingSuite([1, None]), [0, 1], stagger=True), 6)
    assert counts(data, ("next", OBS), 0) == [1] * 6
    assert ends(data)[1] == [4]


def test_suites_build_their_vector_environment() -> None:
    env = vector_env(CountingSuite([None] * 3), [2, 0], copies=2, stagger=True)
    assert isinstance(env, VectorEnv) and env.batch_size == (4,)
    assert ends(play(env, 4)) == [[4], [4], [1], [2]]


def test_a_step_is_torchrls_own() -> None:
    """`VectorEnv.step_and_maybe_reset` against the one it replaces, through ends of some, all and none of the rows."""
    ours, theirs = (VectorEnv(CountingSuite([2, None, 3]), range(3), copies=2, stagger=True) for _ in range(2))
    states = []
    for env in (ours, theirs):
        env.set_seed(5)
        states.append(env.reset())
    ended = set()
    for step in range(15):
        action = torch.rand(6, 1, generator=torch.Generator().manual_seed(step)) * 2 - 1
        for state in states:
            state.set("action", action)
        (a, states[0]), (b, states[1]) = (
            ours.step_and_maybe_reset(states[0]),
            EnvBase.step_and_maybe_reset(theirs, states[1]),
        )
        # Theirs hands the old action on; the policy writes the next one over it.
        for mine, other in ((a, b), (states[0], states[1].exclude("action"))):
            assert set(mine.keys(True, True)) == set(other.keys(True, True))
            assert (mine == other).all()
        ended.add(int(a["next", "done"].sum()))
    assert len(ended) > 2
