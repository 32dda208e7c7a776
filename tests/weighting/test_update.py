"""Weightings inside an update: what they leave as it is, what they ask for again, and a conflict that the mean
loses.
"""

from __future__ import annotations

import copy

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lit_mtrl.algos.base import Objective, adam
from lit_mtrl.algos.sac import SAC
from lit_mtrl.nets import tape as tape_module
from lit_mtrl.nets.ensemble import Ensemble
from lit_mtrl.nets.layers import Dense
from lit_mtrl.nets.tape import Tape
from lit_mtrl.training.engine import Engine
from lit_mtrl.training.update import ObjectiveUpdate
from lit_mtrl.weighting.base import GramianWeighting
from lit_mtrl.weighting.cagrad import CAGrad
from lit_mtrl.weighting.dwa import DWA
from lit_mtrl.weighting.famo import FAMO
from lit_mtrl.weighting.gradnorm import GradNorm
from lit_mtrl.weighting.mean import Mean
from lit_mtrl.weighting.pcgrad import PCGrad
from lit_mtrl.weighting.uncertainty import Uncertainty
from lit_mtrl.weighting.upgrad import UPGrad
from tests.helpers.nets import CASES, maker, name_of
from tests.helpers.sac import PLAIN, T, make_batch, make_sac
from tests.helpers.updates import NoPolicy


class ReadsAndAverages(GramianWeighting):
    """Asks for the Gramian and weighs like the mean."""

    def forward(self, losses: Tensor, gramian: Tensor | None) -> Tensor:
        assert gramian is not None
        self.seen = gramian
        return torch.full_like(losses, 1 / self.num_tasks)


def updated(sac: SAC, weightings: dict | None, updates: int = 3) -> list[Tensor]:
    torch.manual_seed(1)
    engine = Engine(sac, weightings)
    for seed in range(updates):
        engine.update(make_batch(seed))
    return [p.detach() for p in sac.parameters()]


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_mean_through_this_path_is_bit_identical(case: tuple[str, dict]) -> None:
    """Reading the Gramian changes nothing that is computed, and `Mean` is the plain mean of the losses."""

    class Plain(ObjectiveUpdate):
        """The update before there were weightings: one backward pass of the mean."""

        def __call__(self, batch: TensorDictBase) -> dict:
            self.step(self.loss(batch)["loss"].mean())
            return {}

    sac = make_sac(case)
    plain = copy.deepcopy(sac)
    torch.manual_seed(1)
    engine = Engine(plain)
    engine.parts = {name: Plain(**vars(part)) for name, part in engine.parts.items()}
    for seed in range(3):
        engine.update(make_batch(seed))
    mean = updated(copy.deepcopy(sac), {"critic": Mean(T), "actor": Mean(T)})
    reading = updated(copy.deepcopy(sac), {"critic": ReadsAndAverages(T), "actor": ReadsAndAverages(T)})
    for a, b, c in zip(plain.parameters(), mean, reading, strict=True):
        assert torch.equal(a, b) and torch.equal(b, c)


@pytest.mark.parametrize("options", [{}, {"mask_out": 20.0}, {"task_weights": True}], ids=str)
@pytest.mark.parametrize("shared_only", [False, True])
def test_task_gradients_of_sacs_losses(shared_only: bool, options: dict) -> None:
    """The Gramians that weightings see against one backward pass per task of the very losses."""
    sac = make_sac(PLAIN, **options)
    names, jacobians = {id(p): name for name, p in sac.named_parameters()}, []

    def spy(loss, part: str):
        def evaluate(batch: TensorDictBase) -> TensorDict:
            out, rows = loss(batch), []
            params = list(getattr(sac, part).parameters())
            for each in out["loss"]:
                grads = torch.autograd.grad(each, params, retain_graph=True)
                for grad, parameter in zip(grads, params, strict=True):
                    if shared_only and "heads" in names[id(parameter)]:
                        grad.zero_()
                    if shared_only and "first.weight" in names[id(parameter)]:
                        grad[..., -T:] = 0
                rows.append(torch.cat([g.flatten() for g in grads]))
            jacobians.append(torch.stack(rows))
            return out

        return evaluate

    sac.critic_loss, sac.actor_loss = spy(sac.critic_loss, "critic"), spy(sac.actor_loss, "actor")  # pyright: ignore
    readers = {name: ReadsAndAverages(T, shared_only) for name in ("critic", "actor")}
    batch = make_batch(0)
    batch["next", "reward"][1] *= 100
    Engine(sac, readers).update(batch)
    for name, jacobian in zip(("critic", "actor"), jacobians, strict=True):
        want = jacobian @ jacobian.t()
        norms = want.diagonal().sqrt()
        assert (norms[[0, 2]] > 0).all() and (norms[1] == 0) == ("mask_out" in options)
        error = (readers[name].seen - want).abs() / (norms[:, None] * norms).clamp_min(1e-30)
        assert error.max() < 1e-4


def test_losses_again_are_of_the_same_noise_and_targets() -> None:
    sac = make_sac(PLAIN)
    batch = make_batch(0)
    sac.on_sample(batch)
    for loss in (sac.critic_loss, sac.actor_loss):
        first = loss(batch)["loss"]
        state = torch.get_rng_state()
        again = loss(batch.copy())["loss"]
        assert torch.equal(first, again)
        assert torch.equal(state, torch.get_rng_state())


def test_famo_compares_the_losses_before_and_after_the_step() -> None:
    sac = make_sac(PLAIN)
    weighting, seen = FAMO(T), []
    weighting.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    learn = weighting.learn
    weighting.learn = lambda losses: (seen.append(losses.clone()), learn(losses))[1]  # pyright: ignore
    batch = make_batch(0)
    keep = {}
    critic_loss = sac.critic_loss

    def spy(batch: TensorDictBase) -> TensorDict:
        keep["batch"] = batch
        return critic_loss(batch)

    sac.critic_loss = spy  # pyright: ignore
    engine = Engine(sac, {"critic": weighting})
    engine.update(batch)
    before, after = seen
    assert not torch.equal(before, after)
    with torch.no_grad():
        torch.testing.assert_close(after, critic_loss(keep["batch"])["loss"], rtol=0, atol=0)
    assert "td_target" not in batch.keys()  # what the update writes stays its own


def test_the_temperature_sees_the_actor_before_its_step() -> None:
    """With the actor's losses evaluated again after it, too."""
    sac = make_sac(PLAIN)
    other = copy.deepcopy(sac)

    class EqualButAgain(FAMO):
        def forward(self, losses: Tensor, gramian: Tensor | None) -> Tensor:
            super().forward(losses, gramian)
            return torch.full_like(losses, 1 / T)

    a = updated(sac, {"actor": EqualButAgain(T)})
    b = updated(other, None)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_masked_tasks_are_nothing_to_a_weighting_of_losses() -> None:
    """Mask-out sets a loss to zero: that task gets no weight, its logit rests, and no one is blamed for it."""
    sac = make_sac(PLAIN, mask_out=20.0)
    weighting = FAMO(T, weight_decay=0.0)
    engine = Engine(sac, {"critic": weighting, "actor": FAMO(T)})
    batch = make_batch(0)
    batch["next", "reward"][1] = 1e3
    for _ in range(5):
        metrics = engine.update(batch)
        assert metrics["critic/masked"][1] == 1 and metrics["critic/weight"][1] == 0
        assert metrics["critic/floored"].sum() == 0 and metrics["actor/floored"][1] == 0
    assert weighting.logits[1] == 0 and weighting.logits[0] != 0


class Largest(TorchDispatchMode):
    """The number of entries of the largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, Tensor):
                self.size = max(self.size, value.untyped_storage().nbytes() // value.element_size())
        return out


def test_no_jacobian_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Width 256, 8 tasks: a hidden layer's task gradients would be 2 x 8 x 65,536 numbers; nothing is larger than the
    parameters themselves.
    """
    tasks, width, size = 8, 256, 2
    monkeypatch.setattr(tape_module, "CHUNK", 2**15)
    net = Ensemble(maker("multi_head", {"width": width, "depth": 3, "num_tasks": tasks}), size)
    tape = Tape(net, list(net.parameters()))
    with tape.record():
        losses = net(torch.randn(tasks, 4, 6)).square().mean((0, 2, 3))
    with Largest() as seen:
        gramian = tape.gramian(losses)
    assert gramian.diagonal().min() > 0
    assert seen.size <= size * width * width


class Conflict(NoPolicy):
    """Two losses of (x, y), both start at (0, 0): 50 (x - 1)^2 + (y - 1)^2 / 2 and (x + 1)^2 / 2 + (y - 1)^2 / 2.

    There the gradients are (-100, -1) and (1, -1): opposite along x, where the first is a hundred times longer, and
    equal along y.
    """

    policy = None  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]

    def __init__(self, lr: float = 0.01):
        super().__init__()
        self.num_tasks, self.lr = 2, lr
        self.place = nn.Parameter(torch.zeros(2))

    def objectives(self) -> tuple[Objective, ...]:
        return (Objective("both", self.losses, (self.place,), adam(self.lr, 1e-8, "algo.lr")),)

    def losses(self, batch: TensorDictBase) -> TensorDict:
        x, y = self.place
        common = (y - 1) ** 2 / 2
        return TensorDict({"loss": torch.stack([50 * (x - 1) ** 2 + common, (x + 1) ** 2 / 2 + common])}, [2])


FIRST = torch.tensor([50.5, 1.0])
GRADIENTS = torch.tensor([[-100.0, -1.0], [1.0, -1.0]])


def direction(weighting: GramianWeighting | Mean) -> Tensor:
    """The weighted gradient at the start."""
    return weighting(FIRST, GRADIENTS @ GRADIENTS.t()) @ GRADIENTS


def trained(weighting, updates: int = 600) -> Tensor:
    """Both losses after plain gradient descent, which, unlike Adam, goes where the weighting points; relative to the
    start.
    """
    toy, optimizer = Conflict(), weighting.optimizer()

    def evaluate() -> Tensor:
        return toy.losses(TensorDict())["loss"]

    for _ in range(updates):
        losses = evaluate()
        rows = torch.stack([torch.autograd.grad(loss, toy.place, retain_graph=True)[0] for loss in losses])
        weights = weighting(losses.detach(), rows @ rows.t())
        with torch.no_grad():
            toy.place -= 5e-4 * weights @ rows
        if optimizer is not None:
            if weighting.evaluates_again:
                weighting.learn(evaluate().detach())
            optimizer.step()
            weighting.after_step()
    return evaluate().detach() / FIRST


def at_rest(weighting, updates: int) -> Tensor:
    """The weights after updates through the engine that hardly move the parameters."""
    engine = Engine(Conflict(lr=1e-9), {"both": weighting})
    for _ in range(updates):
        weights = engine.update(TensorDict({"unused": torch.zeros(2, 1)}, [2, 1]))["both/weight"]
    return weights


def test_conflict_gradients() -> None:
    toy = Conflict()
    rows = [torch.autograd.grad(loss, toy.place, retain_graph=True)[0] for loss in toy.losses(TensorDict())["loss"]]
    assert torch.equal(torch.stack(rows), GRADIENTS)


def test_conflict_mean_sacrifices_the_second_task() -> None:
    assert GRADIENTS[1] @ direction(Mean(2)) < -40
    first, second = trained(Mean(2), 5000)
    assert first < 0.01 and second > 1.9  # twice as bad as at the start


@pytest.mark.parametrize("make", [PCGrad, UPGrad], ids=lambda x: x.__name__)
def test_conflict_projections_harm_nobody(make: type) -> None:
    """Of two tasks, PCGrad's direction conflicts with neither (Yu et al., theorem 1's premise); UPGrad's with none of
    any number.
    """
    inner = GRADIENTS @ direction(make(2))
    assert (inner >= -1e-3).all() and inner.max() > 0.1
    assert (trained(make(2)) < 1).all()


def test_conflict_pcgrad_by_hand() -> None:
    """g1 . g2 = -99, |g1|^2 = 10001, |g2|^2 = 2: g1 + 49.5 g2 = (-50.5, -50.5), g2 + 99/10001 g1 = (0.0101, -1.0099),
    mean of both.
    """
    want = (GRADIENTS[0] + 49.5 * GRADIENTS[1] + GRADIENTS[1] + 99 / 10001 * GRADIENTS[0]) / 2
    torch.testing.assert_close(direction(PCGrad(2)), want)


def test_conflict_cagrad_raises_the_worst_improvement() -> None:
    mean = direction(Mean(2))
    worst = [float((GRADIENTS @ mean).min())]
    for c in (0.2, 0.5, 0.9, 0.99):
        d = direction(CAGrad(2, c, "none"))
        assert (d - mean).norm() <= c * mean.norm() * 1.0001
        worst.append(float((GRADIENTS @ d).min()))
    assert worst == sorted(worst) and worst[0] < -48 and worst[-1] > -1
    assert trained(CAGrad(2, 0.99))[1] < trained(Mean(2))[1] - 0.1


def test_conflict_famo_lowers_both_at_the_same_rate() -> None:
    first, second = trained(FAMO(2, weight_decay=0.0), 5000)
    assert first < 0.75 and second < 0.75
    assert abs(float(first.log() - second.log())) < 0.15


def test_conflict_gradnorm_evens_out_gradient_sizes() -> None:
    sizes = at_rest(GradNorm(2, asymmetry=0.0, lr=1e-3), 2000) * GRADIENTS.norm(dim=1)
    assert 0.8 < float(sizes[0] / sizes[1]) < 1.25


def test_conflict_uncertainty_divides_by_the_losses() -> None:
    """Then g1 / 50.5 + g2 = (-0.98, -1.02), which no longer harms the second task."""
    weights = at_rest(Uncertainty(2, lr=0.05), 2000)
    torch.testing.assert_close(2 * weights, 1 / FIRST, rtol=0.02, atol=0)
    assert (GRADIENTS @ (weights @ GRADIENTS)).min() > 0


def test_conflict_dwa_prefers_the_task_that_falls_less() -> None:
    weighting = DWA(2, window=20)
    toy = Conflict()
    engine = Engine(toy, {"both": weighting})
    for _ in range(50):
        weights = engine.update(TensorDict({"unused": torch.zeros(2, 1)}, [2, 1]))["both/weight"]
    assert weights[1] > weights[0] + 0.01


class Kink(NoPolicy):
    """The first loss is finite, its gradient is not."""

    policy = None  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]

    def __init__(self):
        super().__init__()
        self.num_tasks, self.layer = 2, Dense(3, 1)

    def objectives(self) -> tuple[Objective, ...]:
        return (Objective("both", self.losses, tuple(self.layer.parameters()), adam(1e-3, 1e-5, "algo.lr")),)

    def losses(self, batch: TensorDictBase) -> TensorDict:
        first, second = self.layer(batch["x"]).sum((1, 2))
        return TensorDict({"loss": torch.stack([(first - first.detach()).sqrt(), second.square()])}, [2])


@pytest.mark.parametrize("make", [PCGrad, CAGrad, UPGrad, GradNorm], ids=lambda x: x.__name__)
def test_an_infinite_gradient_is_told_and_whose_it_is(make: type) -> None:
    """`Agent` ends the run on a value that is not finite, and names the tasks with the smallest share of finite
    ones.
    """
    metrics = Engine(Kink(), {"both": make(2)}).update(TensorDict({"x": torch.ones(2, 4, 3)}, [2, 4]))
    assert metrics["both/loss"].isfinite().all()
    assert not metrics["both/grad_norm"].isfinite()
    assert metrics["both/finite"].tolist() == [0.0, 1.0]
