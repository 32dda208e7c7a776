"""The contract of every network in ``conf/network``, as actor-sized net and stacked as critics."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import get_object

from lit_mtrl.nets.ensemble import Ensemble
from lit_mtrl.nets.sharing import shared_modules
from tests.helpers.nets import IN, OUT, B, T

pytestmark = pytest.mark.usefixtures("double_precision")


def test_any_leading_shape(make) -> None:
    net = make()
    x, task = torch.randn(7, 2, 3, IN), torch.randint(T, (7, 2, 3))
    y = net(x, task)
    assert y.shape == (7, 2, 3, OUT)
    torch.testing.assert_close(net(x.reshape(-1, IN), task.flatten()), y.reshape(-1, OUT))
    torch.testing.assert_close(net(x[1, 1, 1], task[1, 1, 1]), y[1, 1, 1])


@pytest.mark.parametrize("lead", [(B,), (), (2, B)], ids=str)
def test_row_layout_equals_explicit_tasks(make, lead: tuple) -> None:
    net = make()
    x = torch.randn(T, *lead, IN)
    task = torch.arange(T).view(T, *[1] * len(lead)).expand(T, *lead)
    torch.testing.assert_close(net(x), net(x, task))


def test_samples_do_not_see_each_other(make) -> None:
    net, x, task = make(), torch.randn(8, IN), torch.randint(T, (8,))
    order = torch.randperm(8)
    torch.testing.assert_close(net(x, task)[order], net(x[order], task[order]))


def test_task_changes_output(make) -> None:
    net, x = make(), torch.randn(1, IN).expand(T, IN)
    y = net(x, torch.arange(T))
    assert all(not torch.allclose(y[i], y[j]) for i in range(T) for j in range(i))


def test_every_parameter_gets_a_gradient(make) -> None:
    net = make()
    net(torch.randn(T, 64, IN)).square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and (p.grad != 0).any(), name


def test_state_dict_round_trip(make) -> None:
    one, two, x = make(), make(), torch.randn(T, B, IN)
    assert not torch.equal(one(x), two(x))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(x), two(x))


def test_ensemble_is_its_copies(make) -> None:
    copies = [make() for _ in range(3)]
    pool = iter(copies)
    ensemble = Ensemble(lambda: next(pool), 3)
    single = {id(p) for module in shared_modules(ensemble.net) for p in module.parameters()}
    x, task = torch.randn(T, B, IN), torch.randint(T, (T, B))
    again = [
        make() for _ in range(3)
    ]  # the first copy became the ensemble's skeleton: rebuild each from the stacked weights
    for i, net in enumerate(again):
        stacked = dict(ensemble.net.named_parameters())
        own = {k: v if id(v) in single else v[i] for k, v in stacked.items()}
        net.load_state_dict({**own, **dict(ensemble.net.named_buffers())})
        torch.testing.assert_close(ensemble(x)[i], net(x))
        torch.testing.assert_close(ensemble(x, task)[i], net(x, task))
    assert not torch.equal(ensemble(x)[0], ensemble(x)[1])


def test_frozen_ensemble_is_a_constant(make) -> None:
    ensemble = Ensemble(make, 2)
    x = torch.randn(T, B, IN, requires_grad=True)
    torch.testing.assert_close(ensemble(x, frozen=True), ensemble(x))
    ensemble(x, frozen=True).square().sum().backward()
    assert x.grad is not None and (x.grad != 0).any()
    assert all(p.grad is None for p in ensemble.parameters())


def test_initialisation() -> None:
    """He-uniform hidden weights, zero biases, head in +-bound (McLean et al.)."""
    net = get_object("lit_mtrl.nets.multi_head.MultiHead")(IN, OUT, T, 1e-3, width=400, depth=3)
    bound = (6 / (IN + T)) ** 0.5
    net.requires_grad_(False)
    w = net.torso.first.weight
    assert w.abs().max() <= bound and w.abs().max() > 0.98 * bound
    assert abs(float(net.torso.rest[0].weight.std()) - (2 / 400) ** 0.5) < 1e-3
    assert all((layer.bias == 0).all() for layer in [net.torso.first, *net.torso.rest])
    assert net.heads.weight.abs().max() <= 1e-3 and net.heads.bias.abs().max() > 1e-4
