"""The Gramian against per-task gradients formed one by one, for every network; and how it is formed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lit_mtrl.nets import tape as tape_module
from lit_mtrl.nets.ensemble import Ensemble
from lit_mtrl.nets.layers import Dense, OneHotDense, TaskDense, TaskEmbedding, Torso
from lit_mtrl.nets.sharing import shared_modules
from lit_mtrl.nets.tape import Tape
from tests.helpers.nets import IN, OUT, B, T, maker

pytestmark = pytest.mark.usefixtures("double_precision")


def explicit(losses: Tensor, params: list[nn.Parameter]) -> Tensor:
    """One backward pass per task, all gradients in one row."""
    rows = []
    for loss in losses:
        grads = torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([g.flatten() for g in grads]))
    jacobian = torch.stack(rows)
    return jacobian @ jacobian.t()


def losses_of(net: nn.Module, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    y = net(torch.randn(T, B, IN, generator=generator))
    wanted = torch.randn(y.shape, generator=generator)
    error = (y - wanted).square()
    return error.movedim(-3, 0).flatten(1).mean(1)  # [T], also of an ensemble


def fresh(net: nn.Module) -> nn.Module:
    """Away from the symmetric start, where some gradients vanish."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return net


@pytest.mark.parametrize("size", [None, 2])
def test_gramian_is_that_of_explicit_gradients(make, size: int | None) -> None:
    net = fresh(make() if size is None else Ensemble(make, size))
    params = list(net.parameters())
    tape = Tape(net, params)
    plain = losses_of(net)
    with tape.record():
        losses = losses_of(net)
    assert torch.equal(losses, plain)
    gramian = tape.gramian(losses)
    torch.testing.assert_close(gramian, explicit(losses, params))
    assert not gramian.requires_grad


def test_every_layer_of_ours_takes_part(make) -> None:
    """No parameter is left to T backward passes."""
    net = Ensemble(make, 2)
    params = list(net.parameters())
    tape = Tape(net, params)
    with tape.record():
        losses_of(net)
    own = {id(p) for layer in tape._called for p in layer.parameters(recurse=False)}
    assert all(id(p) in own for p in params)


def test_shared_only_leaves_out_what_tasks_own(make) -> None:
    """The Gramian over the parameters without heads, embeddings and columns of the one-hot."""
    net = fresh(make())
    tape = Tape(net, list(net.parameters()))
    with tape.record():
        losses = losses_of(net)
    got = tape.gramian(losses, shared_only=True)
    owned = []
    for module in net.modules():
        if isinstance(module, TaskDense):
            owned += [module.weight, module.bias]
        elif isinstance(module, TaskEmbedding):
            owned.append(module.weight)
    shared = [p for p in net.parameters() if all(p is not q for q in owned)]
    want = explicit(losses, shared)
    for module in net.modules():
        if isinstance(module, OneHotDense):
            rows = []
            for loss in losses:
                (grad,) = torch.autograd.grad(loss, module.weight, retain_graph=True)
                rows.append(grad[:, -T:].flatten())
            columns = torch.stack(rows)
            want -= columns @ columns.t()
    torch.testing.assert_close(got, want)
    whole = tape.gramian(losses)
    torch.testing.assert_close(whole - whole.diag().diag(), got - got.diag().diag())


def test_parameters_that_other_losses_move_are_left_out(make) -> None:
    net = fresh(make())
    chosen = list(net.parameters())[1:]
    single = {id(p) for module in shared_modules(net) for p in module.parameters()}
    chosen = [p for p in chosen if id(p) not in single]
    tape = Tape(net, chosen)
    with tape.record():
        losses = losses_of(net)
    torch.testing.assert_close(tape.gramian(losses), explicit(losses, chosen))


class Foreign(nn.Module):
    """A network of someone who knows nothing of tapes: PyTorch's layers, one of them twice, and a bare table."""

    def __init__(self):
        super().__init__()
        self.first, self.twice = nn.Linear(IN, 8), Dense(8, 8)
        self.table = nn.Parameter(torch.randn(T, OUT))
        self.last = nn.Linear(8, OUT)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        x = self.twice(self.twice(self.first(x).tanh()).tanh()).tanh()
        return self.last(x) * self.table[:, None]


@pytest.mark.parametrize("size", [None, 2])
def test_unknown_layers_and_repeated_ones_count(size: int | None) -> None:
    torch.manual_seed(0)
    net = Foreign() if size is None else Ensemble(Foreign, size)
    params = list(net.parameters())
    tape = Tape(net, params)
    with tape.record():
        losses = losses_of(net)
    torch.testing.assert_close(tape.gramian(losses), explicit(losses, params))


class Gain(Dense):
    """A subclass that does more than its base's `gramian` knows."""

    def __init__(self, a: int, b: int):
        super().__init__(a, b)
        self.gain = nn.Parameter(torch.ones(b))

    def forward(self, input: Tensor, task: Tensor | None = None) -> Tensor:
        return super().forward(input) * self.gain


class Odd(nn.Module):
    """Uses of our layers that `gramian` cannot follow: tied weights, a subclass, parametrised weights, one layer frozen
    and not.
    """

    def __init__(self):
        super().__init__()
        self.a, self.b = Dense(IN, IN), Dense(IN, IN)
        self.b.weight = self.a.weight
        self.gain = Gain(IN, IN)
        self.normed = nn.utils.parametrizations.weight_norm(Dense(IN, IN))
        self.unused = Dense(IN, IN)

    def forward(self, x: Tensor) -> Tensor:
        self.unused(x)
        return self.normed(self.gain(self.b(self.a(x).tanh()).tanh()).tanh())


def test_layers_that_do_more_than_they_say() -> None:
    torch.manual_seed(0)
    net = fresh(Odd())
    params = list(net.parameters())
    tape = Tape(net, params)
    with tape.record():
        losses = losses_of(net)
    torch.testing.assert_close(tape.gramian(losses), explicit(losses, params))


def test_a_layer_used_as_constant_and_as_parameter() -> None:
    """A joint loss, in which the critic learns from one term and is constant in another."""
    torch.manual_seed(0)
    actor, critic = Torso(IN, T, 8, 2), Ensemble(lambda: Torso(8, T, 8, 2), 2)
    params = [*actor.parameters(), *critic.parameters()]
    tape = Tape(nn.ModuleList([actor, critic]), params)
    x, z = torch.randn(T, B, IN), torch.randn(T, B, 8)
    with tape.record():
        losses = critic(actor(x), frozen=True).square().mean((0, 2, 3)) + critic(z).square().mean((0, 2, 3))
    torch.testing.assert_close(tape.gramian(losses), explicit(losses, params))


def test_chunks_and_both_formulas_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    x, delta = torch.randn(1, 5, 3, 7), torch.randn(2, 5, 3, 4)
    jacobian = torch.einsum("ltmi,ltmo->ltio", x.expand(2, -1, -1, -1), delta).movedim(1, 0).flatten(1)
    want = jacobian @ jacobian.t()
    for chunk in (2**24, 2 * 5 * 4 * 3, 1):
        monkeypatch.setattr(tape_module, "CHUNK", chunk)
        torch.testing.assert_close(tape_module.weight_gramian(x, delta), want)
    x, delta = torch.randn(1, 5, 1, 20), torch.randn(2, 5, 1, 900)  # many weights, one sample per task
    jacobian = torch.einsum("ltmi,ltmo->ltio", x.expand(2, -1, -1, -1), delta).movedim(1, 0).flatten(1)
    for chunk in (2**24, 1000):
        monkeypatch.setattr(tape_module, "CHUNK", chunk)
        torch.testing.assert_close(tape_module.weight_gramian(x, delta), jacobian @ jacobian.t())


def test_constants_of_a_loss_are_not_watched() -> None:
    """The critics in the actor's loss: gradients pass through their layers, which belong to someone else."""
    torch.manual_seed(0)
    actor, critic = Torso(IN, T, 8, 2), Ensemble(lambda: Torso(8, T, 8, 2), 2)
    tape = Tape(nn.ModuleList([actor, critic]), list(actor.parameters()))
    x = torch.randn(T, B, IN)
    with tape.record():
        losses = critic(actor(x), frozen=True).square().mean((0, 2, 3))
    torch.testing.assert_close(tape.gramian(losses), explicit(losses, list(actor.parameters())))


def test_the_backward_pass_afterwards_is_untouched() -> None:
    torch.manual_seed(0)
    net = Ensemble(lambda: maker("multi_head", {})(), 2)
    params = list(net.parameters())
    tape = Tape(net, params)
    want = torch.autograd.grad(losses_of(net).mean(), params)
    with tape.record():
        losses = losses_of(net)
    tape.gramian(losses)
    got = torch.autograd.grad((losses * torch.full_like(losses, 1 / T)).sum(), params)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
