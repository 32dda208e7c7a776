"""Sizes are those that are allocated, and what does not fit is refused with what would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lit_mtrl.algos.sac import SAC
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.data import placement
from lit_mtrl.data.placement import _control_groups, faster_device, free_bytes, place_buffer, transition_bytes
from lit_mtrl.data.replay import PerTaskReplay
from lit_mtrl.envs.probes import Probes
from tests.helpers.streams import SAMPLES, build, slices

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
SUITE = Probes(tasks=[f"task{i}" for i in range(10)])
SIZE = transition_bytes(SUITE, SAC.stored)
TEN = 10, SIZE


def test_a_transition_takes_what_the_replay_allocates() -> None:
    data = slices(0, 10)  # two observed numbers as the probes, and two of an action
    replay = PerTaskReplay(4, 100, SAMPLES, 0)
    replay.extend(data)
    each = replay.buffer.storage[:1].bytes() / 4  # pyright: ignore[reportAttributeAccessIssue]
    assert each == SIZE + 4  # the probes' action is one number
    assert SIZE == 4 * (2 + 2 + 1 + 1) + 1


def test_meta_world_takes_what_was_published() -> None:
    suite = Probes(tasks=[str(i) for i in range(50)])
    suite.obs_dim, suite.action_dim = 39, 4
    size = transition_bytes(suite, SAC.stored)
    assert place_buffer("cpu", CPU, 50, size, 100_000).size == 50 * 100_000 * 333
    assert str(place_buffer("cpu", CPU, 50, size, 1000)) == "replay: 16.6 MB on cpu"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A machine with a GPU; bytes that are free, by kind of device."""
    free = {"cpu": 10**9, "cuda": 10**9}
    monkeypatch.setattr(placement, "free_bytes", lambda device: free[device.type])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return free


def test_auto_follows_the_learner_while_half_of_its_memory_suffices(machine: dict[str, int]) -> None:
    capacity = 1000
    assert place_buffer("auto", CPU, *TEN, capacity).device == CPU
    machine["cuda"] = 2 * 10 * capacity * SIZE
    assert place_buffer("auto", CUDA, *TEN, capacity).device == CUDA
    machine["cuda"] -= 1
    assert place_buffer("auto", CUDA, *TEN, capacity).device == CPU
    assert place_buffer("cuda", CUDA, *TEN, capacity).device == CUDA
    assert place_buffer("cpu", CUDA, *TEN, capacity).device == CPU


def test_what_does_not_fit_is_refused_with_what_would(machine: dict[str, int]) -> None:
    machine["cpu"] = int(12_345.6 * 10 * SIZE)
    with pytest.raises(
        ConfigError,
        match=r"replay.capacity=20000: needs 5.0 MB for 10 tasks, this machine has 3.1 MB free; 12_000 would fit",
    ):
        place_buffer("auto", CPU, *TEN, 20_000)
    assert place_buffer("auto", CPU, *TEN, 12_000).size <= machine["cpu"]
    machine["cuda"] = 500 * 10 * SIZE
    with pytest.raises(ConfigError, match=r"cuda:0 has .* free; 500 would fit"):
        place_buffer("cuda", CUDA, *TEN, 501)
    with pytest.raises(ConfigError, match=r"^collector.steps x collector.copies=501: needs"):  # of a rollout
        place_buffer("cuda", CUDA, *TEN, 501, key="collector.steps x collector.copies")
    with pytest.raises(ConfigError, match="replay.device=disk"):
        place_buffer("disk", CPU, *TEN, 10)


def test_free_memory_is_known_here() -> None:
    free = free_bytes(CPU)
    assert free is not None and 0 < free < 2**50


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_control_group_counts(version: int, tmp_path: Path) -> None:
    root = tmp_path if version == 2 else tmp_path / "memory"
    limit, used, cached = {
        2: ("memory.max", "memory.current", "inactive_file"),
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }[version]
    for folder, most in ((root / "job", "1000"), (root / "job" / "step", "max" if version == 2 else "900000")):
        folder.mkdir(parents=True)
        (folder / limit).write_text(most)
        (folder / used).write_text("400\n")
        (folder / "memory.stat").write_text(f"anon 100\n{cached} 300\n")
    (tmp_path / "cgroup").write_text("3:cpu:/\n4:memory:/job/step\n" if version == 1 else "0::/job/step\n")
    assert min(_control_groups(tmp_path / "cgroup", tmp_path)) == 900


def test_the_faster_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = build().policy
    before = policy.phase.item()
    monkeypatch.setattr(placement, "_seconds", lambda acting, td: {CPU: 2, torch.device("meta"): 1}[acting.device])
    assert faster_device(policy, SUITE, 1, (CPU, torch.device("meta"))).type == "meta"
    monkeypatch.undo()
    assert faster_device(policy, Probes(), 2, (CPU,)) == CPU
    assert policy.phase.item() == before and policy.device == CPU
