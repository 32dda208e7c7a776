"""Layers are found in every network, with their names, units and samples, and what is recorded is what the network
computed.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lit_mtrl.nets.activations import record, rows_of
from lit_mtrl.nets.ensemble import Ensemble
from tests.helpers.nets import CASES, IN, T, maker, name_of

B = 6
UNITS = {"mlp": 32, "multi_head": 32, "moore": 4 * 16 + 16, "paco": 32}


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_network_has_layers_of_distinct_names(case: tuple[str, dict]) -> None:
    torch.manual_seed(0)
    net = maker(*case)()
    layers = record(net, torch.randn(T, B, IN))
    names = [layer.name for layer in layers]
    modules = dict(net.named_modules())
    assert layers and len(set(names)) == len(names)
    assert all(name.split("#")[0] in modules for name in names)
    assert {len(layer.values) for layer in layers} <= {T * B, T}
    assert len(layers[-1].values) == T * B  # the features


@pytest.mark.parametrize("name", ["mlp", "multi_head", "moore", "paco"])
def test_number_of_units(name: str) -> None:
    layers = record(maker(name, {})(), torch.randn(T, B, IN))
    assert sum(layer.values.shape[1] for layer in layers) == UNITS[name]


def test_values_and_names_of_a_torso() -> None:
    torch.manual_seed(0)
    net = maker("multi_head", {})()
    x = torch.randn(T, B, IN)
    first, second = record(net, x)
    assert (first.name, second.name) == ("torso.first", "torso.rest.0")
    expected = net.torso.first(x).relu()  # pyright: ignore
    assert torch.equal(first.values, expected.reshape(T * B, -1))
    assert torch.equal(second.values, net.torso.rest[0](expected).relu().reshape(T * B, -1))  # pyright: ignore
    assert first.bounds is None


def test_names_that_are_used_again_stay_apart() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.ModuleDict({"dense": nn.Linear(3, 4)})
            self.b = nn.ModuleDict({"dense": nn.Linear(4, 4)})

        def forward(self, x: Tensor) -> Tensor:
            x = self.a["dense"](x).relu()
            for _ in range(2):
                x = self.b["dense"](x).tanh()
            return x

    layers = record(Twice(), torch.randn(2, 5, 3))
    assert [layer.name for layer in layers] == ["a.dense", "b.dense", "b.dense#2"]
    assert [layer.bounds for layer in layers] == [None, (-1, 1), (-1, 1)]


def test_experts_have_units_of_their_own() -> None:
    layers = record(maker("moore", {"experts": 3})(), torch.randn(T, B, IN))
    assert layers[0].values.shape == (T * B, 3 * 16)
    values = torch.arange(3 * 2 * 5 * 4.0).view(3, 2, 5, 4)  # experts, tasks, samples, units
    found = rows_of(values, 2, 5)
    assert found is not None and found.shape == (10, 12)
    assert torch.equal(found[7].view(3, 4), values[:, 1, 2])
    assert rows_of(torch.zeros(7, 4), 2, 5) is None


def test_members_of_an_ensemble_are_its_copies() -> None:
    torch.manual_seed(0)
    ensemble = Ensemble(maker("multi_head", {}), 2)
    x = torch.randn(T, B, IN)
    both = ensemble(x)
    for i in range(2):
        torch.testing.assert_close(ensemble.member(i)(x), both[i])
    next(ensemble.member(1).parameters()).detach().zero_()  # a view
    assert not next(ensemble.net.parameters())[1].any() and next(ensemble.net.parameters())[0].any()
