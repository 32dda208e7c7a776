"""The pictures' numbers, and that drawing them leaves training as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lit_mtrl.callbacks.pictures import columns, draw_mixture, draw_paths, flat_points, read
from lit_mtrl.config.compose import compose
from lit_mtrl.runs.run import Run

TASKS = ["a", "b", "c"]


def test_principal_components_by_hand() -> None:
    """Points on a line in 4-D: all variance on the first axis, distances kept."""
    line = torch.tensor([[1.0, 2.0, 2.0, 0.0]]) / 3
    at = torch.tensor([[-2.0, 0.0, 5.0], [-1.0, 1.0, 3.0]])
    points, text = flat_points(at[..., None] * line + 7, "w")
    assert text == "principal component" and points.shape == (2, 3, 2)
    torch.testing.assert_close(points[..., 0].abs(), (at - at.mean()).abs())
    torch.testing.assert_close(points[..., 1], torch.zeros(2, 3), rtol=0, atol=1e-5)


def test_one_point() -> None:
    assert flat_points(torch.ones(1, 1, 5), "w")[0].tolist() == [[[0, 0]]]


def test_two_sets_lie_on_the_unit_circle() -> None:
    points, text = flat_points(torch.tensor([[[3.0, 4.0], [0.0, -2.0]]]), "w")
    torch.testing.assert_close(points, torch.tensor([[[0.6, 0.8], [0.0, -1.0]]]))
    assert text == "direction"


def test_columns_of_parts_and_of_connections() -> None:
    assert columns(torch.zeros(4, 3)) == ["1", "2", "3"]
    assert columns(torch.zeros(4, 2, 3)) == ["1→1", "2→1", "3→1", "1→2", "2→2", "3→2"]  # from→to, row by row


@pytest.mark.parametrize("sets", [1, 2, 5])
def test_pictures_are_written(sets: int, tmp_path: Path) -> None:
    vectors = torch.randn(4, 3, sets)
    for path in (
        draw_paths(tmp_path / "w.png", "w", TASKS, vectors),
        draw_mixture(tmp_path / "m.png", TASKS, {"w": vectors[0]}, 9),
    ):
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


@pytest.mark.parametrize(
    ("network", "names", "columns"),
    [
        ("paco", {"w"}, 5),
        ("moore", {"experts"}, 4),
        ("care", {"attention"}, 6),
        ("soft_modules", {"routing layer 1", "routing output"}, 4),
    ],
)
def test_a_run_draws_and_records(network: str, names: set[str], columns: int, tmp_path: Path) -> None:
    def run(folder: str, *overrides: str) -> Run:
        cfg = compose(["debug"], [f"network={network}", f"output_dir={tmp_path}/{folder}", *overrides])
        run = Run(cfg)
        run.fit()
        return run

    done = run("with")
    rows = (tmp_path / "with/mixture.csv").read_text().splitlines()[1:]
    assert {line.split(",")[1] for line in rows} == names
    first = sorted(names)[0]
    values = read(tmp_path / "with/mixture.csv", first, done.agent.tasks)
    assert values.shape == (2, 3, columns)
    net = done.agent.algorithm.policy.net
    if network != "soft_modules":  # whose routing depends on the observations
        torch.testing.assert_close(values[-1], net.task_mixture(torch.empty(0))[first].detach())
    pictures = {path.name for path in (tmp_path / "with/pictures").iterdir()}
    assert pictures - {"cosines.png"} == {"mixture.png"} | ({"w.png"} if network == "paco" else set())
    without = run("without", "~callbacks.pictures")
    for a, b in zip(done.agent.algorithm.parameters(), without.agent.algorithm.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not (tmp_path / "without/pictures/mixture.png").exists()


def test_plain_networks_have_no_pictures(tmp_path: Path) -> None:
    Run(compose(["debug"], [f"output_dir={tmp_path}/run", "frames=300"])).fit()
    assert not (tmp_path / "run/pictures/mixture.png").exists() and not (tmp_path / "run/mixture.csv").exists()


def test_a_table_that_was_cut_short_is_drawn_as_far_as_it_goes(tmp_path: Path) -> None:
    rows = [f"{frames},{task},w,{i},{i / 2}" for frames in (10, 20) for task in TASKS for i in range(2)]
    (tmp_path / "mixture.csv").write_text("\n".join(["frames,task,name,index,value", *rows[:-1], ""]))
    assert read(tmp_path / "mixture.csv", "w", TASKS).tolist() == [[[0.0, 0.5]] * 3]
