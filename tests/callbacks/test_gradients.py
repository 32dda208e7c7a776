"""The diagnostics of task gradients: numbers, table, picture, and that they leave training as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lit_mtrl.callbacks.gradients import Gradients, draw_cosines, gradient_geometry
from lit_mtrl.config.compose import compose
from lit_mtrl.runs.run import Run
from tests.helpers.runs import read


def start(folder: Path, *overrides: str, every: int = 1) -> Run:
    """Measured every so many epochs, or never."""
    less = ("collector.updates_per_step=0.2", "~callbacks.plasticity", "~callbacks.pictures")
    own = f"callbacks.gradients.every_epochs={every}" if every else "~callbacks.gradients"
    run = Run(compose(["debug"], [f"output_dir={folder}", *less, own, *overrides]))
    run.fit()
    return run


class Keep(Gradients):
    """Also keeps the chunk it measures."""

    def measure(self, trainer, agent, chunk) -> None:
        self.chunk = chunk.clone()
        super().measure(trainer, agent, chunk)


def test_numbers_are_those_of_explicit_gradients(tmp_path: Path) -> None:
    """The last rows of the table against one backward pass per task and batch."""
    keep = Keep(batches=3)
    run = Run(compose(["debug"], [f"output_dir={tmp_path}", "weighting.critic=famo", "~callbacks.gradients"]))
    run.trainer.callbacks.append(keep)  # pyright: ignore[reportAttributeAccessIssue]
    run.fit()
    assert len(keep.chunk) == 3
    agent, tasks = run.agent, len(run.agent.tasks)
    critic = agent.algorithm.objectives()[0]
    state, norms, cosines = torch.get_rng_state(), [], []
    for batch in keep.chunk.unbind(0):
        rows = []
        agent.algorithm.on_sample(batch)
        assert critic.loss is not None
        for loss in critic.loss(batch)["loss"]:
            grads = torch.autograd.grad(loss, critic.params, retain_graph=True)
            rows.append(torch.cat([g.flatten() for g in grads]))
        jacobian = torch.stack(rows)
        norms.append(jacobian.norm(dim=1))
        cosines.append(torch.nn.functional.cosine_similarity(jacobian[:, None], jacobian, dim=-1))
    torch.set_rng_state(state)
    got = gradient_geometry(agent, keep.chunk)["critic"]
    torch.testing.assert_close(got[0], torch.stack(norms), rtol=1e-4, atol=0)
    torch.testing.assert_close(got[1], torch.stack(cosines), rtol=1e-3, atol=1e-4)
    table = read(tmp_path / "gradients.csv")
    assert [(r["frames"], r["objective"], r["task"]) for r in table] == [
        (f, o, t) for f in ("300", "600") for o in ("critic", "actor") for t in agent.tasks
    ]
    off = got[1][:, ~torch.eye(tasks, dtype=torch.bool)].view(3, tasks, -1)
    for i, row in enumerate(table[6:9]):
        # The callback drew other noise for the next actions.
        assert float(row["norm"]) == pytest.approx(float(got[0][:, i].mean()), rel=0.05)
        assert float(row["cosine"]) == pytest.approx(float(off[:, i].mean()), abs=0.05)
        assert 0 <= float(row["conflicts"]) <= 1
    assert sum(float(row["weight"]) for row in table[6:9]) == pytest.approx(1)
    assert len({row["weight"] for row in table[6:9]}) == 3  # FAMO's
    assert {float(row["weight"]) for row in table[9:]} == {1 / 3}  # the actor's mean
    last = [row for row in read(tmp_path / "metrics.csv") if row["conflict/critic"]][-1]
    assert float(last["conflict/critic"]) == pytest.approx(
        sum(float(row["conflicts"]) for row in table[6:9]) / 3, abs=1e-6
    )
    assert float(last["cosine/critic"]) == pytest.approx(sum(float(row["cosine"]) for row in table[6:9]) / 3, abs=1e-6)
    assert -1 <= float(last["cosine_min/critic"]) <= float(last["cosine/critic"])
    assert (tmp_path / "pictures/cosines.png").stat().st_size > 1000


@pytest.mark.parametrize("weighting", ["mean", "pcgrad"])
def test_training_is_the_same_without_it(weighting: str, tmp_path: Path) -> None:
    with_it = start(tmp_path / "with", f"weighting={weighting}")
    without = start(tmp_path / "without", f"weighting={weighting}", every=0)
    assert not (tmp_path / "without/gradients.csv").exists()
    for a, b in zip(with_it.agent.parameters(), without.agent.parameters(), strict=True):
        assert torch.equal(a, b)


def test_with_mask_out(tmp_path: Path) -> None:
    """The actor's loss needs what the critic's says about masked tasks."""
    start(tmp_path, "algo.mask_out=0.5", "frames=300")
    assert len(read(tmp_path / "gradients.csv")) == 6


def test_every_so_many_epochs_and_at_the_end(tmp_path: Path) -> None:
    start(tmp_path, "frames=1500", every=2)
    assert sorted({int(row["frames"]) for row in read(tmp_path / "gradients.csv")}) == [600, 1200, 1500]


def test_one_task_has_no_conflicts_and_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    one = ["benchmark.tasks=[reach]", "weighting=pcgrad", "frames=200", "epoch_frames=100"]
    run = start(tmp_path, *one)
    assert not (tmp_path / "gradients.csv").exists()
    assert all(p.isfinite().all() for p in run.agent.parameters())
    assert "weighting.critic=pcgrad: there is one task, nothing to weigh it against" in capsys.readouterr().err


def test_losses_without_a_logarithm_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    start(tmp_path, "weighting=famo")
    said = [line for line in capsys.readouterr().err.splitlines() if "needs losses above 0" in line]
    assert len(said) == 1
    assert "weighting.actor: FAMO" in said[0] and "reach (100%)" in said[0] and "use weighting.actor=mean" in said[0]


def test_nothing_to_measure_before_the_first_update(tmp_path: Path) -> None:
    """An epoch of random actions alone."""
    start(tmp_path, "collector.random_steps=100", "frames=600")
    assert sorted({int(row["frames"]) for row in read(tmp_path / "gradients.csv")}) == [600]


def test_picture(tmp_path: Path) -> None:
    cosine = torch.eye(3) * 2 - 1
    assert draw_cosines(tmp_path / "a.png", ["a", "b", "c"], {"critic": cosine, "actor": -cosine}, 5).stat().st_size
