"""The README's commands are understood, and what it names exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lit_mtrl.cli.main import _parse
from lit_mtrl.runs.jobs import combinations
from tests.helpers.command import run
from tests.helpers.project import ROOT

TEXT = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^python -m lit_mtrl (.+?)(?:\s+#.*)?$", TEXT, re.MULTILINE)


LONG = ("bench", "report", "ui", "doctor", "new")
"""They take minutes, need runs, do not end, write files, or are tested on their own."""


@pytest.mark.parametrize(
    "command",
    [
        c
        for c in COMMANDS
        if "outputs/" not in c and "--config-dir" not in c and "--multirun" not in c and c.split()[0] not in LONG
    ],
)
def test_commands(command: str) -> None:
    args = shlex.split(command)
    code, out, err = run(*args, *(["--print-config"] if args[0] == "fit" else []))
    assert (code, err) == (0, "") and out


def test_every_command_is_shown() -> None:
    assert {c.split()[0] for c in COMMANDS} == {
        "fit",
        "test",
        "params",
        "list",
        "bench",
        "report",
        "ui",
        "doctor",
        "new",
    }


@pytest.mark.parametrize("name", ["README.md", "docs/comparing.md", "docs/studies.md"])
def test_commands_are_understood(name: str) -> None:
    """What takes minutes, or needs runs, is only parsed; of a sweep the configuration is composed."""
    commands = re.findall(r"^python -m lit_mtrl (.+?)(?:\s+#.*)?$", (ROOT / name).read_text(), re.MULTILINE)
    for command in commands:
        args = _parse(shlex.split(command))
        if args.command == "fit" and args.multirun and "hydra/sweeper=optuna" not in args.overrides:
            assert len(combinations(args.config, args.overrides)) > 1, command


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_links(path: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z]+)\b", TEXT + (ROOT / "CONTRIBUTING.md").read_text())) <= set(targets) | {
        "and"
    }
