"""Metrics: what the engine adds, their sums by kind of update, what is told of them, and what loggers call them."""

from __future__ import annotations

import logging

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from lit_mtrl.core.ranks import Ranks
from lit_mtrl.training.metrics import Sums, first_infinite, for_loggers, norm, report, to_host, warn_of_floored
from lit_mtrl.weighting.famo import FAMO
from lit_mtrl.weighting.mean import Mean
from lit_mtrl.weighting.pcgrad import PCGrad

TASKS = ["a", "b", "c"]
NAN, INF = float("nan"), float("inf")


def reported(losses: list[float], weighting, gramian: Tensor | None = None) -> dict[str, list[float] | float]:
    values = torch.tensor(losses)
    out = TensorDict({"loss": values.clone().requires_grad_(), "q": values + 1}, [len(losses)])
    metrics = report("critic", out, values, gramian, weighting, torch.full_like(values, 0.5), torch.tensor(7.0))
    assert not any(value.requires_grad for value in metrics.values())
    return {key: value.tolist() for key, value in metrics.items()}


def test_a_losss_own_metrics_and_the_engines() -> None:
    got = reported([1.0, 2.0, 3.0], Mean(3))
    want = {"loss": [1, 2, 3], "q": [2, 3, 4], "finite": [1, 1, 1], "grad_norm": 7}
    assert got == {f"critic/{key}": value for key, value in want.items()}


def test_weights_are_told_where_they_differ() -> None:
    assert reported([1.0, 2.0, 3.0], PCGrad(3))["critic/weight"] == [0.5, 0.5, 0.5]


def test_a_loss_of_exactly_zero_takes_no_part() -> None:
    assert reported([0.0, -1.0, 1e-30], FAMO(3))["critic/floored"] == [0, 1, 0]
    assert reported([0.0, 2.0, 2.5], FAMO(3, floor=2.0))["critic/floored"] == [0, 1, 0]


def test_finite_are_losses_with_finite_gradients() -> None:
    assert reported([1.0, INF, NAN], Mean(3))["critic/finite"] == [1, 0, 0]
    gramian = torch.tensor([[1.0, NAN, 0.0], [NAN, INF, 0.0], [0.0, 0.0, 1.0]])
    assert reported([1.0, 1.0, -INF], PCGrad(3), gramian)["critic/finite"] == [1, 0, 0]


def test_means_are_over_the_updates_that_had_the_metric() -> None:
    sums = Sums(Ranks())
    both, one = ("x", "y"), ("x",)
    for x, y in ((1.0, 10.0), (2.0, 20.0)):
        sums.add(both, {"x/loss": torch.tensor([x, 2 * x]), "y/grad_norm": torch.tensor(y)})
    sums.add(one, {"x/loss": torch.tensor([6.0, 0.0])})
    means = sums.means({both: 2, one: 1})
    assert means["x/loss"].tolist() == [3, 2] and means["y/grad_norm"].item() == 15


def test_sums_begin_anew_in_their_place() -> None:
    """Recorded updates add to the very tensors."""
    sums = Sums(Ranks())
    sums.add(("x",), {"x/loss": torch.ones(2)})
    place = sums.totals["x",].data_ptr()
    sums.reset()
    sums.add(("x",), {"x/loss": torch.full((2,), 3.0)})
    assert sums.totals["x",].data_ptr() == place
    assert sums.means({("x",): 1})["x/loss"].tolist() == [3, 3]


def test_norm_is_that_of_all_numbers() -> None:
    assert float(norm([torch.tensor([3.0]), torch.tensor([[4.0, 0.0], [0.0, 12.0]])])) == 13


def test_to_host_keeps_keys_order_and_numbers() -> None:
    first = TensorDict({"x/loss": torch.tensor([1.5, 2.5]), "y/loss": torch.tensor([3, 4])}, [2])
    second = TensorDict({"x/grad_norm": torch.tensor(5.0)}, [])
    got = to_host(first, second)
    assert list(got.items()) == [("x/loss", [1.5, 2.5]), ("y/loss", [3, 4]), ("x/grad_norm", [5])]


def test_who_broke_first() -> None:
    metrics = {"x/loss": [1.0, 2.0, 3.0], "x/finite": [1.0, 1.0, 1.0], "x/grad_norm": [1.0]}
    assert first_infinite(metrics, TASKS) is None
    broken = {**metrics, "x/loss": [NAN, 2.0, INF], "x/finite": [0.5, 1.0, 0.5], "x/grad_norm": [NAN]}
    assert first_infinite(broken, TASKS) == ("x/loss", ["a", "c"])
    assert first_infinite({**metrics, "shared/grad_norm": [-INF]}, TASKS) == ("shared/grad_norm", TASKS)
    assert first_infinite({"x/loss": [INF, -INF, 0.0], "x/finite": [0.0, 0.5, 1.0]}, TASKS) == ("x/loss", ["a"])


def test_names_for_loggers() -> None:
    means = {
        "critic/loss": [1.0, 2.0, 6.0],
        "critic/masked": [0.0, 0.25, 0.0],
        "critic/finite": [1.0, 1.0, 1.0],
        "critic/weight": [0.2, 0.3, 0.5],
        "critic/floored": [0.0, 0.5, 0.0],
        "temperature/alpha": [0.1, 0.2, 0.3],
        "critic/grad_norm": [7.0],
        "shared/param_norm": [8.0],
    }
    assert list(for_loggers(means, TASKS, ("alpha", "masked")).items()) == [
        ("loss/critic", 3.0),
        ("masked/b", 0.25),
        *(("alpha/a", 0.1), ("alpha/b", 0.2), ("alpha/c", 0.3)),
        ("norm/critic/grad", 7.0),
        ("norm/shared/params", 8.0),
    ]
    assert for_loggers(means, TASKS, ())["alpha/temperature"] == pytest.approx(0.2)


def test_losses_that_a_weighting_cannot_use_are_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("lit_mtrl"), "propagate", True)
    weightings, warned = {"critic": FAMO(3, floor=-2.0), "actor": Mean(3)}, set()
    warn_of_floored({"critic/floored": [0.0, 0.0, 0.0]}, TASKS, weightings, warned)
    assert not caplog.records
    for _ in range(2):
        warn_of_floored({"critic/floored": [0.0, 0.5, 1.0]}, TASKS, weightings, warned)
    (record,) = caplog.records
    assert "weighting.critic: FAMO needs losses above -2;" in record.message
    assert "those of b (50%), c (100%) are not" in record.message
