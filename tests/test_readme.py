"""The README's commands are understood, and what it names exists."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.conftest import ROOT
from tests.test_cli import run

TEXT = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^python -m lit_mtrl (.+?)(?:\s+#.*)?$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("command", [c for c in COMMANDS if "outputs/" not in c and "--multirun" not in c])
def test_commands(command: str) -> None:
    args = shlex.split(command)
    code, out, err = run(*args, *(["--print-config"] if args[0] == "fit" else []))
    assert (code, err) == (0, "") and out


def test_every_command_is_shown() -> None:
    assert {c.split()[0] for c in COMMANDS} == {"fit", "test", "params", "list"}


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)]+)\)", TEXT))
def test_links(target: str) -> None:
    assert (ROOT / target).exists()


def test_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z]+)\b", TEXT + (ROOT / "CONTRIBUTING.md").read_text())) <= set(targets) | {
        "and"
    }
