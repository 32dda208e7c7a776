"""The engine: order and period of objectives, what each may touch, clipping, metrics, weightings."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from lit_mtrl.training.engine import Engine
from lit_mtrl.weighting.base import Weighting
from lit_mtrl.weighting.mean import Mean
from tests.helpers.sac import T
from tests.helpers.updates import SAMPLES as B
from tests.helpers.updates import UPDATES as K
from tests.helpers.updates import Toy, toy_chunk


def test_objectives_run_in_order_and_when_due() -> None:
    toy = Toy(every=2)
    Engine(toy).run(toy_chunk())
    assert toy.log == ["first", "second", "after", "first", "after"] * 3


def test_an_objective_moves_only_its_own_parameters() -> None:
    toy = Toy()
    engine = Engine(toy)
    for batch in toy_chunk().unbind(0):
        before = toy.b.detach().clone()
        engine._step(engine.objectives[0], batch)
        assert torch.equal(toy.b, before) and toy.b.grad is None
        before = toy.a.detach().clone()
        engine._step(engine.objectives[1], batch)
        assert torch.equal(toy.a, before)
        break


@pytest.mark.parametrize("clip", [None, 1.0, 100.0])
def test_clipping_is_joint_and_the_norm_is_from_before(clip: float | None) -> None:
    toy = Toy(clip)
    engine = Engine(toy)
    metrics = engine.update(toy_chunk(6.0)[0])
    # d mean_t(a_t * 6) / d a_t = 6 / 3 = 2 each: norm sqrt(3 * 4) = 3.4641
    assert float(metrics["first/grad_norm"]) == pytest.approx(12**0.5)
    expected = 2.0 if clip != 1.0 else 2.0 / 12**0.5
    assert toy.a.grad is not None
    torch.testing.assert_close(toy.a.grad, torch.full((T,), expected))


def test_metrics_are_means_over_updates() -> None:
    toy = Toy(every=2)
    engine = Engine(toy)
    data = TensorDict({"x": torch.arange(1.0, K + 1).view(K, 1, 1).expand(K, T, B).clone()}, [K, T, B])
    values, copy = [], toy.a.detach().clone()
    reference = Toy(every=2)
    alone = Engine(reference)
    for batch in data.clone().unbind(0):
        values.append(alone.update(batch))
    per_task, scalar = engine.run(data)
    torch.testing.assert_close(per_task["first/loss"], torch.stack([v["first/loss"] for v in values]).mean(0))
    seconds = [v["second/loss"] for v in values if "second/loss" in v]
    assert len(seconds) == K // 2
    torch.testing.assert_close(per_task["second/loss"], torch.stack(seconds).mean(0))
    torch.testing.assert_close(scalar["first/param_norm"], toy.a.detach().norm())
    assert not torch.equal(copy, toy.a)
    assert engine.updates == K


def test_weighting_decides_the_gradient() -> None:
    class OnlyLast(Weighting):
        def forward(self, losses, gramian):
            return torch.eye(T)[-1]

    toy = Toy()
    Engine(toy, {"first": OnlyLast(T)}).update(toy_chunk()[0])
    assert toy.a.grad is not None
    assert toy.a.grad.tolist() == [0, 0, 1]


def test_mean_weighting_is_the_plain_average() -> None:
    losses = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    weights = Mean(3)(losses.detach(), None)
    assert not weights.requires_grad
    assert float((weights * losses).sum().detach()) == pytest.approx(3.0)
    assert Mean(1)(torch.tensor([5.0]), None).tolist() == [1.0]


def test_share_of_finite_losses_tells_who_broke_first() -> None:
    data = toy_chunk()
    data["x"][2, 1] = torch.inf
    per_task, _ = Engine(Toy()).run(data)
    finite = per_task["first/finite"]
    assert finite.argmin() == 1 and finite.min() < finite[0]
