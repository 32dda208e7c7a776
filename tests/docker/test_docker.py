"""The image's files agree with the project: locks with pins, ignored files with git's, documented commands with the
command line.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lit_mtrl.cli.main import _parse
from lit_mtrl.runs.tags import git_commit
from tests.helpers.project import PINS, PROJECT, ROOT
from tools import lock

ENTRY = re.compile(r"^([\w.-]+)==([^\s;\\]+)([^\n]*)((?:\n +.*)*)", re.MULTILINE)
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
ENTRYPOINT = ROOT / "docker/entrypoint.sh"


def entries(path: Path) -> dict[str, str]:
    """Version by package; no package twice, none without hashes."""
    found = ENTRY.findall(path.read_text())
    versions = {str(canonicalize_name(name)): version for name, version, _, _ in found}
    assert len(versions) == len(found)
    for name, _, _, hashes in found:
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}(?: \\)?$", hashes, re.MULTILINE), name
    return versions


LOCKED = {path.stem: entries(path) for path in (lock.COMMON, lock.CUDA, lock.CPU)}
ALL = {kind: LOCKED["requirements"] | LOCKED[f"requirements-{kind}"] for kind in ("cuda", "cpu")}


@pytest.mark.parametrize("kind", ALL)
def test_locks_have_the_pins_and_the_extras(kind: str) -> None:
    versions = ALL[kind]
    assert len(versions) == len(LOCKED["requirements"]) + len(LOCKED[f"requirements-{kind}"])  # no package in both
    for name, version in PINS.items():
        assert versions[canonicalize_name(name)].split("+")[0] == version, f"{name}: run make lock"
    extras = PROJECT["optional-dependencies"]
    for line in [line for name in (*lock.EXTRAS, "sweep") for line in extras[name]]:
        wanted = Requirement(line)
        if wanted.name != "lit_mtrl":
            assert versions[canonicalize_name(wanted.name)] in wanted.specifier, f"{line}: run make lock"
    assert versions["torch"] == PINS["torch"] + ("+cpu" if kind == "cpu" else "")
    assert ("nvidia-nccl-cu13" in versions) == ("triton" in versions) == (kind == "cuda")


def test_locks_are_complete() -> None:
    """What the packages installed here need is locked, down to the last one."""
    versions, seen = ALL["cpu"], set()
    waiting = [Requirement(name) for name in PINS]
    waiting += [Requirement(r) for e in lock.EXTRAS for r in PROJECT["optional-dependencies"][e] if "lit_mtrl" not in r]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if (name, *sorted(wanted.extras)) in seen:
            continue
        seen.add((name, *sorted(wanted.extras)))
        assert name in versions, f"{name}: run make lock"
        try:
            needed = [Requirement(text) for text in requires(wanted.name) or []]
        except PackageNotFoundError:
            continue
        for one in needed:
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
                if name != "torch":  # its CUDA wheel needs what its CPU wheel does not
                    waiting.append(one)
    assert len(seen) > 100


def test_cpu_wheels_are_read_from_the_page(tmp_path: Path) -> None:
    links = [(f"cp{n}", f"{n}{char}" * 16) for n, char in zip((311, 312, 313, 314), "abcd", strict=True)]
    page = tmp_path / "page.html"
    page.write_text(
        "".join(
            f'<a href="https://host/whl/torch-9.1.0%2Bcpu-{tag}-{tag}-manylinux_2_28_x86_64.whl#sha256={digest}">\n'
            f'<a href="https://host/whl/torch-9.1.0%2Bcpu-{tag}-{tag}-win_amd64.whl#sha256={"f" * 64}">\n'
            for tag, digest in links
        )
    )
    lines = lock.cpu_torch("9.1.0", page.as_uri()).splitlines()
    assert lines[0] == "torch==9.1.0+cpu \\" and lines[-1] == f"    --hash=sha256:{links[2][1]}" and len(lines) == 4
    with pytest.raises(SystemExit, match=r"no wheels of torch 9.2.0\+cpu"):
        lock.cpu_torch("9.2.0", page.as_uri())


def test_cpu_wheels_stay_when_the_page_cannot_be_read(tmp_path: Path) -> None:
    nowhere = (tmp_path / "nowhere").as_uri()
    assert lock.cpu_torch(PINS["torch"], nowhere) in lock.CPU.read_text()
    with pytest.raises(SystemExit, match="cannot be read"):
        lock.cpu_torch("9.9.9", nowhere)


def test_code_is_copied_after_everything_is_installed() -> None:
    """So that an edit installs nothing again; and nothing runs as root."""
    assert DOCKERFILE.rindex("install") < DOCKERFILE.index("\nCOPY . ") < DOCKERFILE.index("\nUSER ")
    assert all("--require-hashes" in line for line in re.findall(r"pip install .*", DOCKERFILE))
    assert re.search(r"^ENTRYPOINT .*/opt/lit_mtrl/docker/entrypoint.sh", DOCKERFILE, re.MULTILINE)


def test_git_ignores_are_not_copied() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in (ROOT / ".gitignore").read_text().splitlines():
        assert line in ignored or f"**/{line}" in ignored, line


@pytest.mark.parametrize(
    ("words", "started"),
    [
        ("fit --config debug seed=1", "-m lit_mtrl fit --config debug seed=1"),
        ("", "-m lit_mtrl"),
        ("tests -n 2 tests/nets", "-m pytest -p no:cacheprovider -n 2 tests/nets"),
        ("python -c pass", "-c pass"),
    ],
)
def test_entry_point(words: str, started: str, tmp_path: Path) -> None:
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\necho "$(pwd): $*"\n')
    stub.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [ENTRYPOINT, *words.split()], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{ROOT if words.startswith('tests') else tmp_path}: {started}\n"


def test_a_checkout_in_the_working_folder_is_not_what_runs(tmp_path: Path) -> None:
    """Nor in what Lightning or a sweep starts with ``python -m``."""
    variables = dict(re.findall(r"^(?:ENV| {3}) (PYTHON\w+)=(\S+)", DOCKERFILE, re.MULTILINE))
    assert variables["PYTHONPATH"] == "/opt/lit_mtrl"
    (tmp_path / "lit_mtrl").mkdir()
    (tmp_path / "lit_mtrl" / "__main__.py").write_text("print('the wrong one')")
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lit_mtrl", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "wrong" not in done.stdout and "fit" in done.stdout


def test_runs_are_tagged_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LIT_MTRL_COMMIT", "0123abc")
    assert git_commit() == "0123abc" and re.search(r"^ENV LIT_MTRL_COMMIT=", DOCKERFILE, re.MULTILINE)
    monkeypatch.delenv("LIT_MTRL_COMMIT")
    assert git_commit() == "unknown"


def test_compose_keeps_to_this_machine() -> None:
    ports = [port for service in COMPOSE.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:${MLFLOW_PORT:-5000}:5000"] and COMPOSE["mlflow"]["ports"] == ports
    assert COMPOSE["mlflow"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert COMPOSE["trainer"]["depends_on"] == {"mlflow": {"condition": "service_healthy"}}
    (device,) = COMPOSE["trainer"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    passwords = {
        COMPOSE["postgres"]["environment"]["POSTGRES_PASSWORD"],
        COMPOSE["mlflow"]["environment"]["PGPASSWORD"],
    }
    assert passwords == {"${POSTGRES_PASSWORD:-mlflow}"}


@pytest.mark.parametrize("name", ["README.md", "docs/docker.md"])
def test_documented_commands(name: str) -> None:
    """Every `docker run` is understood by the command line, and its own options are the ones meant."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    arguments = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    assert set(re.findall(r"--build-arg (\w+)", text)) <= arguments
    commands = re.findall(r"^docker (?:run .*? lit_mtrl|compose run .*? trainer) (.+?)(?:\s+#.*)?$", text, re.MULTILINE)
    assert commands
    for command in commands:
        words = shlex.split(command)
        if words[0] not in ("tests", "python"):
            _parse(words)
