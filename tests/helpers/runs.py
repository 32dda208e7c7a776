"""Short runs of the experiment ``debug``: trained, continued, damaged, compared."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from lit_mtrl.cli.main import main
from lit_mtrl.config.compose import compose
from lit_mtrl.runs.folder import require_free
from lit_mtrl.runs.lock import locked
from lit_mtrl.runs.run import Run
from lit_mtrl.training.checkpoint import find

BARE = tuple(f"~callbacks.{name}" for name in ("gradients", "plasticity", "pictures", "progress"))
"""Without the callbacks that only watch."""
LEAN = (
    *BARE,
    *("network.width=8", "collector.updates_per_step=0.2", "epoch_frames=60", "env.horizon=20", "eval.episodes=1"),
    "logger.log_frames=60",
)
"""As little as a run can do."""


def train(folder: Path, frames: int, *overrides: str) -> None:
    """A `LEAN` run of ``frames``, in this process."""
    with locked(folder):
        require_free(folder)
        Run(compose(["debug"], [f"output_dir={folder}", *LEAN, f"frames={frames}", *overrides])).fit()


def resume(folder: Path, frames: int) -> str:
    """Continue a run as the command line does; what was refused, or an empty text."""
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("builtins.print", lambda *text, **_: said.append(" ".join(map(str, text))))
        code = main(["fit", "--resume", str(folder), f"frames={frames}"])
    assert code in (0, 2)
    assert len(said) == (code == 2) and "\n" not in "".join(said)
    return "".join(said)


def stopped_at(place: Path, frames: int, *overrides: str) -> Path:
    """The folder of a run that stopped at ``frames``, without weights; below ``place``."""
    cfg = compose(["debug"], overrides)
    folder = place / cfg.output_dir
    (folder / "checkpoints" / "last").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / "checkpoints" / "last" / "manifest.json").write_text(json.dumps({"frames": frames}))
    OmegaConf.save(cfg, folder / "config.yaml")
    return folder


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table of a run, which may be in the middle of one."""
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["frames"]]


def truncate(path: Path) -> None:
    """To its first half."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def flip(path: Path) -> None:
    """One bit in its middle."""
    whole = bytearray(path.read_bytes() or b"0")
    whole[len(whole) // 2] ^= 4
    path.write_bytes(whole)


def same(a: object, b: object, where: str = "") -> None:
    """Bit equality of nested plain types and tensors."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), where
    elif isinstance(a, dict) and isinstance(b, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


def same_end(one: Path, two: Path) -> None:
    """Two runs have the same weights, optimizers and replay."""
    a, b = (find(run / "checkpoints", "") for run in (one, two))
    same(a.content["state_dict"], b.content["state_dict"])
    same(a.content["optimizer_states"], b.content["optimizer_states"])
    files = sorted(path.relative_to(b.sidecar) for path in b.sidecar.rglob("*.memmap"))
    assert files
    for file in files:
        assert (a.sidecar / file).read_bytes() == (b.sidecar / file).read_bytes(), file


def same_run(one: Path, two: Path) -> None:
    """Two runs have left the same behind, as if neither had been interrupted."""
    same_end(one, two)
    a, b = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, two))
    for checkpoint in (a, b):
        del checkpoint["loops"]  # Lightning's own progress holds counts of batches since the last start
        del checkpoint["lit_mtrl"]["config"], checkpoint["lit_mtrl"]["seconds"]
    same(a, b)
    for table in ("eval.csv", "gradients.csv", "plasticity.csv"):
        assert (one / table).read_text() == (two / table).read_text()
    assert [r["frames"] for r in read(one / "metrics.csv")] == [r["frames"] for r in read(two / "metrics.csv")]
