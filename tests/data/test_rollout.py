"""Rollouts: each transition once per epoch, every batch b of each task, and an exact continuation after a reload."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tensordict import TensorDict

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.data.rollout import Rollout

T, E, N = 3, 2, 10
EPOCHS, MINIBATCHES = 4, 5
K, B = EPOCHS * MINIBATCHES, E * N // MINIBATCHES


def iteration(start: int = 0) -> TensorDict:
    """``[T, E, n]`` of vector steps from ``start`` on; every number says its task, its copy, its time, or all three."""
    task, copy, time = torch.meshgrid(torch.arange(T), torch.arange(E), torch.arange(start, start + N), indexing="ij")
    where = torch.stack([task, copy, time], -1).float()
    after = {"observation": where + 0.5, "reward": (100 * task + 10 * copy + time).float()[..., None]}
    after["terminated"] = (time % 2 == 0)[..., None]
    return TensorDict({"observation": where, "action": -where, "next": after}, [T, E, N])


def rollout(seed: int = 0, **options: int) -> Rollout:
    """One whose K and b are settled."""
    buffer = Rollout(T, EPOCHS, MINIBATCHES, seed, **options)
    buffer.updates(N, E, 1)
    return buffer


def filled(seed: int = 0, start: int = 0) -> Rollout:
    buffer = rollout(seed)
    buffer.extend(iteration(start))
    return buffer


def places(chunk: TensorDict) -> torch.Tensor:
    """Copy and time as one number, ``[K, T, b]``, ``copy * N + time``."""
    return (chunk["observation"][..., 1] * N + chunk["observation"][..., 2]).long()


def test_k_is_epochs_by_minibatches_and_b_what_is_left_of_the_iteration() -> None:
    buffer = Rollout(T, EPOCHS, MINIBATCHES)
    for per_step in (1, 0.5, 7):  # of no matter here
        assert buffer.updates(N, E, per_step) == K
    assert buffer.per_task == B and buffer.capacity is None
    assert len(buffer) == 0
    buffer.extend(iteration())
    assert len(buffer) == E * N
    chunk = buffer.sample(K)
    assert chunk.batch_size == (K, T, B)
    assert chunk["observation"].shape == (K, T, B, 3) and chunk["next", "reward"].shape == (K, T, B, 1)


def test_every_transition_is_used_once_per_epoch() -> None:
    where = places(filled().sample(K)).unflatten(0, (EPOCHS, MINIBATCHES))
    for epoch in where:
        for task in range(T):
            assert sorted(epoch[:, task].flatten().tolist()) == list(range(E * N))


def test_row_t_is_task_t_and_transitions_stay_whole() -> None:
    chunk = filled(start=7).sample(K)
    task, copy, time = chunk["observation"].unbind(-1)
    assert (task == torch.arange(T).view(1, T, 1)).all()
    assert torch.equal(chunk["action"], -chunk["observation"])
    assert torch.equal(chunk["next", "observation"], chunk["observation"] + 0.5)
    assert torch.equal(chunk["next", "reward"][..., 0], 100 * task + 10 * copy + time)
    assert torch.equal(chunk["next", "terminated"][..., 0], time % 2 == 0)
    assert set(copy.flatten().tolist()) == {0, 1} and set(time.flatten().tolist()) == set(range(7, 17))


def test_tasks_epochs_and_chunks_are_shuffled_each_by_itself() -> None:
    buffer = filled()
    orders = [
        tuple(epoch[:, task].flatten().tolist())
        for chunk in (buffer.sample(K), buffer.sample(K))
        for epoch in places(chunk).unflatten(0, (EPOCHS, MINIBATCHES))
        for task in range(T)
    ]
    assert len(set(orders)) == 2 * EPOCHS * T  # of 20! orders: none is met twice


def test_every_transition_is_as_often_in_the_first_batch() -> None:
    buffer = Rollout(T, 2000, MINIBATCHES)
    assert buffer.updates(N, E, 1) == 2000 * MINIBATCHES
    buffer.extend(iteration())
    first = places(buffer.sample(2000 * MINIBATCHES)).unflatten(0, (2000, MINIBATCHES))[:, 0]
    for task in range(T):
        share = torch.bincount(first[:, task].flatten(), minlength=E * N) / 2000
        assert ((share - 1 / MINIBATCHES).abs() < 0.05).all(), task  # five standard deviations


def test_only_the_last_iteration_is_held() -> None:
    buffer = filled()
    buffer.extend(iteration(start=10))
    assert len(buffer) == E * N
    assert set(buffer.sample(K)["observation"][..., 2].flatten().tolist()) == set(range(10, 20))


def test_neither_the_callers_memory_nor_its_own_is_shared() -> None:
    buffer, data = rollout(), iteration()
    buffer.extend(data)
    data["next", "reward"].fill_(999)
    chunk = buffer.sample(K)
    assert chunk["next", "reward"].max() < 999
    chunk["next", "reward"].fill_(999)
    assert buffer.sample(K)["next", "reward"].max() < 999


def test_shuffles_follow_the_seed_and_no_other_generator() -> None:
    chunks = []
    for seed, torch_seed in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(torch_seed)
        buffer = filled(seed)
        state = torch.get_rng_state()
        chunks.append(places(buffer.sample(K)))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(chunks[0], chunks[1]) and not torch.equal(chunks[0], chunks[2])
    buffer.reseed(3)
    again = filled(99)
    again.reseed(3)
    assert torch.equal(places(buffer.sample(K)), places(again.sample(K)))
    assert not torch.equal(places(buffer.sample(K)), chunks[2])


def test_a_reloaded_rollout_continues_bit_identically(tmp_path: Path) -> None:
    first = filled()
    first.sample(K)
    sums = first.dumps(tmp_path / "replay")
    assert sums.keys() == {path.name for path in (tmp_path / "replay").iterdir()} == {"state.pt"}
    second = rollout(seed=99)
    second.loads(tmp_path / "replay")
    assert len(second) == 0  # the iteration has been used up
    for start in (10, 20):
        for buffer in (first, second):
            buffer.extend(iteration(start))
        assert (first.sample(K) == second.sample(K)).all()
    first.dumps(tmp_path / "replay")  # over the older one
    third = rollout(seed=98)
    third.loads(tmp_path / "replay")
    third.extend(iteration(20))
    assert (first.sample(K) == third.sample(K)).all()


def test_a_state_of_another_kind_of_device_leaves_the_own_seed(tmp_path: Path) -> None:
    filled().dumps(tmp_path / "replay")
    state = {"generator": torch.arange(16, dtype=torch.uint8), "device": "cuda"}
    torch.save(state, tmp_path / "replay" / "state.pt")
    one, other = filled(seed=1), filled(seed=1)
    one.loads(tmp_path / "replay")
    assert (one.sample(K) == other.sample(K)).all()


def test_nothing_is_dealt_to_another_number_of_ranks(tmp_path: Path) -> None:
    filled().dumps(tmp_path / "0")
    one, other = rollout(seed=1), rollout(seed=1)
    one.deal([tmp_path / "0"], 0, 2)
    assert len(one) == 0
    for buffer in (one, other):
        buffer.extend(iteration())
    assert (one.sample(K) == other.sample(K)).all()


def test_ranks_have_their_part_of_steps_and_batches() -> None:
    parts = [Rollout(T, EPOCHS, MINIBATCHES, seed=7, rank=rank, ranks=2) for rank in (0, 1)]
    for part in parts:
        assert part.updates(2 * N, E, 1) == K and part.per_task == 2 * B
        part.extend(iteration())
    chunks = [part.sample(K) for part in parts]
    assert all(chunk.batch_size == (K, T, B) for chunk in chunks)
    assert not torch.equal(places(chunks[0]), places(chunks[1]))
    assert torch.equal(places(chunks[0]), places(filled(seed=7).sample(K)))


def test_a_new_place_holds_nothing_yet() -> None:
    buffer, other = filled(), filled()
    for each in (buffer, other):
        each.sample(K)
    buffer.place(torch.device("cpu"), torch.device("cpu"))
    assert len(buffer) == 0
    buffer.extend(iteration())
    assert (buffer.sample(K) == filled().sample(K)).all()  # from the seed's beginning


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "^replay.epochs=0: pass over the iteration at least once$"),
        ({"minibatches": 0}, "^replay.minibatches=0: at least one batch per pass$"),
        (
            {"minibatches": 3},
            r"^replay.minibatches=3: must divide the 20 transitions of each task in an iteration"
            r" \(collector.steps=10 x collector.copies=2\)$",
        ),
        (
            {"minibatches": 20, "ranks": 2},
            r"the 10 transitions .* \(collector.steps=10 x collector.copies=2 / ranks\)$",
        ),
        ({"ranks": 3}, "^collector.steps=10: must divide among 3 ranks, such as 12$"),
    ],
)
def test_bad_values_are_named(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Rollout(T, **options).updates(N, E, 1)
