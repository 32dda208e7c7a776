"""The contract of an algorithm: objectives say at once what is wrong with them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lit_mtrl.algos.base import Objective, adam
from lit_mtrl.core.errors import ConfigError


def test_adam_is_fused_and_of_the_given_rate() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = adam(0.25, 1e-3, "algo.lr")([parameter])
    assert type(optimizer) is torch.optim.Adam
    (group,) = optimizer.param_groups
    assert (group["lr"], group["eps"], group["fused"]) == (0.25, 1e-3, True) and group["params"] == [parameter]


@pytest.mark.parametrize("lr", [0, -1.0, math.nan])
def test_learning_rates_are_positive(lr: float) -> None:
    with pytest.raises(ConfigError, match=rf"algo\.critic_lr={lr}: learning rates are positive"):
        adam(lr, 1e-5, "algo.critic_lr")


def test_bad_objectives() -> None:
    by = adam(1e-3, 1e-5, "algo.lr")
    with pytest.raises(ConfigError, match="actor: every=0"):
        Objective("actor", None, (), by, every=0)
    with pytest.raises(ConfigError, match="algo.max_grad_norm=0"):
        Objective("actor", None, (), by, max_grad_norm=0)
