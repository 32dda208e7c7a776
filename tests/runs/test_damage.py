"""Every file that a run leaves, damaged in every way: the run is continued right, falls back and says so, or is refused
in one line.

Never are there other numbers in silence.
"""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lit_mtrl.config.compose import compose
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.manifest import damage, read_manifest, write_manifest
from lit_mtrl.runs.folder import require_free
from lit_mtrl.runs.loggers import run_before
from lit_mtrl.runs.resume import _notes, resumed
from lit_mtrl.training.checkpoint import find, load
from tests.helpers import runs as lean
from tests.helpers.runs import LEAN, flip, read, same, same_end, train, truncate

SAVED, WHOLE = 180, 240
"""Frames at which runs are damaged; frames of the run that they are compared with."""


def resume(folder: Path, frames: int = WHOLE) -> str:
    return lean.resume(folder, frames)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``stopped`` at `SAVED` frames, and ``whole``, the same continued to `WHOLE` frames."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "stopped", SAVED)
    shutil.copytree(folder / "stopped", folder / "whole")
    assert resume(folder / "whole") == ""
    logging.getLogger("lit_mtrl").handlers.clear()
    return folder


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    shutil.copytree(runs / "stopped", tmp_path / "run")
    return tmp_path / "run"


def new_lines(run: Path, before: bytes) -> list[str]:
    """What the log says since it was as ``before``, warnings and remarks on tables only."""
    text = (run / "train.log").read_bytes()[len(before) :].decode(errors="replace")
    return [line for line in text.splitlines() if " WARNING " in line or "dropped" in line or "removed" in line]


def flip_content(path: Path) -> None:
    """Of a checkpoint, not the padding between its parts, which no checksum within it covers."""
    with zipfile.ZipFile(path) as parts:
        largest = parts.read(max(parts.infolist(), key=lambda part: part.file_size))
    whole = bytearray(path.read_bytes())
    whole[whole.index(largest) + len(largest) // 2] ^= 4
    path.write_bytes(whole)


WAYS: dict[str, Callable[[Path], object]] = {
    "truncated": truncate,
    "emptied": lambda path: path.write_bytes(b""),
    "flipped": flip,
    "removed": Path.unlink,
    "folder": lambda path: (path.unlink(), path.mkdir()),
}
PAIR = [
    *("checkpoints/last.ckpt", "checkpoints/last/manifest.json", "checkpoints/last/replay/state.pt"),
    *(f"checkpoints/last/replay/transitions/{name}" for name in ("meta.json", "observation.memmap", "action.memmap")),
    *(f"checkpoints/last/replay/transitions/next/{name}" for name in ("meta.json", "observation.memmap")),
    *(f"checkpoints/last/replay/transitions/next/{name}" for name in ("reward.memmap", "terminated.memmap")),
]
BEFORE = [name.replace("/last/", "/last.old/").replace("last.ckpt", "last.ckpt.old") for name in PAIR]
TABLES = ["eval.csv", "metrics.csv"]
OTHERS = ["config.yaml", "run.json", "run.lock", "train.log", "checkpoints/best.ckpt"]


def test_the_lists_have_every_file(runs: Path) -> None:
    left = {str(path.relative_to(runs / "stopped")) for path in (runs / "stopped").rglob("*") if path.is_file()}
    assert left == {*PAIR, *BEFORE, *TABLES, *OTHERS}


@pytest.mark.parametrize(
    ("name", "way"),
    [
        pytest.param(name, way, marks=[] if way == "flipped" or name in (PAIR[0], PAIR[4]) else pytest.mark.slow)
        for name in PAIR
        for way in WAYS
    ],
)
def test_the_newest_pair_is_damaged(name: str, way: str, run: Path, runs: Path) -> None:
    """The pair before is used, and that is said; the damaged one is not touched before."""
    before = (run / "train.log").read_bytes()
    WAYS[way](run / name)
    assert resume(run) == ""
    fallback = [
        line for line in new_lines(run, before) if "continued from the checkpoint before, at 120 frames" in line
    ]
    assert len(fallback) == 1 and name.split("/")[1] in fallback[0]
    same_end(run, runs / "whole")
    assert (run / "eval.csv").read_text() == (runs / "whole" / "eval.csv").read_text()
    assert "eval.csv: rows dropped: 3 beyond the checkpoint at 120 frames" in "".join(new_lines(run, before))
    assert find(run / "checkpoints", "").notes == ()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [PAIR[0], PAIR[1], PAIR[4]])
def test_both_pairs_are_damaged(name: str, way: str, run: Path) -> None:
    """Refused before anything is changed."""
    WAYS[way](run / name)
    WAYS[way](run / BEFORE[PAIR.index(name)])
    if way == "removed" and name == PAIR[0]:
        assert "holds no checkpoints/last.ckpt" in resume(run)
        return
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    said = resume(run)
    assert said.startswith(f"error: --resume {run}/checkpoints: cannot be continued exactly (last.ckpt: ")
    assert "; last.ckpt.old: " in said and said.endswith("restore that from a copy, or start anew elsewhere")
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [BEFORE[0], BEFORE[1], BEFORE[4]])
def test_the_pair_before_is_damaged(name: str, way: str, run: Path, runs: Path) -> None:
    """It is not needed, and makes room for the next."""
    before = (run / "train.log").read_bytes()
    WAYS[way](run / name)
    assert resume(run) == "" and new_lines(run, before) == []
    same_end(run, runs / "whole")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_damaged(name: str, way: str, run: Path, runs: Path) -> None:
    before = (run / "train.log").read_bytes()
    whole = read(run / name)
    WAYS[way](run / name)
    left = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    refused, said = resume(run), new_lines(run, before)
    if way in ("flipped", "folder"):
        assert f"{run / name}: " in refused
        assert left == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        return
    assert refused == "" and any(name in line and ("lacks" in line or "is missing" in line) for line in said)
    assert len(read(run / name)) < len(whole) + 3
    if name == "eval.csv":
        assert "lacks the evaluation at" in "".join(said)
    same_end(run, runs / "whole")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OTHERS)
def test_another_file_is_damaged(name: str, way: str, run: Path, runs: Path) -> None:
    before, log = (run / "train.log").read_bytes(), run / "train.log"
    best = load(run / "checkpoints" / "best.ckpt", "")
    WAYS[way](run / name)
    started = log.read_bytes() if log.is_file() else b""
    refused = resume(run)
    if refused:
        assert name == "config.yaml" or name in refused
        return
    same_end(run, runs / "whole")
    said = new_lines(run, started if name == "train.log" else before)
    if name.endswith("best.ckpt") and said == []:  # the bit was one between the tensors
        same(load(run / name, ""), best)
    elif name in ("run.json", "run.lock", "train.log"):  # written anew, or nothing that is read
        assert said == []
    else:
        assert len(said) == 1 and name in said[0]


def test_header_of_a_table_that_no_checkpoint_knows(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    text = (run / "eval.csv").read_text()
    (run / "eval.csv").write_text(text.replace("frames", "frbmes"))
    with pytest.raises(ConfigError, match="eval.csv: its header lacks frames; restore it"):
        require_free(run)


def older(run: Path) -> Path:
    """Make the newest pair one of an older version, and the only one."""
    folder = run / "checkpoints"
    (folder / "last.ckpt.old").unlink()
    shutil.rmtree(folder / "last.old")
    (folder / "last" / "manifest.json").write_text(json.dumps({"frames": SAVED, "ranks": 1}))
    return folder / "last"


def test_a_checkpoint_of_an_older_version(run: Path, runs: Path) -> None:
    before = (run / "train.log").read_bytes()
    older(run)
    assert resume(run) == ""
    (line,) = new_lines(run, before)
    assert line.endswith("checkpoints/last: written by an older version, without checksums; cannot be verified")
    same_end(run, runs / "whole")


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (lambda last: (last / "manifest.json").write_text('{"frames": 180, "ranks": 2}'), "says 2 ranks"),
        (lambda last: (last / "manifest.json").write_text('{"frames": 180, "ranks": -1}'), "manifest.json is damaged"),
        (lambda last: (last / "manifest.json").write_text("[" * 100_000), "manifest.json is damaged"),
        (lambda last: (last / "manifest.json").write_text("[]"), "manifest.json is damaged"),
        (lambda last: shutil.copytree(last / "replay", last / "replay.1"), "says 1 ranks"),
        (lambda last: shutil.rmtree(last / "replay" / "transitions"), "replay/transitions is missing"),
        (
            lambda last: truncate(last / "replay" / "transitions" / "action.memmap"),
            "action.memmap has 360 of 720 bytes",
        ),
        (lambda last: (last / "replay" / "transitions" / "meta.json").write_text("{"), "meta.json"),
        (
            lambda last: (last / "replay" / "transitions" / "meta.json").write_text('{"shape": [1], "../x": {}}'),
            "'../x' is no name of a tensor",
        ),
        (lambda last: flip(last / "replay" / "state.pt"), "replay/state.pt: "),
    ],
)
def test_a_damaged_checkpoint_of_an_older_version(damaged: Callable[[Path], object], said: str, run: Path) -> None:
    damaged(older(run))
    assert said in resume(run)


class Planted:
    def __reduce__(self):
        return Path.touch, (Path("planted"),)


def test_planted_pickles_are_not_executed(
    run: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither beside the replay's tensors, where tensordict would look for one, nor as a checkpoint, nor as the
    replay's state.
    """
    monkeypatch.chdir(tmp_path)
    last = older(run)
    for folder in (last, last / "replay", last / "replay" / "transitions", last / "replay" / "transitions" / "next"):
        (folder / "other.pickle").write_bytes(pickle.dumps(Planted()))
    assert resume(run) == ""
    same_end(run, runs / "whole")
    torch.save(Planted(), run / "checkpoints" / "best.ckpt")
    with pytest.raises(ConfigError, match="holds other things than plain types and tensors"):
        load(run / "checkpoints" / "best.ckpt", "--ckpt")
    assert "best.ckpt: holds other things than plain types and tensors" in resume(run, WHOLE + 60)
    (run / "checkpoints" / "best.ckpt").unlink()
    assert resume(run, WHOLE + 60) == ""
    (last / "manifest.json").write_text(json.dumps({"frames": WHOLE + 60, "ranks": 1}))
    torch.save({"writer": Planted()}, last / "replay" / "state.pt")
    found = find(run / "checkpoints", "")
    assert "replay/state.pt: holds other things than plain types and tensors" in found.notes[0]
    assert not (tmp_path / "planted").exists()


def test_a_checkpoint_of_other_shapes(run: Path) -> None:
    """As if the configuration in it were another's."""
    path = run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    name = next(name for name, value in content["state_dict"].items() if value.ndim == 3)
    content["state_dict"][name] = content["state_dict"][name][..., :-1]
    torch.save(content, path)
    older(run)
    before = (run / "config.yaml").stat().st_mtime_ns
    assert f"weights do not fit its configuration: {name} (" in resume(run)
    assert (run / "config.yaml").stat().st_mtime_ns == before


def test_the_checkpoint_of_another_run(run: Path, tmp_path: Path) -> None:
    """Of the same configuration and frames, so that only its checksum tells."""
    train(tmp_path / "other", SAVED, "seed=1")
    shutil.copy(tmp_path / "other" / "checkpoints" / "last.ckpt", run / "checkpoints" / "last.ckpt")
    found = find(run / "checkpoints", "")
    assert found.path.name == "last.ckpt.old" and "last.ckpt: no replay belongs to it" in found.notes[0]


def test_weights_that_wait_for_their_evaluation(run: Path) -> None:
    pending = run / "checkpoints" / "best.ckpt.pending"
    shutil.copy(run / "checkpoints" / "last.ckpt", pending)
    flip_content(pending)
    assert "checkpoints/best.ckpt.pending: damaged, in " in resume(run)


def test_what_a_killed_run_left_is_dropped_and_said(run: Path, runs: Path) -> None:
    before = (run / "train.log").read_bytes()
    with (run / "eval.csv").open("ab") as file:
        file.write(b"240,reach,1.0,0.0,20.0\r\n240,pu")
    assert resume(run) == ""
    (line,) = new_lines(run, before)
    assert line.endswith("eval.csv: rows dropped: 1 beyond the checkpoint at 180 frames, 1 cut short or unreadable")
    assert (run / "eval.csv").read_text() == (runs / "whole" / "eval.csv").read_text()


def test_the_manifest_has_its_own_checksum(run: Path) -> None:
    sidecar = run / "checkpoints" / "last"
    manifest = read_manifest(sidecar)
    for key, value in (("ranks", 2), ("frames", SAVED + 60), ("files", {})):
        write_manifest(sidecar, manifest)
        assert find(run / "checkpoints", "").sidecar == sidecar
        (sidecar / "manifest.json").write_text(
            json.dumps({**json.loads((sidecar / "manifest.json").read_text()), key: value})
        )
        assert find(run / "checkpoints", "").sidecar.name == "last.old"


def test_ranks_look_at_the_checkpoint_alike(run: Path) -> None:
    """The others leave tables, and what is said of them, to the first."""
    cfg = compose(["debug"], [f"output_dir={run}", *LEAN, f"frames={WHOLE}"])
    (run / "eval.csv").unlink()
    assert resumed(cfg).notes
    assert resumed(cfg, first=False).notes == ()


def test_what_is_compressed_is_not_unpacked(tmp_path: Path) -> None:
    """A few kilobytes of it can stand for gigabytes."""
    with zipfile.ZipFile(tmp_path / "last.ckpt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(2**20))
    assert damage(tmp_path / "last.ckpt") == "damaged, in its compression"


@pytest.mark.parametrize("text", ["[]", "5", '"run_id"', "{}", '{"run_id": ["a"]}', "[" * 100_000, "\0"])
def test_run_of_a_damaged_run_json_is_unknown(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    assert run_before(tmp_path) is None
    (tmp_path / "run.json").write_text('{"run_id": "a"}')
    assert run_before(tmp_path) == "a"


@pytest.mark.parametrize("name", ["best.ckpt", "best.ckpt.pending"])
def test_weights_of_another_run_are_refused(name: str, run: Path) -> None:
    path = run / "checkpoints" / name
    other = load(run / "checkpoints" / "best.ckpt", "")
    other["lit_mtrl"]["config"]["seed"] = 5
    torch.save(other, path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert f"--resume {path}: the run has another configuration: seed (5 there, 0 here)" in resume(run)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_many_evaluations_that_are_lacking_are_a_short_line(run: Path) -> None:
    cfg = compose(["debug"], [f"output_dir={run}", *LEAN, f"frames={WHOLE}"])
    far = replace(find(run / "checkpoints", ""), content={"lit_mtrl": {"frames": 60 * 10**12}})
    line = next(line for line in _notes(run, far, cfg) if "lacks the evaluation" in line)
    assert line == "eval.csv: lacks the evaluation at 240, 300, 360, 420, 480 frames, and 999999999992 more"
