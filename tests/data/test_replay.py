"""Replay: row t is task t, exactly b per task, independent times, and an exact continuation after a reload."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.data.replay import PerTaskReplay
from tests.helpers.streams import ROWS as T
from tests.helpers.streams import SAMPLES as B
from tests.helpers.streams import slices, times


def replay(capacity: int = 100, tasks: int = T, seed: int = 0) -> PerTaskReplay:
    return PerTaskReplay(tasks, capacity, B, seed)


@pytest.mark.parametrize("updates", [1, 3])
def test_a_chunk_is_updates_by_tasks_by_b(updates: int) -> None:
    buffer = replay()
    buffer.extend(slices(0, 10))
    chunk = buffer.sample(updates)
    assert chunk.batch_size == (updates, T, B)
    assert chunk["next", "reward"].shape == (updates, T, B, 1) and chunk["observation"].shape == (updates, T, B, 2)
    assert buffer.sample(2).batch_size == (2, T, B)  # the next call may ask for another number


def test_row_t_is_task_t_and_transitions_stay_whole() -> None:
    buffer = replay()
    for start in range(0, 50, 10):
        buffer.extend(slices(start, 10))
    chunk = buffer.sample(5)
    task = torch.arange(T).view(1, T, 1)
    assert (chunk["observation"][..., 1] == task).all() and (chunk["next", "observation"][..., 1] == task).all()
    time = times(chunk)
    assert torch.equal(chunk["next", "observation"][..., 0].long(), time + 1)
    assert torch.equal(chunk["action"], -chunk["observation"])
    assert torch.allclose(chunk["next", "reward"][..., 0], time + task / 10)
    assert torch.equal(chunk["next", "terminated"][..., 0], time % 2 == 0)


def test_times_are_independent_across_tasks_updates_and_samples() -> None:
    buffer = replay(capacity=1000)
    buffer.extend(slices(0, 1000))
    time = times(buffer.sample(2))
    rows = [tuple(row) for row in time.flatten(0, 1).tolist()]
    assert len(set(rows)) == 2 * T
    together = (time[:, 0] == time[:, 1]).float().mean()
    assert together < 0.2  # by chance 1 in 1000
    assert all(len(set(row)) > B / 2 for row in rows)


def test_times_are_uniform() -> None:
    buffer = replay(capacity=10)
    buffer.extend(slices(0, 10))
    time = times(buffer.sample(500))
    for task in range(T):
        share = torch.bincount(time[:, task].flatten(), minlength=10) / (500 * B)
        assert ((share - 0.1).abs() < 0.02).all(), task  # six standard deviations


def test_only_what_was_written_is_sampled() -> None:
    buffer = replay(capacity=1000)
    buffer.extend(slices(7, 2))
    assert len(buffer) == 2
    assert set(times(buffer.sample(20)).flatten().tolist()) == {7, 8}


def test_the_oldest_make_room() -> None:
    buffer = replay(capacity=20)
    for start in range(0, 35, 7):  # the wrap-around falls inside a slice
        buffer.extend(slices(start, 7))
    assert len(buffer) == 20
    assert set(times(buffer.sample(50)).flatten().tolist()) == set(range(15, 35))


def test_stored_data_is_not_the_callers_memory() -> None:
    buffer, data = replay(), slices(0, 5)
    buffer.extend(data)
    data["next", "reward"].fill_(99)
    assert buffer.sample(3)["next", "reward"].max() < 10


def test_samples_do_not_alias_the_store() -> None:
    buffer = replay()
    buffer.extend(slices(0, 5))
    buffer.sample(3)["next", "reward"].fill_(99)
    assert buffer.sample(3)["next", "reward"].max() < 10


def test_sampling_follows_the_seed_and_no_other_generator() -> None:
    chunks = []
    for seed, torch_seed in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(torch_seed)
        buffer = replay(seed=seed)
        buffer.extend(slices(0, 50))
        state = torch.get_rng_state()
        chunks.append(buffer.sample(2))
        assert torch.equal(torch.get_rng_state(), state)
    assert (chunks[0] == chunks[1]).all()
    assert not (times(chunks[0]) == times(chunks[2])).all()


@pytest.mark.parametrize("written", [30, 130], ids=["part-full", "wrapped"])
def test_a_reloaded_replay_continues_bit_identically(written: int, tmp_path: Path) -> None:
    first = replay(capacity=100)
    for start in range(0, written, 10):
        first.extend(slices(start, 10))
        first.sample(1)
    first.dumps(tmp_path / "replay")
    second = replay(capacity=100, seed=99)
    second.loads(tmp_path / "replay")
    assert len(second) == len(first)
    for start in range(written, written + 150, 10):  # until everything that was reloaded has been overwritten
        assert (first.sample(2) == second.sample(2)).all()
        first.extend(slices(start, 10))
        second.extend(slices(start, 10))
        assert len(first) == len(second)
    everything = set(times(second.sample(100)).flatten().tolist())
    assert everything == set(range(written + 50, written + 150))


def test_a_dump_is_not_changed_by_what_follows(tmp_path: Path) -> None:
    first = replay(capacity=20)
    first.extend(slices(0, 20))
    first.dumps(tmp_path / "replay")
    expected = first.sample(2)
    first.extend(slices(20, 20))
    second = replay(capacity=20)
    second.loads(tmp_path / "replay")
    assert (second.sample(2) == expected).all()
    second.extend(slices(40, 20))
    third = replay(capacity=20)
    third.loads(tmp_path / "replay")
    assert (third.sample(2) == expected).all()


def test_a_dump_can_be_written_again_over_an_older_one(tmp_path: Path) -> None:
    first = replay(capacity=20)
    for start in (0, 10, 20):
        first.extend(slices(start, 10))
        first.dumps(tmp_path / "replay")
    second = replay(capacity=20)
    second.loads(tmp_path / "replay")
    assert set(times(second.sample(50)).flatten().tolist()) == set(range(10, 30))


def test_a_state_of_another_kind_of_device_seeds_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every reader alike, whatever its seed; what is held is the same."""
    first = replay()
    first.extend(slices(0, 50))
    first.dumps(tmp_path / "replay")
    state = torch.load(tmp_path / "replay" / "state.pt", weights_only=True)
    state["sampler"] = {"generator": torch.arange(16, dtype=torch.uint8), "device": "cuda"}
    torch.save(state, tmp_path / "replay" / "state.pt")
    readers = [replay(seed=seed) for seed in (1, 2)]
    with caplog.at_level("INFO", "lit_mtrl"):
        for reader in readers:
            reader.loads(tmp_path / "replay")
    assert "replay: was on cuda, is on cpu now" in caplog.text
    one, other = (reader.sample(2) for reader in readers)
    assert (one == other).all() and len(readers[0]) == 50


def test_a_state_without_a_device_is_the_hosts() -> None:
    """As older checkpoints have it."""
    first, second = replay(seed=1), replay(seed=2)
    second.sampler.load_state_dict({"generator": first.sampler.generator.get_state()})
    for buffer in (first, second):
        buffer.extend(slices(0, 50))
    assert (first.sample(2) == second.sample(2)).all()


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ConfigError, match="replay.capacity=0"):
        replay(capacity=0)
    with pytest.raises(ConfigError, match="replay.per_task=0"):
        PerTaskReplay(T, 10, 0, 0)
