"""The stream: updates per frame are exact, overlap repeats itself bit for bit, and nothing is left running."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.keys import ACTION
from lit_mtrl.data.collect import TaskCollector
from tests.helpers.processes import environment
from tests.helpers.streams import COPIES, EPOCH, FRAMES, HORIZON, STEP_FRAMES, STEPS, Learner, build, same
from tests.helpers.suites import Raising

OVERLAP = pytest.mark.parametrize("overlap", [False, True], ids=["alternating", "overlap"])


@pytest.fixture
def learner(request: pytest.FixtureRequest) -> Iterator[Learner]:
    learner = Learner(build(**request.param))
    yield learner
    learner.data.teardown("fit")


@OVERLAP
@pytest.mark.parametrize(("rate", "random"), [(1, 8), (0.5, 8), (2, 10), (1, 0)])
def test_updates_per_frame_are_exact_after_any_number_of_frames(overlap: bool, rate: float, random: int) -> None:
    """Also across a save and a continuation after two epochs. The warm start ends with the iteration in which its last
    step falls.
    """
    warm = math.ceil(random / STEPS) * STEPS * STEP_FRAMES
    updates, frames, state = 0, 0, {"frames": 0}
    for _ in range(2):
        learner = Learner(build(overlap=overlap, updates_per_step=rate, random_steps=random))
        learner.data.load_state_dict(state)
        learner.engine.updates = updates
        for _ in range(2):
            for iteration in learner.data:
                learner.learn(iteration)
                frames += STEPS * STEP_FRAMES
                assert iteration.frames == frames
                assert learner.engine.updates == rate * max(0, frames - warm) / STEP_FRAMES
        updates, state = learner.engine.updates, learner.data.state_dict()
        learner.data.teardown("fit")
    assert frames == FRAMES


def test_the_random_start_is_equally_long_with_overlap() -> None:
    """Its actions depend on no weights: both hold the same transitions until it ends, other ones soon afterwards."""
    learners = [Learner(build(overlap=overlap)) for overlap in (False, True)]
    for learner in learners:
        learner.epoch()
        assert [i.chunk is None for i in learner.seen] == [True, True, False, False, False]
    alternating, beside = (learner.held()[ACTION].unflatten(0, (5, -1)) for learner in learners)
    same = [torch.equal(a, b) for a, b in zip(alternating, beside, strict=True)]
    # The third iteration acts with the first weights in both; the fourth is collected before the first updates with
    # overlap.
    assert same == [True, True, True, False, False]
    for learner in learners:
        learner.data.teardown("fit")


@OVERLAP
def test_a_run_repeats_bit_for_bit_and_continues_as_if_uninterrupted(overlap: bool, tmp_path: Path) -> None:
    whole, again = Learner(build(overlap=overlap)), Learner(build(overlap=overlap))
    for learner in (whole, again):
        learner.epoch()
        learner.epoch()
    assert same(whole, again)
    again.data.buffer.dumps(tmp_path / "replay")
    (tmp_path / "manifest.json").write_text(json.dumps({"frames": again.data.frames}))
    continued = Learner(build(overlap=overlap))
    continued.data.load_state_dict(again.data.state_dict())
    continued.data.resume_buffer(tmp_path)
    continued.data.algorithm.load_state_dict(again.data.algorithm.state_dict())
    for name, optimizer in again.engine.optimizers.items():
        continued.engine.optimizers[name].load_state_dict(optimizer.state_dict())
    continued.engine.updates = again.engine.updates
    for learner in (whole, continued):
        learner.epoch()
        learner.epoch()
    assert same(whole, continued)
    assert not same(whole, again)
    for learner in (whole, again, continued):
        learner.data.teardown("fit")


@pytest.mark.parametrize(
    "learner", [{"overlap": True, "workers": 2, "capacity": 200}], indirect=True, ids=["2-workers"]
)
def test_overlap_with_worker_processes_repeats_itself(learner: Learner) -> None:
    for frames in (0, EPOCH, 0):
        learner.data.load_state_dict({"frames": frames})
        assert [i.chunk is None for i in learner.data] == [frames == 0] * 2 + [False] * 3
    for values in learner.held().values():
        first, second, third = values.chunk(3)
        assert torch.equal(first, third) and not torch.equal(first, second)


@pytest.mark.parametrize("learner", [{"overlap": True}], indirect=True, ids=["overlap"])
def test_the_environments_step_while_the_learner_is_busy(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    collect, threads, begun = TaskCollector.collect, [], threading.Semaphore(0)

    def told(self: TaskCollector):
        threads.append(threading.current_thread())
        begun.release()
        return collect(self)

    monkeypatch.setattr(TaskCollector, "collect", told)
    assert begun.acquire(blocking=False) is False
    for done, _ in enumerate(learner.data, 1):
        if done < len(learner.data):  # while the loop is here, the next collection begins
            assert begun.acquire(timeout=60) and (done > 1 or begun.acquire(timeout=60))
    assert threads[0] is threading.main_thread() and threads[1] is not threading.main_thread()
    assert len(set(threads[1:])) == 1 and len(threads) == len(learner.data)  # nothing is left in flight


def test_collecting_in_a_thread_leaves_the_learners_threads_alone() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        learner = Learner(build(overlap=True))
        for iteration in learner.data:
            assert torch.get_num_threads() == 2
            learner.learn(iteration)
        learner.data.teardown("fit")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@OVERLAP
def test_an_environments_error_is_the_learners(overlap: bool) -> None:
    learner = Learner(
        build(
            overlap=overlap,
            suite=Raising(kind="endless", horizon=HORIZON),
            copies=1,
            epoch_frames=60,
            frames=960,
            random_steps=10**6,  # no updates
        )
    )
    with pytest.raises(ValueError, match="the gripper fell off"):
        for _ in range(16):
            learner.epoch()
    learner.data.teardown("fit")
    assert not [t for t in threading.enumerate() if t.name.startswith("collect")]


def test_a_loop_that_is_left_ends_the_collection_in_flight() -> None:
    learner = Learner(build(overlap=True, steps=20, random_steps=0, epoch_frames=50 * EPOCH, frames=50 * EPOCH))
    stream = iter(learner.data)
    next(stream)
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]
    learner.data.teardown("fit")
    assert not [t for t in threading.enumerate() if t.name.startswith("collect")]


@pytest.mark.parametrize("learner", [{"overlap": True}], indirect=True, ids=["overlap"])
def test_an_epoch_that_was_left_begins_again(learner: Learner) -> None:
    stream = iter(learner.data)
    next(stream)
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]
    learner.data.load_state_dict({"frames": 0})
    first = [i.frames for i in learner.data]
    assert first == [STEPS * STEP_FRAMES * k for k in range(1, 6)]


INTERRUPTED = """
import sys, time
from tests.helpers.streams import Learner, build
from lit_mtrl.envs.probes import Probes

if __name__ == "__main__":
    learner = Learner(build(overlap=True, steps=20_000, random_steps=0, workers=int(sys.argv[1]),
                            suite=Probes(kind="endless", horizon=20_000), epoch_frames=600_000, frames=600_000))
    learner.data._publish(learner.data.collector)
    learner.data._ahead.start()
    print("ready", flush=True)
    try:
        learner.data._ahead.result()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    finally:
        learner.data.teardown("fit")
    print("closed", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_during_a_collection_ends_the_program(workers: int, tmp_path: Path) -> None:
    """Control-C goes to the whole process group."""
    (tmp_path / "main.py").write_text(INTERRUPTED)
    command = [sys.executable, str(tmp_path / "main.py"), str(workers)]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    start = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert said.split() == ["interrupted", "closed"]
    assert time.monotonic() - start < 20


@pytest.mark.slow
@OVERLAP
def test_memory_does_not_grow(overlap: bool) -> None:
    """Over 200,000 frames after the warm-up the resident memory stays within 3 MB."""
    epoch = 20 * EPOCH  # 20 times as many environments as elsewhere
    sizes = dict(copies=20 * COPIES, epoch_frames=5 * epoch, frames=500 * epoch, updates_per_step=0.25)
    learner = Learner(build(overlap=overlap, **sizes))

    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    learner.learn = lambda iteration: learner.engine.run(iteration.chunk) if iteration.chunk is not None else None  # type: ignore[method-assign]
    sizes = []
    while learner.data.frames < 240_000:
        learner.epoch()
        sizes.append((learner.data.frames, resident()))
    learner.data.teardown("fit")
    warm = next(size for frames, size in sizes if frames >= 30_000)
    assert sizes[-1][1] - warm < 3e6, sizes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 4}, "collector.workers=4: between 1 and the number of tasks, 3"),
        ({"policy_device": "gpu"}, "collector.policy_device=gpu"),
        ({"policy_device": "cuda", "workers": 2}, "collector.policy_device=cuda: 2 processes cannot share the GPU"),
    ],
)
def test_bad_values_are_named(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="collector.policy_device=cuda: PyTorch finds no CUDA device"):
        build(policy_device="cuda")
    with pytest.raises(ConfigError, match="replay.device=cuda: PyTorch finds no CUDA device"):
        build(device="cuda").settle(torch.device("cpu"))
