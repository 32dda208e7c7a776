"""On a GPU: the replay there, chunks through pinned memory, and a policy that acts there, each equal to the host's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lit_mtrl.core.keys import ACTION, OBS
from lit_mtrl.data.placement import faster_device, free_bytes
from lit_mtrl.data.replay import PerTaskReplay
from lit_mtrl.policies.acting import EXPLORE, RANDOM
from tests.helpers.streams import ROWS as T
from tests.helpers.streams import SAMPLES as B
from tests.helpers.streams import Learner, build, make_policy, same, slices, times
from tests.helpers.suites import TraceSuite

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def placed(device: torch.device, seed: int = 0, learner: torch.device | None = None) -> PerTaskReplay:
    replay = PerTaskReplay(T, 100, B, seed)
    replay.place(device, learner)
    return replay


def test_a_replay_on_the_gpu_keeps_its_tasks_apart_and_follows_its_seed() -> None:
    chunks = []
    for seed in (0, 0, 1):
        replay = placed(GPU, seed)
        for start in range(0, 130, 10):
            replay.extend(slices(start, 10))
        chunks.append(replay.sample(5))
    assert all(value.device == GPU for value in chunks[0].values(True, True))
    assert chunks[0].batch_size == (5, T, B)
    assert (chunks[0]["observation"][..., 1] == torch.arange(T, device=GPU).view(1, T, 1)).all()
    assert set(times(chunks[0]).flatten().tolist()) <= set(range(30, 130))
    assert (chunks[0] == chunks[1]).all() and not (times(chunks[0]) == times(chunks[2])).all()


def test_chunks_through_pinned_memory_are_the_hosts() -> None:
    host, staged = placed(CPU), placed(CPU, learner=GPU)
    for replay in (host, staged):
        replay.extend(slices(0, 50))
    pairs = [(host.sample(updates), staged.sample(updates)) for updates in (4, 4, 4, 2)]
    for expected, chunk in pairs:  # compared last: a chunk must survive the memory's next use
        assert chunk.device == GPU and (chunk.cpu() == expected).all()


@pytest.mark.parametrize("devices", [(CPU, GPU), (GPU, CPU), (GPU, GPU)], ids=["to-gpu", "to-host", "stay"])
def test_a_dump_is_read_on_any_device(devices: tuple[torch.device, torch.device], tmp_path: Path) -> None:
    first = placed(devices[0])
    for start in range(0, 130, 10):
        first.extend(slices(start, 10))
    first.dumps(tmp_path / "replay")
    readers = [placed(devices[1], seed) for seed in (1, 2)]
    for reader in readers:
        reader.loads(tmp_path / "replay")
    one, other = (reader.sample(50) for reader in readers)
    assert (one == other).all() and set(times(one).flatten().tolist()) == set(range(30, 130))
    if devices[0] == devices[1]:
        assert (first.sample(50) == one).all()


def test_a_policy_on_the_gpu_acts_as_on_the_host() -> None:
    from lit_mtrl.data.collect import TaskCollector

    suite = TraceSuite(5)
    batches = []
    for device in (CPU, GPU):
        policy = make_policy(suite)
        collector = TaskCollector(suite, policy, 6, 2, policy_device=device)
        collector.restart(0)
        parts = []
        for phase in (RANDOM, EXPLORE):
            policy.phase.fill_(phase)
            collector.publish()
            parts.append(collector.collect())
        batches.append(torch.cat(parts, -1))
        collector.shutdown()
    assert torch.equal(batches[0][OBS], batches[1][OBS])
    assert torch.allclose(batches[0][ACTION], batches[1][ACTION], atol=1e-5)
    assert torch.equal(
        batches[0][ACTION][:, :, :6], batches[1][ACTION][:, :, :6]
    )  # the uniform ones are drawn on the host


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_a_learner_on_the_gpu_publishes_to_either(where: str) -> None:
    suite = TraceSuite(3)
    source = make_policy(suite)
    acting = source.acting_copy(where)
    source.policy.to(GPU)
    with torch.no_grad():
        for parameter in source.policy.parameters():
            parameter.add_(1)
    source.phase.fill_(RANDOM)
    acting.follow(source)
    assert acting.device.type == where and acting.phase.item() == RANDOM
    for mine, theirs in zip(acting.policy.parameters(), source.policy.parameters(), strict=True):
        assert torch.equal(mine.cpu(), theirs.cpu())


@pytest.mark.parametrize(
    "options", [{}, {"device": "cpu"}, {"policy_device": "cpu"}], ids=["all-gpu", "replay-on-host", "policy-on-host"]
)
def test_overlap_with_a_learner_on_the_gpu_repeats_itself(options: dict) -> None:
    learners = []
    for _ in range(2):
        data = build(overlap=True, **{"device": "cuda", "policy_device": "cuda", **options})
        data.algorithm.to(GPU)
        learners.append(Learner(data))
        learners[-1].epoch()
        learners[-1].epoch()
        assert all(i.chunk is None or i.chunk.device == GPU for i in learners[-1].seen)
    assert same(*learners) and len(learners[0].held()[OBS]) > 0
    for learner in learners:
        learner.data.teardown("fit")


def test_free_memory_and_the_faster_device_are_measured() -> None:
    free = free_bytes(GPU)
    assert free is not None and 0 < free <= torch.cuda.get_device_properties(GPU).total_memory
    suite = TraceSuite(3)
    assert faster_device(make_policy(suite), suite, 2, (CPU, GPU)) in (CPU, GPU)
