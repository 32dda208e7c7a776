"""PaCo against K networks mixed the slow way, its special cases, and what actor, critics and targets share."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.nets.paco import PaCo
from lit_mtrl.training.engine import Engine
from tests.helpers.sac import OBS, B, T, make_batch, make_paco
from tests.helpers.sac import SETS as K
from tests.helpers.sac import WIDTH as W


def make(**options) -> PaCo:
    torch.manual_seed(0)
    return PaCo(OBS, 5, T, 0.5, **{"width": W, "depth": 2, "parameter_sets": K, **options}).double()


def slow(net: PaCo, x: torch.Tensor, task: int) -> torch.Tensor:
    """One sample: each layer is the sum over k of w_k (W_k x + b_k), all K copies evaluated one after the other."""
    w = net.w()[task]
    layers = [*net.torso, net.head]  # pyright: ignore
    for i, layer in enumerate(layers):
        x = sum((w[k] * (x @ layer.weight[k] + layer.bias[k]) for k in range(K)), torch.zeros(()))
        x = F.relu(x) if i < len(layers) - 1 else x
    return x


@pytest.mark.parametrize("variant", ["original", "mclean"])
def test_equals_k_networks_mixed(variant: str) -> None:
    net = make(variant=variant)
    with torch.no_grad():
        for p in net.parameters():  # copies apart, biases in play
            p.add_(0.3 * torch.randn_like(p))
    x = torch.randn(T, B, OBS, dtype=torch.float64)
    expected = torch.stack([torch.stack([slow(net, x[t, i], t) for i in range(B)]) for t in range(T)])
    torch.testing.assert_close(net(x), expected)
    torch.testing.assert_close(net(x, torch.arange(T)[:, None].expand(T, B)), expected)
    fast = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    for a, b in zip(fast, torch.autograd.grad(expected.square().sum(), list(net.parameters())), strict=True):
        torch.testing.assert_close(a, b)


def test_copies_start_equal_in_the_original_only() -> None:
    for variant, equal in (("original", True), ("mclean", False)):
        net = make(variant=variant)
        for layer in [*net.torso, net.head]:  # pyright: ignore
            assert all(torch.equal(layer.weight[0], layer.weight[k]) == equal for k in range(1, K))


def test_one_hot_is_independent_networks() -> None:
    """Section 4.3 of the paper: w one-hot and K = T are single-task networks, which learn from their own task alone."""
    net = make(parameter_sets=T, init="one_hot")
    with torch.no_grad():
        for p in net.head.parameters():
            p.add_(torch.randn_like(p))
    x = torch.randn(T, B, OBS, dtype=torch.float64)
    for t in range(T):
        own = x[t]
        for layer in net.torso:  # pyright: ignore
            own = F.relu(own @ layer.weight[t] + layer.bias[t])
        torch.testing.assert_close(net(x)[t], own @ net.head.weight[t] + net.head.bias[t])
    grads = torch.autograd.grad(net(x)[1].square().sum(), [net.head.weight, net.torso[0].weight])  # pyright: ignore
    for grad in grads:
        assert (grad[1] != 0).any() and (grad[[0, 2]] == 0).all()


def test_no_task_but_w() -> None:
    """Equal rows of w make tasks equal: the observation carries no one-hot."""
    net = make()
    with torch.no_grad():
        net.w.weight.copy_(net.w.weight[:1].expand(T, K))
    x = torch.randn(1, B, OBS, dtype=torch.float64).expand(T, B, OBS)
    torch.testing.assert_close(net(x)[0], net(x)[1])


def test_bad_values() -> None:
    for options, key in (
        ({"parameter_sets": 0}, "network.parameter_sets=0"),
        ({"variant": "orignal"}, "did you mean 'original'"),
        ({"composition": "heads"}, "network.composition=heads"),
        ({"init": "one_hot", "parameter_sets": 2}, f"network.parameter_sets={T}"),
    ):
        with pytest.raises(ConfigError, match=key):
            make(**options)


def test_one_w_for_actor_critics_and_targets() -> None:
    sac = make_paco()
    w = sac.actor.net.w.weight
    assert w is sac.critic.q.net.w.weight and w is sac.target.q.net.w.weight and w.shape == (T, K)
    names = [o.name for o in sac.objectives()]
    assert names == ["critic", "actor", "temperature", "shared"]
    moved = [p for o in sac.objectives() for p in o.params]
    assert len({id(p) for p in moved}) == len(moved)
    restored = make_paco()
    restored.load_state_dict(copy.deepcopy(sac.state_dict()))
    assert restored.actor.net.w.weight is restored.target.q.net.w.weight


def test_separate_w_in_mclean_and_actor_only() -> None:
    mclean = make_paco({"variant": "mclean"}, {"variant": "mclean"})
    assert mclean.critic.q.net.w.weight.shape == (2, T, K)
    actor_only = make_paco({}, {"composition": "none"})
    for sac in (mclean, actor_only):
        assert not sac.shared and [o.name for o in sac.objectives()] == ["critic", "actor", "temperature"]
        Engine(sac).update(make_batch(1, torch.float64))


def test_different_sizes_cannot_be_shared() -> None:
    with pytest.raises(ConfigError, match="parameter_sets"):
        make_paco({"parameter_sets": 2}, {"parameter_sets": 4})


@pytest.mark.parametrize("norm", [None, 0.1])
def test_w_moves_by_the_sum_of_all_losses(norm: float | None) -> None:
    """One Adam step along d critic loss/dw + d actor loss/dw, the latter with the critics as constants, each clipped
    with its own network.
    """
    sac, batch = make_paco(max_grad_norm=norm), make_batch(1, torch.float64)
    w = sac.actor.net.w.weight
    engine, start = Engine(sac), w.detach().clone()
    torch.manual_seed(7)
    first = batch.clone()
    sac.draw(first)
    from_critic = torch.autograd.grad(sac.critic_loss(first)["loss"].mean(), w)[0]
    torch.manual_seed(7)
    metrics = engine.update(batch.clone())
    moved = w.detach() - start

    again = make_paco(
        max_grad_norm=norm
    )  # the actor's gradient, with the critics after their step and w before its own
    with torch.no_grad():
        for mine, theirs in zip(again.critic.parameters(), sac.critic.parameters(), strict=True):
            mine.copy_(theirs)
        again.actor.net.w.weight.copy_(start)
    action, log_prob = again.actor.sample(batch["observation"], first["actor_noise"])
    constant = copy.deepcopy(again.critic).requires_grad_(False)
    loss = (log_prob - constant(batch["observation"], action).amin(0)).mean()
    from_actor = torch.autograd.grad(loss, again.actor.net.w.weight)[0]
    if norm is not None:
        from_critic, from_actor = (
            g * norm / metrics[f"{name}/grad_norm"] for g, name in ((from_critic, "critic"), (from_actor, "actor"))
        )
        assert min(metrics["critic/grad_norm"], metrics["actor/grad_norm"]) > norm
    grad = from_critic + from_actor
    torch.testing.assert_close(moved, -3e-4 * grad / (grad.abs() + 1e-5), rtol=1e-6, atol=1e-12)
    assert (from_actor != 0).any() and (from_critic != 0).any()
