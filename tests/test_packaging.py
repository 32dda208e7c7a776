"""What is installed: pins and ranges agree, and the package knows its configuration wherever it is."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lit_mtrl.config.folders import conf_dir
from lit_mtrl.core.errors import ConfigError
from tests.helpers.project import PINS, PROJECT, ROOT


@pytest.mark.parametrize("line", PROJECT["dependencies"], ids=str)
def test_pins_are_in_the_ranges(line: str) -> None:
    wanted = Requirement(line)
    if wanted.name in PINS:
        assert PINS[wanted.name] in wanted.specifier
    assert version(wanted.name).split("+")[0] in wanted.specifier


def test_extras() -> None:
    assert set(PROJECT["optional-dependencies"]) == {"sweep", "postgres", "tests", "dev"}
    assert "2.6.2" not in PROJECT["dependencies"][1]  # two releases of lightning carried malware


def test_conf_can_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert conf_dir() == ROOT / "conf"
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    monkeypatch.setenv("LIT_MTRL_CONF", str(tmp_path))
    assert conf_dir() == tmp_path
    monkeypatch.setenv("LIT_MTRL_CONF", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="LIT_MTRL_CONF"):
        conf_dir()


def test_the_wheel_has_all_files_of_the_package() -> None:
    """Data files, too: what `new` writes, and configurations."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert (wheel["packages"], wheel["exclude"]) == (["lit_mtrl"], ["lit_mtrl/callbacks"])
    assert set(wheel["force-include"]) == {"callbacks", "conf", "requirements.txt"}
