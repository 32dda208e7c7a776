"""Meta-World's own ``evaluation()`` and ours play the same episodes when there is one goal, so they must agree."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.envs.metaworld import MetaWorld
from lit_mtrl.envs.probes import Probes
from lit_mtrl.evaluation.evaluator import Evaluator
from lit_mtrl.evaluation.official import OfficialEvaluator
from lit_mtrl.nets.multi_head import MultiHead
from lit_mtrl.policies.tanh_gaussian import TanhGaussian


@pytest.fixture
def actor() -> TanhGaussian:
    torch.manual_seed(0)
    actor = TanhGaussian(partial(MultiHead, width=32, depth=2), 39, 4, 2)
    with torch.no_grad():
        actor.net.heads.weight.mul_(2000)
    return actor


@pytest.mark.parametrize("workers", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_official_evaluation_agrees_on_a_fixed_goal(actor: TanhGaussian, workers: int) -> None:
    suite = MetaWorld(["drawer-close", "reach"], horizon=60, goals=1)
    ours, theirs = Evaluator(suite, 2, 1), OfficialEvaluator(suite, 2, workers)
    a, b = ours.run(actor), theirs.run(actor)
    assert b.success.shape == (2, 1) and np.isnan(b.lengths).all()
    assert a.success.mean(-1).tolist() == b.success.mean(-1).tolist()
    np.testing.assert_allclose(a.returns, b.returns, rtol=1e-5)
    assert np.ptp(a.returns, axis=0).min() > 1  # the tasks are told apart
    ours.close()
    theirs.close()


def test_official_evaluation_is_metaworlds_alone() -> None:
    with pytest.raises(ConfigError, match="eval.protocol=official"):
        OfficialEvaluator(Probes(["a"]), 2, 1)
