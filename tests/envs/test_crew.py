"""Threads that step rows: every row once, whoever comes late; and nothing is left of them."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from lit_mtrl.envs.metaworld import MetaWorld
from lit_mtrl.envs.native.group import Group

NAME = "lit_mtrl-step"


def crew() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


def make(threads: int) -> Group:
    suite = MetaWorld(["reach", "push"])
    tasks = [0, 1, 0, 1]
    return Group([suite.tasks[task] for task in tasks], [suite.make_official(task) for task in tasks], threads)


def play(group: Group, steps: int) -> np.ndarray:
    """Observations ``[steps, 4, 39]`` of the same actions and goals for all."""
    seen, obs = np.zeros((steps, 4, 39), np.float32), np.zeros((4, 39), np.float32)
    reward, success = np.zeros((4, 1), np.float32), np.zeros(4, bool)
    group.begin(range(4), [0, 1, 2, 3], obs)
    for step, action in enumerate(np.random.default_rng(0).uniform(-1, 1, (steps, 4, 4)).astype(np.float32)):
        group.advance(action, obs, reward, success)
        seen[step] = obs
    return seen


@pytest.fixture(scope="module")
def alone() -> np.ndarray:
    group = make(1)
    assert not crew()
    seen = play(group, 300)
    group.close()
    return seen


@pytest.fixture
def interrupting() -> Iterator[None]:
    """A signal every millisecond or so, which ends what waits in the kernel."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("threads", [2, 4])
def test_every_row_is_stepped_once(threads: int, alone: np.ndarray, interrupting: None) -> None:
    """With more threads than cores, and signals."""
    group = make(threads)
    assert len(crew()) == threads - 1
    assert np.array_equal(play(group, 300), alone)
    group.close()


def test_nothing_is_left() -> None:
    before = files()
    group = make(3)
    play(group, 3)
    assert len(crew()) == 2 and files() == before + 4
    group.close()
    group.close()
    assert not crew() and files() == before


def test_nothing_is_left_of_what_nobody_closed() -> None:
    before = files()
    group = make(3)
    play(group, 3)
    del group
    gc.collect()
    assert not crew() and files() == before


def test_waiting_costs_nothing() -> None:
    group = make(4)
    play(group, 3)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1
    group.close()
