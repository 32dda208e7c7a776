"""What every weighting of ``conf/weighting`` must do, whatever its idea."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lit_mtrl.weighting.base import Weighting, cosines
from lit_mtrl.weighting.pcgrad import PCGrad, orders, project
from lit_mtrl.weighting.uncertainty import Uncertainty
from tests.helpers.weightings import WEIGHTINGS, make_weighting

T = 5


def make(name: str, tasks: int = T, **options: object) -> Weighting:
    return make_weighting(name, tasks, **options)


def step(weighting: Weighting, losses: Tensor, gradients: Tensor, after: Tensor | None = None) -> Tensor:
    """One update as the engine does it: weights, then what the weighting learns."""
    optimizer = weighting.optimizer()
    weights = weighting(losses, gradients @ gradients.t() if weighting.reads_gramian else None)
    if optimizer is not None:
        if weighting.evaluates_again:
            assert after is not None
            weighting.learn(after)
        optimizer.step()
        weighting.after_step()
    assert weights.shape == losses.shape and weights.dtype == losses.dtype and not weights.requires_grad
    return weights


@pytest.fixture(params=WEIGHTINGS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def run(weighting: Weighting, losses: Tensor, gradients: Tensor, updates: int = 4) -> Tensor:
    """The weights after ``updates - 1`` updates on the same losses and gradients, while losses fall unequally."""
    after = losses * torch.linspace(0.5, 0.9, len(losses))
    for _ in range(updates):
        weights = step(weighting, losses, gradients, after)
        assert weights.isfinite().all()
    assert all(p.isfinite().all() for p in weighting.parameters())
    return weights


@pytest.mark.parametrize("scale", [1e-10, 1e-5, 1.0, 1e5, 1e10])
def test_finite_at_any_scale(name: str, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(T, 40, generator=generator) * scale
    run(make(name), torch.rand(T, generator=generator) * scale, gradients)


def test_finite_with_tasks_of_all_scales_and_zero(name: str) -> None:
    scales = torch.tensor([1e-10, 1e-5, 1.0, 1e10, 0.0])
    generator = torch.Generator().manual_seed(0)
    for seed in range(20):
        gradients = torch.randn(T, 3, generator=generator.manual_seed(seed)) * scales[:, None]
        weights = run(make(name), scales.clone(), gradients)
        total = (weights[:, None] * gradients).sum(0)
        assert total.isfinite().all()


def test_all_zero(name: str) -> None:
    run(make(name), torch.zeros(T), torch.zeros(T, 4))


def test_opposite_and_equal_gradients_are_finite(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for signs in ([1.0, -1, 1, -1, 1], [1.0, -3, 0, 0, 0], [2.0, 2, 2, 2, -8]) * 5:
        g = torch.randn(1, 30, generator=generator)
        weights = run(make(name), torch.ones(T), torch.tensor(signs)[:, None] * g)
        assert weights.abs().max() < 1e4


def test_one_task_is_plain_descent(name: str) -> None:
    weighting = make(name, 1)
    gradients = torch.randn(1, 7)
    first = step(weighting, torch.tensor([3.0]), gradients, torch.tensor([2.0]))
    # CAGrad goes to the edge of its ball, (1 + c) g, and divides by 1 + c^2.
    size = (1 + 0.5) / (1 + 0.5**2) if name == "cagrad" else 1.0
    torch.testing.assert_close(first, torch.tensor([size]), rtol=1e-5, atol=0)
    for _ in range(3):
        later = step(weighting, torch.tensor([3.0]), gradients, torch.tensor([2.0]))
        # Kendall et al. scale a single loss, too: along its gradient all the same.
        assert later > 0 if name == "uncertainty" else abs(float(later) - size) < 1e-5


def test_equal_tasks_weigh_the_same(name: str) -> None:
    g = torch.randn(1, 20)
    weighting = make(name)
    for _ in range(3):
        weights = step(weighting, torch.full((T,), 2.0), g.expand(T, -1), torch.full((T,), 1.5))
        torch.testing.assert_close(weights, weights[0].expand(T), rtol=2e-3, atol=0)
        assert weights[0] > 0


def test_permuting_tasks_permutes_weights(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    losses, gradients = torch.rand(T, generator=generator) + 0.1, torch.randn(T, 8, generator=generator)
    order = torch.tensor([3, 0, 4, 1, 2])
    one, other = make(name), make(name)
    after = losses * torch.linspace(0.5, 0.9, T)
    for update in range(3):
        a = step(one, losses, gradients, after)
        if isinstance(one, PCGrad):  # its random order has to be permuted along
            who = orders(torch.tensor(update + (3 << 32)), T)
            gramian = (gradients @ gradients.t())[order][:, order]
            b = project(gramian, order.argsort()[who[order]]).mean(0)
        else:
            b = step(other, losses[order], gradients[order], after[order])
        torch.testing.assert_close(b, a[order], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-4, 7.0, 1e4])
def test_scaling_all_losses(name: str, factor: float) -> None:
    """All but the uncertainties are functions of ratios and angles: a common unit of the losses does not matter."""
    generator = torch.Generator().manual_seed(1)
    losses, gradients = torch.rand(T, generator=generator) + 0.1, torch.randn(T, 8, generator=generator)
    after = losses * torch.linspace(0.5, 0.9, T)
    if name == "uncertainty":  # which learn the unit: at rest, every weighted loss is one
        weighting = make(name)
        assert isinstance(weighting, Uncertainty)
        weighting.log_variances.data = (losses * factor).log()
        weights = weighting(losses * factor, None)
        torch.testing.assert_close(weights * T * losses * factor, torch.ones(T))
        assert weighting.log_variances.grad is not None and weighting.log_variances.grad.abs().max() < 1e-5
        return
    # Adam's eps is not scale free; small gradients of what is learned would see it.
    tolerance = 0.02 if name in ("gradnorm", "famo") else 1e-4
    one, other = make(name), make(name)
    for _ in range(3):
        a = step(one, losses, gradients, after)
        b = step(other, losses * factor, gradients * factor, after * factor)
        torch.testing.assert_close(a, b, rtol=tolerance, atol=1e-6)


def test_state_is_in_the_state_dict(name: str) -> None:
    """A weighting that continues from its state gives the same weights as one that was never stopped."""
    generator = torch.Generator().manual_seed(2)
    options = {"window": 2} if name == "dwa" else {}
    whole, before, after = make(name, **options), make(name, **options), make(name, **options)
    optimizers = {id(w): w.optimizer() for w in (whole, before, after)}

    def update(weighting: Weighting, losses: Tensor, gradients: Tensor) -> Tensor:
        weights = weighting(losses, gradients @ gradients.t())
        optimizer = optimizers[id(weighting)]
        if optimizer is not None:
            if weighting.evaluates_again:
                weighting.learn(losses * torch.linspace(0.5, 0.9, T))
            optimizer.step()
            weighting.after_step()
        return weights

    data = [(torch.rand(T, generator=generator), torch.randn(T, 8, generator=generator)) for _ in range(9)]
    for losses, gradients in data[:5]:
        update(whole, losses, gradients)
        update(before, losses, gradients)
    after.load_state_dict(before.state_dict())
    old, new = optimizers[id(before)], optimizers[id(after)]
    if old is not None and new is not None:
        new.load_state_dict(old.state_dict())
    for losses, gradients in data[5:]:
        assert torch.equal(update(after, losses, gradients), update(whole, losses, gradients))


def test_nothing_waits_for_the_device(name: str) -> None:
    """On the meta device a value that is read on the host raises, and a copy from the host is seen."""

    class FromHost(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            values = [v for v in (*args, *(kwargs or {}).values()) if isinstance(v, Tensor)]
            devices = {v.device.type for v in values if v.ndim}
            assert devices <= {"meta"}, f"{func} reads a tensor of the host"
            return func(*args, **(kwargs or {}))

    weighting = make(name).to("meta")
    losses, gramian = torch.empty(T, device="meta"), torch.empty(T, T, device="meta")
    with FromHost():
        assert weighting(losses, gramian).shape == (T,)
        if weighting.evaluates_again:
            weighting.learn(losses)
        if weighting.optimizer() is not None:
            weighting.after_step()


def test_cosines_of_zero_and_of_large_gradients() -> None:
    gradients = torch.tensor([[3.0, 4], [0, 0], [-3e10, -4e10], [4e-10, -3e-10]])
    norms, cosine = cosines(gradients @ gradients.t())
    torch.testing.assert_close(norms, torch.tensor([5.0, 0, 5e10, 5e-10]))
    want = torch.tensor([[1.0, 0, -1, 0], [0, 0, 0, 0], [-1, 0, 1, 0], [0, 0, 0, 1]])
    torch.testing.assert_close(cosine, want, atol=1e-6, rtol=0)
