"""Each method against an independent computation: vectors instead of Gramians, SciPy, TorchJD, autograd, or arithmetic
by hand.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.optimize import LinearConstraint, minimize, nnls
from torch import Tensor

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.weighting.cagrad import CAGrad, normalised, worst_case
from lit_mtrl.weighting.dwa import DWA
from lit_mtrl.weighting.famo import FAMO
from lit_mtrl.weighting.gradnorm import GradNorm
from lit_mtrl.weighting.pcgrad import PCGrad, orders, project
from lit_mtrl.weighting.uncertainty import Uncertainty
from lit_mtrl.weighting.upgrad import UPGrad


def gradients(tasks: int, size: int, seed: int, spread: float = 1.0, common: float = 0.0) -> Tensor:
    """``[T, P]`` in double precision: norms that vary by ``spread``, and a ``common`` part."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(tasks, size, generator=g, dtype=torch.float64)
    rows += common * torch.randn(size, generator=g, dtype=torch.float64)
    return rows * (spread * torch.randn(tasks, 1, generator=g, dtype=torch.float64)).exp()


KINDS = [
    (2, 5, 1.0, 0.0),
    (3, 2, 0.0, 0.0),
    (10, 1000, 0.0, 0.0),
    (10, 1000, 2.0, 0.3),
    (10, 12, 1.0, 0.5),
    (10, 4, 1.0, 0.0),  # more tasks than dimensions
    (50, 2000, 1.0, 0.1),
    (50, 20, 1.0, 0.0),
]


# PCGrad


def projected(vectors: Tensor, order: Tensor) -> Tensor:
    """Algorithm 1 of Yu et al. on the vectors themselves."""
    rows = []
    for i, others in enumerate(order.tolist()):
        g = vectors[i].clone()
        for j in others:
            inner = g @ vectors[j]
            if inner < 0:
                g = g - inner / (vectors[j] @ vectors[j]) * vectors[j]
        rows.append(g)
    return torch.stack(rows)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_pcgrad_is_the_projection_of_vectors(kind: tuple) -> None:
    for seed in range(3):
        rows = gradients(kind[0], kind[1], seed, *kind[2:])
        order = orders(torch.tensor(seed), kind[0])
        weights = project(rows @ rows.t(), order)
        torch.testing.assert_close(weights @ rows, projected(rows, order), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_pcgrad_update(reduction: str) -> None:
    rows = gradients(6, 4, 0)
    weighting = PCGrad(6, reduction, seed=5)
    for update in range(3):
        order = orders(torch.tensor(update + (5 << 32)), 6)
        want = projected(rows, order)
        got = weighting(torch.ones(6).double(), rows @ rows.t()) @ rows
        torch.testing.assert_close(got, want.mean(0) if reduction == "mean" else want.sum(0))


def test_pcgrad_is_torchjds(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchjd.aggregation import PCGradWeighting

    for seed, (tasks, size, *more) in enumerate(KINDS):
        rows = gradients(tasks, size, seed, *more)
        order = orders(torch.tensor(seed), tasks)
        drawn = iter(
            [torch.cat([row[: i % tasks], torch.tensor([i]), row[i % tasks :]]) for i, row in enumerate(order)]
        )
        monkeypatch.setattr(torch, "randperm", lambda n, drawn=drawn: next(drawn))
        theirs = PCGradWeighting()(rows @ rows.t())
        monkeypatch.undo()
        torch.testing.assert_close(project(rows @ rows.t(), order).sum(0), theirs, rtol=1e-6, atol=1e-6)


def test_orders_are_permutations_of_the_others_and_uniform() -> None:
    counts: Counter = Counter()
    for update in range(3000):
        order = orders(torch.tensor(update + (7 << 32)), 4)
        assert all(sorted([*row, i]) == [0, 1, 2, 3] for i, row in enumerate(order.tolist()))
        counts.update((i, *row) for i, row in enumerate(order.tolist()))
    # 4 tasks x 6 orders, each expected 500 times with a standard deviation of 20
    assert len(counts) == 24 and all(400 < n < 600 for n in counts.values())
    pairs = Counter((tuple(a), tuple(b)) for a, b in (orders(torch.tensor(u), 4)[:2].tolist() for u in range(3000)))
    assert len(pairs) == 36 and max(pairs.values()) < 140  # independent between tasks: 83 expected each
    assert torch.equal(orders(torch.tensor(9), 4), orders(torch.tensor(9), 4))


# CAGrad


def objective(w: np.ndarray, products: np.ndarray, c: float) -> float:
    """F of Liu et al. (2021), equation 5, without any smoothing."""
    inner, mean = products.mean(1), max(products.mean(), 0)
    return float(w @ inner + c * math.sqrt(mean) * math.sqrt(max(w @ products @ w, 0)))


def scipys(products: np.ndarray, c: float) -> float:
    """The least F that SLSQP and trust-constr find."""
    tasks = len(products)
    inner, mean = products.mean(1), max(products.mean(), 0)

    def slope(w: np.ndarray) -> np.ndarray:
        return inner + c * math.sqrt(mean) * products @ w / math.sqrt(max(w @ products @ w, 1e-24))

    best = math.inf
    for method, extra in (
        (
            "SLSQP",
            {"constraints": {"type": "eq", "fun": lambda w: w.sum() - 1}, "options": {"maxiter": 1000, "ftol": 1e-14}},
        ),
        ("trust-constr", {"constraints": LinearConstraint(np.ones(tasks), 1, 1), "options": {"maxiter": 300}}),
    ):
        if method == "trust-constr" and tasks > 10:
            continue
        start = np.full(tasks, 1 / tasks)
        found = minimize(
            objective, start, (products, c), method, jac=lambda w, *_: slope(w), bounds=[(0, 1)] * tasks, **extra
        )
        w = np.clip(found.x, 0, None)
        best = min(best, objective(w / w.sum(), products, c))
    return best


@pytest.mark.filterwarnings("ignore:delta_grad == 0.0:UserWarning")
@pytest.mark.parametrize("c", [0.0, 0.4, 0.9, 0.99])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_cagrad_reaches_scipys_objective(kind: tuple, c: float) -> None:
    for seed in range(2):
        rows = gradients(kind[0], kind[1], seed, *kind[2:])
        products = normalised(rows @ rows.t())
        w = worst_case(products, c)
        assert (w >= 0).all() and float(w.sum()) == pytest.approx(1)
        start = objective(np.full(len(w), 1 / len(w)), products.numpy(), c)
        ours, theirs = objective(w.numpy(), products.numpy(), c), scipys(products.numpy(), c)
        assert ours <= theirs + 1e-3 * start


@pytest.mark.parametrize("c", [0.4, 0.9])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_cagrad_is_the_best_direction_of_its_ball(kind: tuple, c: float) -> None:
    """Strong duality: max_d min_i <g_i, d> over |d - g0| <= c |g0| equals min_w F(w); and d is in the ball."""
    rows = gradients(kind[0], kind[1], 3, *kind[2:])
    rows = rows / rows.square().sum(1).mean().sqrt()
    d = CAGrad(len(rows), c, "none")(torch.ones(len(rows)), rows @ rows.t()) @ rows
    mean = rows.mean(0)
    assert (d - mean).norm() <= c * mean.norm() * (1 + 1e-6)
    products = rows @ rows.t()
    best = objective(worst_case(products, c).numpy(), products.numpy(), c)
    worst = float((rows @ d).min())
    assert worst <= best + 1e-9
    assert worst >= best - 5e-3 * float(mean @ mean) and worst >= float((rows @ mean).min())


def test_cagrad_rescales() -> None:
    rows = gradients(4, 6, 0)
    weights = {name: CAGrad(4, 0.5, name)(torch.ones(4), rows @ rows.t()) for name in ("none", "linear", "square")}
    torch.testing.assert_close(weights["linear"] * 1.5, weights["none"])
    torch.testing.assert_close(weights["square"] * 1.25, weights["none"])
    torch.testing.assert_close(CAGrad(4, 0.0)(torch.ones(4), rows @ rows.t()), torch.full((4,), 0.25).double())


# UPGrad


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_upgrad_is_the_mean_of_projections(kind: tuple) -> None:
    """The projection onto the dual cone by non-negative least squares: v = e_i + u, u >= 0, |J' v| least."""
    rows = gradients(kind[0], kind[1], 0, *kind[2:])
    want = np.stack([g + rows.t().numpy() @ nnls(rows.t().numpy(), -g)[0] for g in rows.numpy()]).mean(0)
    got = UPGrad(len(rows))(torch.ones(len(rows)), rows @ rows.t()) @ rows
    scale = float(rows.mean(0).norm())
    assert np.linalg.norm(got.numpy() - want) < 1e-3 * scale
    assert ((rows @ got) / rows.norm(dim=1)).min() > -1e-4 * scale  # no task is harmed


# FAMO


def test_famo_is_the_arithmetic_of_its_algorithm() -> None:
    """Two updates by hand: z = softmax(xi), weights z/D normalised, xi moves by Adam on J' delta with weight decay."""
    lr, decay = 0.025, 0.001
    weighting = FAMO(2, lr, decay)
    optimizer = weighting.optimizer()
    xi, m, v = np.zeros(2), np.zeros(2), np.zeros(2)
    losses = [(np.array([4.0, 1.0]), np.array([3.0, 0.9])), (np.array([2.0, 2.0]), np.array([1.0, 1.9]))]
    for step, (before, after) in enumerate(losses, 1):
        z = np.exp(xi) / np.exp(xi).sum()
        want = z / (before + 1e-8) / (z / (before + 1e-8)).sum()
        got = weighting(torch.tensor(before, dtype=torch.float32), None)
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-5)
        delta = np.log(before + 1e-8) - np.log(after + 1e-8)
        jacobian = np.diag(z) - np.outer(z, z)
        grad = jacobian.T @ delta + decay * xi
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        xi = xi - lr * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        weighting.learn(torch.tensor(after, dtype=torch.float32))
        optimizer.step()
        np.testing.assert_allclose(weighting.logits.detach().numpy(), xi, rtol=1e-4)
    assert xi[0] < xi[1]  # the first fell faster


def test_famo_leaves_out_what_has_no_logarithm() -> None:
    weighting = FAMO(3)
    assert weighting(torch.tensor([1.0, 0.0, -2.0]), None).tolist() == [1.0, 0.0, 0.0]
    weighting.learn(torch.tensor([0.5, 1.0, -3.0]))
    assert weighting.logits.grad is not None and weighting.logits.grad.tolist() == [
        0.0,
        0.0,
        0.0,
    ]  # nobody to compare with
    weighting(torch.tensor([1.0, 2.0, 0.0]), None)
    weighting.learn(torch.tensor([0.5, 2.0, 0.0]))
    # z = 1/3 each; of the first two log 2 and 0, mean log 2 / 2
    assert weighting.logits.grad.tolist() == pytest.approx([math.log(2) / 6, -math.log(2) / 6, 0])
    assert weighting(torch.tensor([-1.0, 0.0, -2.0]), None).tolist() == pytest.approx([1 / 3] * 3)
    weighting.learn(torch.tensor([-1.0, 0.0, -2.0]))
    assert (weighting.logits.grad == 0).all()
    assert FAMO(2, floor=-10)(torch.tensor([-9.0, -8.0]), None).tolist() == pytest.approx([2 / 3, 1 / 3])


# GradNorm, uncertainty, DWA


def test_gradnorm_is_the_gradient_of_its_loss() -> None:
    rows = gradients(4, 7, 0).float()
    first, now = torch.tensor([2.0, 1.0, 3.0, 0.5]), torch.tensor([1.0, 0.9, 0.3, 0.5])
    weighting = GradNorm(4, asymmetry=1.5, lr=0.1)
    optimizer = weighting.optimizer()
    weighting(first, rows @ rows.t())
    got = weighting(now, rows @ rows.t())
    assert torch.equal(got, torch.full((4,), 0.25))
    w = torch.ones(4, requires_grad=True)
    sizes = torch.stack([(w[i] * rows[i]).norm() for i in range(4)])
    rate = now / first
    target = (sizes.mean() * (rate / rate.mean()) ** 1.5).detach()
    (want,) = torch.autograd.grad((sizes - target).abs().sum(), w)
    torch.testing.assert_close(weighting.weights.grad, want)
    optimizer.step()
    weighting.after_step()
    moved = 1 - 0.1 * want.sign()
    torch.testing.assert_close(weighting.weights.detach(), 4 * moved / moved.sum(), rtol=1e-4, atol=0)


def test_gradnorm_counts_losses_without_a_ratio_as_average() -> None:
    weighting = GradNorm(3, asymmetry=1.0)
    weighting(torch.tensor([1.0, -1.0, -1.0]), torch.eye(3))
    weighting(torch.tensor([1.0, 1.0, -1.0]), torch.eye(3))
    weighting(torch.tensor([3.0, 1.0, -1.0]), torch.eye(3))
    # rates 3 and 1, mean 2: relative 1.5, 0.5 and, for the third, 1; sizes are all 1
    assert weighting.weights.grad is not None and weighting.weights.grad.tolist() == [-1.0, 1.0, 0.0]


def test_uncertainty_is_the_gradient_of_its_loss() -> None:
    losses = torch.tensor([2.0, 0.5, 0.0])
    weighting = Uncertainty(3, lr=0.1)
    optimizer = weighting.optimizer()
    for _ in range(3):
        r = weighting.log_variances.detach().clone().requires_grad_()
        (want,) = torch.autograd.grad(((-r).exp() * losses + r).sum(), r)
        torch.testing.assert_close(weighting(losses, None), (-r.detach()).exp() / 3)
        assert weighting.log_variances.grad is not None
        torch.testing.assert_close(weighting.log_variances.grad[:2], want[:2])
        assert weighting.log_variances.grad[2] == 0
        optimizer.step()


def test_dwa_by_hand() -> None:
    """Windows of two: means 3, 4 then 1.5, 4, ratios 0.5 and 1."""
    weighting = DWA(2, temperature=2.0, window=2)
    data = [[2.0, 4.0], [4.0, 4.0], [1.0, 6.0], [2.0, 2.0]]
    for losses in data:
        assert weighting(torch.tensor(losses), None).tolist() == [0.5, 0.5]
    a, b = math.exp(0.25), math.exp(0.5)
    for _ in range(2):
        got = weighting(torch.tensor([1.0, 1.0]), None)
        assert got.tolist() == pytest.approx([a / (a + b), b / (a + b)])
    a, b = math.exp(1 / 1.5 / 2), math.exp(1 / 4 / 2)
    assert weighting(torch.tensor([1.0, 1.0]), None).tolist() == pytest.approx([a / (a + b), b / (a + b)])


# Wrong values


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CAGrad(3, c=1.0), "c=1.0: must lie in"),
        (lambda: CAGrad(3, c=-0.1), "c=-0.1: must lie in"),
        (lambda: CAGrad(3, rescale="squares"), "did you mean 'square'"),
        (lambda: PCGrad(3, reduction="most"), "choose one of mean, sum"),
        (lambda: FAMO(3, lr=0), "lr=0: learning rates are positive"),
        (lambda: FAMO(3, weight_decay=-1), "weight_decay=-1"),
        (lambda: GradNorm(3, lr=-1), "lr=-1"),
        (lambda: GradNorm(3, asymmetry=-1), "asymmetry=-1"),
        (lambda: Uncertainty(3, lr=-1), "lr=-1"),
        (lambda: DWA(3, temperature=0), "temperature=0"),
        (lambda: DWA(3, window=0), "window=0"),
    ],
)
def test_wrong_values_are_one_line(make, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")) as caught:
        make()
    assert "\n" not in str(caught.value)
