"""Measures of plasticity against numbers worked out by hand, and the callback in a run."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from lit_mtrl.callbacks.plasticity import (
    Plasticity,
    distance,
    effective_rank,
    layer_row,
    scores,
    singular_values,
    srank,
)
from lit_mtrl.config.compose import compose
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.nets.activations import Layer, record
from lit_mtrl.runs.resume import resumed
from lit_mtrl.runs.run import Run


def test_dormant_share_by_hand() -> None:
    # Mean absolute activations 0, 0.05, 1, 2.95: their mean is 1, so they are the scores.
    values = torch.tensor([[0.0, 0.1, -1.0, 2.9], [0.0, 0.0, 1.0, 3.0]])
    torch.testing.assert_close(scores(values), torch.tensor([0.0, 0.05, 1.0, 2.95]))
    row = layer_row(Layer("x", values, None), (0.1, 0.025), 0.01)
    assert (row["dormant_0.1"], row["dormant_0.025"], row["zero"]) == (0.5, 0.25, 0.25)
    assert row["feature_norm"] == pytest.approx((math.sqrt(0.01 + 1 + 2.9**2) + math.sqrt(10)) / 2)
    assert math.isnan(row["saturated"])
    dead = layer_row(Layer("x", torch.zeros(3, 5), None), (0.1,), 0.01)
    assert (dead["dormant_0.1"], dead["zero"], dead["srank"], dead["effective_rank"]) == (1, 1, 0, 0)


def test_saturated_units_by_hand() -> None:
    values = torch.tensor([[0.99, -0.96, 0.99, 0.0], [0.96, -1.0, -0.99, 0.5]])
    assert layer_row(Layer("x", values, (-1, 1)), (0.1,), 0.01)["saturated"] == 0.5
    assert layer_row(Layer("x", values.sigmoid(), (0, 1)), (0.1,), 0.01)["saturated"] == 0


def test_ranks_by_hand() -> None:
    # Singular values 6, 3, 1 whatever the rotation: 6 + 3 is 90 % of their sum.
    torch.manual_seed(0)
    left = torch.linalg.qr(torch.randn(7, 7))[0][:, :3]
    right = torch.linalg.qr(torch.randn(5, 5))[0][:3]
    sigma = singular_values(left @ torch.diag(torch.tensor([6.0, 3.0, 1.0])) @ right)
    torch.testing.assert_close(sigma[:3].float(), torch.tensor([6.0, 3.0, 1.0]))
    assert [srank(sigma, delta) for delta in (0.01, 0.05, 0.11, 0.39, 0.41)] == [3, 3, 2, 2, 1]
    p = (0.6, 0.3, 0.1)
    assert effective_rank(sigma) == pytest.approx(math.exp(-sum(x * math.log(x) for x in p)), rel=1e-3)
    assert effective_rank(torch.ones(8)) == pytest.approx(8)
    wide = torch.randn(4, 9)
    torch.testing.assert_close(singular_values(wide), torch.linalg.svdvals(wide.double()))
    torch.testing.assert_close(singular_values(wide.t()), torch.linalg.svdvals(wide.double()))


def test_distance_by_hand() -> None:
    then = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    assert distance([torch.tensor([3.0, 0.5]), torch.tensor([[4.0]])], then) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"thresholds": [0.1, 1.5]}, "thresholds=[0.1,1.5]: give different numbers"),
        ({"thresholds": []}, "thresholds=[]: give"),
        ({"delta": 0.0}, "delta=0.0: between"),
        ({"every_epochs": 0}, "every_epochs=0: 1 or more"),
    ],
)
def test_wrong_values_are_one_line(values: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=r"callbacks\.plasticity\.") as error:
        Plasticity(**values)
    assert text in str(error.value)


def config(folder: Path, *overrides: str) -> DictConfig:
    cheap = "trainer.threads=1", "collector.updates_per_step=0.1", "~callbacks.gradients"
    return compose(["debug"], [f"output_dir={folder}", *cheap, *overrides])


def train(folder: Path, *overrides: str) -> Run:
    run = Run(config(folder, *overrides))
    run.fit()
    return run


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "plasticity.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_run_with_and_without_it_is_the_same(tmp_path: Path) -> None:
    with_it = train(tmp_path / "a")
    without = train(tmp_path / "b", "~callbacks.plasticity")
    assert not (tmp_path / "b" / "plasticity.csv").exists()
    for (name, a), (_, b) in zip(with_it.agent.state_dict().items(), without.agent.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    rows = table(tmp_path / "a")
    assert {row["frames"] for row in rows} == {"300", "600"}
    assert [row["net"] for row in rows if row["layer"] == "total"] == ["actor", "critic_0", "critic_1"] * 2
    for row in rows:
        assert 0 <= float(row["dormant_0.025"]) <= float(row["dormant_0.1"]) <= 1
    with (tmp_path / "a" / "metrics.csv").open(newline="") as file:
        last = [row for row in csv.DictReader(file) if row["plasticity/actor/dormant"]][-1]
    (total,) = [r for r in rows if (r["frames"], r["net"], r["layer"]) == ("600", "critic_1", "total")]
    assert float(last["plasticity/critic_1/dormant"]) == float(total["dormant_0.1"])
    assert float(last["plasticity/critic_1/change_start"]) == float(total["change_start"]) > 0
    assert "plasticity/actor/saturated" not in last  # ReLU does not saturate


def test_units_switched_off_on_purpose_are_found(tmp_path: Path) -> None:
    run = train(tmp_path, "frames=300")
    agent, callback = run.agent, next(c for c in run.trainer.callbacks if isinstance(c, Plasticity))  # pyright: ignore
    batch = run.data.buffer.sample(1)[0]  # pyright: ignore
    (tmp_path / "plasticity.csv").unlink()
    callback.measure(run.trainer, agent, batch)
    before = {row["net"]: 16 * float(row["zero"]) for row in table(tmp_path) if row["layer"] == "torso.first"}
    seen = record(agent.algorithm.networks()["critic_1"], agent.algorithm.inputs(batch)["critic_1"])[0].values
    alive = (seen != 0).any(0).nonzero().flatten()[:3]
    layer = agent.algorithm.critic.q.net.torso.first  # pyright: ignore
    with torch.no_grad():
        layer.weight[1, alive], layer.bias[1, alive] = 0, -1
    (tmp_path / "plasticity.csv").unlink()
    callback.measure(run.trainer, agent, batch)
    first = {row["net"]: row for row in table(tmp_path) if row["layer"] == "torso.first"}
    assert [16 * float(first[net]["zero"]) for net in first] == [before[net] + 3 * (net == "critic_1") for net in first]
    assert float(first["critic_1"]["dormant_0.025"]) >= 3 / 16


def test_changes_go_on_after_a_resume(tmp_path: Path) -> None:
    train(tmp_path / "a")
    train(tmp_path / "b", "frames=300")
    cfg = config(tmp_path / "b")
    Run(cfg, resumed(cfg)).fit()
    assert (tmp_path / "a" / "plasticity.csv").read_text() == (tmp_path / "b" / "plasticity.csv").read_text()


def test_last_measurement_is_kept_where_no_checkpoint_falls_on_it(tmp_path: Path) -> None:
    run = train(tmp_path, "frames=300")
    callback = next(c for c in run.trainer.callbacks if isinstance(c, Plasticity))  # pyright: ignore
    assert callback.state_dict() == {"last": {}}
    measured = [p.clone() for p in callback._last["actor"]]
    with torch.no_grad():
        next(run.agent.algorithm.actor.parameters()).add_(1)
    (saved,) = callback.state_dict().values()
    other = Plasticity()
    other.load_state_dict({"last": saved})
    other.setup(run.trainer, run.agent, "fit")
    other.on_train_start(run.trainer, run.agent)
    assert all(torch.equal(a, b) for a, b in zip(other._last["actor"], measured, strict=True))
