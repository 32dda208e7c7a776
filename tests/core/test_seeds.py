"""Seeds are the same on every machine and in every version, or no run could be repeated; and no two uses share one."""

from __future__ import annotations

import itertools

import numpy as np

from lit_mtrl.core.seeds import epoch_stream, mixed_seed, rank_seed


def test_they_stay_what_they_are() -> None:
    assert [epoch_stream(0, epoch) for epoch in (0, 1, 2)] == [1_484_405_855, 1_982_462_498, 1_570_558_271]
    assert [epoch_stream(0, 1, rank) for rank in (0, 1, 2)] == [1_982_462_498, 450_621_607, 1_942_027_521]
    assert [mixed_seed(0), mixed_seed(0, 1), mixed_seed(7, 1000, 1)] == [
        7_896_617_691_693_857_887,
        2_918_264_622_725_855_778,
        2_563_304_185_384_497_239,
    ]
    assert [rank_seed(7, rank) for rank in (0, 1)] == [7, 3_317_731_564_112_288_844]


def test_the_first_ranks_stream_is_that_of_a_run_without_ranks() -> None:
    for seed, epoch in itertools.product((0, 5), (0, 3)):
        alone = int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0] >> 1)
        assert epoch_stream(seed, epoch) == epoch_stream(seed, epoch, 0) == alone
    assert [rank_seed(seed, 0) for seed in (0, 5, 2**31)] == [0, 5, 2**31]


def test_seeds_epochs_and_ranks_have_streams_of_their_own() -> None:
    streams = [epoch_stream(*place) for place in itertools.product(range(10), range(10), range(3))]
    assert len(set(streams)) == 300
    words = [mixed_seed(*place) for n in (1, 2, 3) for place in itertools.product(range(1, 6), repeat=n)]
    assert len(set(words)) == len(words) == 5 + 25 + 125
    assert len({rank_seed(seed, rank) for seed in range(10) for rank in range(10)}) == 100


def test_they_fit_the_generators() -> None:
    """31 bits for environments, whose generators take no more; 63 for PyTorch, and not fewer."""
    streams = [epoch_stream(seed, epoch, rank) for seed in range(20) for epoch in range(5) for rank in range(2)]
    assert 2**30 < max(streams) < 2**31 and min(streams) >= 0
    words = [mixed_seed(seed, 0) for seed in range(200)]
    assert 2**62 < max(words) < 2**63 and min(words) >= 0
    assert all(type(value) is int for value in (*streams, *words))
