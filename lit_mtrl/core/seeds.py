"""Seeds that are functions of a run's seed and of where in the run they are used."""

from __future__ import annotations

import numpy as np


def epoch_stream(seed: int, epoch: int, rank: int = 0) -> int:
    """The random stream of an epoch's environments and actions on a rank, a 31-bit integer."""
    return int(np.random.SeedSequence((seed, epoch, rank) if rank else (seed, epoch)).generate_state(1)[0] >> 1)


def mixed_seed(*words: int) -> int:
    """One seed, of 63 bits, for each list of words."""
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def rank_seed(seed: int, rank: int) -> int:
    """A run's seed on one of its ranks; that of the first is the run's own."""
    return mixed_seed(seed, rank) if rank else seed
