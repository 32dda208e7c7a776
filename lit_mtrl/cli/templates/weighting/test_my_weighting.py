"""What every weighting must do; `python -m pytest test_my_weighting.py`."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from lit_mtrl.cli.templates.weighting.my_weighting import MyWeighting

TASKS = 5
LOSSES = torch.tensor([0.5, 1.0, 2.0, 0.1, 0.7])
GRADIENTS = torch.randn(TASKS, 20, generator=torch.Generator().manual_seed(0))


def step(weighting: MyWeighting, losses: Tensor = LOSSES, gradients: Tensor = GRADIENTS) -> Tensor:
    """One update as the engine does it: weights, then what the weighting learns."""
    optimizer = weighting.optimizer()
    weights = weighting(losses, gradients @ gradients.t() if weighting.reads_gramian else None)
    if optimizer is not None:
        if weighting.evaluates_again:
            weighting.learn(losses * 0.9)
        optimizer.step()
        weighting.after_step()
    return weights


def test_one_weight_per_task() -> None:
    """Of the losses' type, and without a graph."""
    weights = step(MyWeighting(TASKS))
    assert weights.shape == (TASKS,) and weights.dtype == LOSSES.dtype and not weights.requires_grad


@pytest.mark.parametrize("scale", [0.0, 1e-10, 1.0, 1e10])
def test_finite_at_any_scale(scale: float) -> None:
    """Losses of reinforcement learning have none of their own."""
    weighting = MyWeighting(TASKS)
    for _ in range(4):
        assert step(weighting, LOSSES * scale, GRADIENTS * scale).isfinite().all()


def test_equal_tasks_weigh_the_same() -> None:
    """As long as nothing tells them apart."""
    weights = step(MyWeighting(TASKS), torch.ones(TASKS), GRADIENTS[:1].expand(TASKS, -1))
    torch.testing.assert_close(weights, weights[0].expand(TASKS))


def test_a_checkpoint_holds_what_it_remembers() -> None:
    """A resumed run goes on as if it had not stopped."""
    one, other = MyWeighting(TASKS), MyWeighting(TASKS)
    for _ in range(3):
        step(one)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    torch.testing.assert_close(step(other), step(one))
