"""A run is the same run whoever steps Meta-World: the official code, or the same in compiled steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lit_mtrl.config.compose import compose
from lit_mtrl.runs.lock import locked
from lit_mtrl.runs.run import Run
from lit_mtrl.training.checkpoint import find

pytestmark = pytest.mark.slow
SHORT = ("logger=csv", "eval.episodes=2", "collector.random_steps=50", "trainer.threads=1")
RUNS = {
    "quickstart": ("env.horizon=100", "frames=1_200", "epoch_frames=600", "collector.workers=1", "eval.workers=1"),
    "mt10_mtmhsac": (
        *("env.horizon=40", "frames=1_600", "epoch_frames=800", "collector.workers=2", "eval.workers=2"),
        *("network.width=32", "replay.per_task=8"),
    ),
}


@pytest.mark.parametrize("experiment", RUNS)
def test_the_same_weights_with_either_engine(experiment: str, tmp_path: Path) -> None:
    """Whole episodes, so that copied starts count, and evaluations; bit for bit."""
    found = []
    for engine in ("python", "native"):
        folder = tmp_path / engine
        options = [*SHORT, *RUNS[experiment], f"env.engine={engine}", f"output_dir={folder}"]
        with locked(folder):
            Run(compose([experiment], options)).fit()
        found.append((find(folder / "checkpoints", "test").content["state_dict"], (folder / "eval.csv").read_text()))
    (theirs, scores), (ours, same) = found
    assert scores == same and theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
