"""On CUDA: the same weights as on the CPU, and nothing between losses and weights waits for the device."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from lit_mtrl.training.engine import Engine
from lit_mtrl.weighting.base import Weighting
from tests.helpers.sac import T, make_batch, make_sac
from tests.helpers.weightings import WEIGHTINGS, make_weighting

pytestmark = pytest.mark.gpu


@pytest.fixture(params=WEIGHTINGS)
def weighting(request: pytest.FixtureRequest) -> Weighting:
    return make_weighting(request.param, T)


@contextmanager
def synchronising_fails() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch says once that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_updates_do_not_synchronise(weighting: Weighting) -> None:
    sac = make_sac().cuda()
    engine = Engine(sac, {"critic": weighting.cuda(), "actor": copy.deepcopy(weighting).cuda()})
    batches = [make_batch(seed).cuda() for seed in range(3)]
    engine.update(batches[0])  # libraries start up
    torch.cuda.synchronize()
    with synchronising_fails():
        for batch in batches:
            engine.update(batch)
    assert all(p.isfinite().all() for p in sac.parameters())


def test_weights_are_the_cpus(weighting: Weighting) -> None:
    there = copy.deepcopy(weighting).cuda()
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        losses, gradients = torch.rand(T, generator=generator) + 0.1, torch.randn(T, 20, generator=generator)
        gramian = gradients @ gradients.t()
        got = there(losses.cuda(), gramian.cuda())
        torch.testing.assert_close(got.cpu(), weighting(losses, gramian), rtol=1e-4, atol=1e-6)
