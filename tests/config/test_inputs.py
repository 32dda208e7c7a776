"""Every entry of inputs.yaml: exit code 2, one line, nothing executed, nothing left behind."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lit_mtrl.cli.main import main

INPUTS = yaml.safe_load((Path(__file__).parent / "inputs.yaml").read_text())
EVIL = "from pathlib import Path\nPath('executed').write_text('')\nclass Suite: ...\n"
LARGE = {
    "BOMB": "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
    "MANY": "".join(f"k{i}: {i}\n" for i in range(300_000)),
    "DEEP": "a: " + "[" * 20_000,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with contextlib.redirect_stderr(io.StringIO()):
        assert main(["fit", "--config", "debug", f"output_dir={folder}", "frames=300", "~callbacks.gradients"]) == 0
    return folder


def changed(config: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        *path, leaf = key.split(".")
        part = config
        for name in path:
            part = part[name]
        part[leaf] = value
    return config


def prepare(entry: dict[str, Any], folder: Path, trained: Path) -> list[str]:
    """Make the files of an entry; its arguments."""
    (folder / "evil.py").write_text(EVIL)
    names = {"run": folder / "run", "ckpt": folder / "run" / "checkpoints" / "last.ckpt"}
    args = [str(arg).replace("LONG", "x" * 300) for arg in entry["args"]]
    if any("{" + name + "}" in arg for arg in args for name in names):
        shutil.copytree(trained, names["run"])
        config = yaml.safe_load((names["run"] / "config.yaml").read_text())
        (names["run"] / "config.yaml").write_text(yaml.safe_dump(changed(config, entry.get("saved", {}))))
        if any("{ckpt}" in arg for arg in args):
            checkpoint = torch.load(names["ckpt"], weights_only=True)
            changed(checkpoint["lit_mtrl"]["config"], entry.get("saved", {}))
            torch.save(checkpoint, names["ckpt"])
    for name, content in entry.get("files", {}).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        if content.startswith("-> "):
            path.symlink_to(content.removeprefix("-> "))
        elif content == "PIPE":
            os.mkfifo(path)
        else:
            path.write_text(LARGE.get(content, content))
    for name, path in names.items():
        args = [arg.replace("{" + name + "}", str(path)) for arg in args]
    return args


@pytest.mark.parametrize(
    "entry", INPUTS, ids=lambda entry: " ".join(map(str, entry["args"])).encode("ascii", "replace").decode()[:60]
)
def test_input(entry: dict[str, Any], tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    args = prepare(entry, tmp_path, trained)
    before = contents(tmp_path)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(args)
    assert (code, out.getvalue().removeprefix("checking 2 runs\n")) == (2, "")
    assert err.getvalue().startswith("error: ") and err.getvalue().count("\n") == 1 and err.getvalue().endswith("\n")
    assert str(entry["said"]) in err.getvalue()
    assert len(err.getvalue()) < 600 and "hunter2" not in err.getvalue()
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[str, Any]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def test_there_are_enough() -> None:
    assert len(INPUTS) >= 100
