"""Scalar critics: target, loss and value by hand; what is masked neither counts nor spreads."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.critics.base import Critic
from lit_mtrl.critics.scalar import ScalarCritic
from lit_mtrl.nets.mlp import MLP
from lit_mtrl.nets.multi_head import MultiHead

OBS, ACT, T, B = 3, 2, 2, 4
PREDICTION = torch.tensor([[[1.0, 2.0], [3.0, -4.0]], [[0.5, 5.0], [4.0, -6.0]]])
"""Of two critics, for two tasks and two samples."""


def make(size: int = 2, net: type = MultiHead) -> ScalarCritic:
    torch.manual_seed(0)
    return ScalarCritic(partial(net, width=8, depth=1), OBS, ACT, T, size=size)


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(T, B, OBS, generator=generator), torch.randn(T, B, ACT, generator=generator)


def test_target_by_hand() -> None:
    reward, bonus = torch.tensor([[1.0, 1.0], [0.0, 2.0]]), torch.tensor([[0.5, 0.0], [-1.0, 3.0]])
    discount = torch.tensor([[0.5, 0.0], [0.9, 1.0]])  # 0: after a terminal state
    want = [[1 + 0.5 * (0.5 + 0.5), 1.0], [0.9 * (3 - 1), 2 + (-6 + 3)]]
    torch.testing.assert_close(make().target(PREDICTION, reward, discount, bonus), torch.tensor(want))


def test_loss_by_hand() -> None:
    target = torch.tensor([[1.0, 3.0], [5.0, -5.0]])
    want = [[[0.0, 1.0], [4.0, 1.0]], [[0.25, 4.0], [1.0, 1.0]]]
    assert make().loss(PREDICTION, target).tolist() == want


def test_each_ones_value_and_that_of_all() -> None:
    assert torch.equal(make().values(PREDICTION), PREDICTION)
    assert make().value(PREDICTION).tolist() == [[0.5, 2.0], [3.0, -6.0]]
    assert torch.equal(make().value(PREDICTION[:1]), PREDICTION[0])  # of one critic its own


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_what_is_masked_has_no_loss_and_a_finite_gradient_of_zero(bad: float) -> None:
    """As SAC's mask-out asks: zeros in both places instead of what is not finite."""
    raw = PREDICTION.clone()
    raw[:, 1] = bad
    raw.requires_grad_()
    kept = torch.tensor([[True], [False]])
    prediction, target = torch.where(kept, raw, 0.0), torch.where(kept, torch.full((2, 2), 3.0), 0.0)
    loss = make().loss(prediction, target)
    assert loss[:, 1].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    loss.mean((0, 2)).sum().backward()
    assert raw.grad is not None and raw.grad[:, 1].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    torch.testing.assert_close(raw.grad[:, 0], 2 * (PREDICTION[:, 0] - 3) / 4)


@pytest.mark.parametrize("net", [MLP, MultiHead])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_predictions_are_those_of_its_networks_one_by_one(size: int, net: type) -> None:
    critic, (obs, action) = make(size, net), inputs()
    prediction = critic(obs, action)
    assert isinstance(critic, Critic) and prediction.shape == (size, T, B)
    seen = critic.inputs(obs, action)
    assert torch.equal(seen, torch.cat([action, obs], -1))
    assert list(critic.networks()) == [f"critic_{i}" for i in range(size)]
    for own, network in zip(prediction, critic.networks().values(), strict=True):
        torch.testing.assert_close(own, network(seen, None).squeeze(-1))
    assert all(not torch.equal(a, b) for a, b in zip(prediction[1:], prediction[:-1], strict=True))
    rows = torch.arange(T)[:, None].expand(T, B)
    mixed = critic(obs.flatten(0, 1), action.flatten(0, 1), rows.flatten())
    torch.testing.assert_close(mixed, prediction.flatten(1))


def test_frozen_critics_pass_gradients_to_the_action_alone() -> None:
    critic, (obs, action) = make(), inputs()
    action.requires_grad_()
    critic.value(critic(obs, action, frozen=True)).sum().backward()
    assert action.grad is not None and action.grad.abs().sum() > 0
    assert all(p.grad is None for p in critic.parameters())
    critic.value(critic(obs, action)).sum().backward()
    assert all(p.grad is not None for p in critic.parameters())


def test_under_autocast_predictions_are_in_single_precision() -> None:
    critic, (obs, action) = make(), inputs()
    with torch.autocast("cpu", torch.bfloat16):
        prediction = critic(obs, action)
    assert prediction.dtype == torch.float32 and not torch.equal(prediction, critic(obs, action))


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ConfigError, match="^critic.size=0: at least one critic$"):
        make(size=0)
