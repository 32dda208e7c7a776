"""Names of files, folders and runs that mean something in Hydra's grammar, or to the shell, mean nothing here."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import yaml

from lit_mtrl.config.compose import compose
from lit_mtrl.config.kinds import Name
from lit_mtrl.config.overrides import quote_texts, quoted
from lit_mtrl.core.text import NAME_BYTES
from lit_mtrl.runs.jobs import job_config
from tests.helpers.command import run

NAMES = ["lr=1e-3.yaml", "my exp (v2).yaml", "日本.yaml", "a,b.yaml", "${x}.yaml", "it's.yaml", "a%20b?#.yaml", "debug"]
TEXTS = ["my exp (v2)", "日本", "it's", "a=b", 'say "x"', "back\\slash", "a'b\\", "(", "a:b", "1e-3x", "~x"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder, and with a folder for temporary files, of any name as well."""
    folder = tmp_path / "a,b=[c] 日本 %20?#"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    (folder / name).write_text("\ufeffdefaults:\n  - override /network: mlp\nnetwork:\n  width: 33\n", encoding="utf-8")
    before = sorted(folder.iterdir())
    assert compose([f"./{name}"], []).network.width == 33
    assert compose(["quickstart", str(folder / name)], ["network.depth=1"]).network == {
        **compose([f"./{name}"], []).network,
        "depth": 1,
    }
    assert sorted(folder.iterdir()) == before


def test_a_folder_named_like_an_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "debug").mkdir()
    assert compose(["debug"], []).experiment_name == "debug"


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_for_a_name(text: str) -> None:
    (override,) = quote_texts([f"run_name={text}"])
    cfg = compose(["debug"], [override])
    assert cfg.run_name == text and cfg.output_dir == f"outputs/debug/{text}"
    assert compose(["debug"], [f"run_name={quoted(text)}"]).run_name == text
    code, out, err = run("fit", "--config", "debug", "--print-config", f"run_name={text}")
    assert code == 0, err
    assert yaml.safe_load(out)["run_name"] == text


def test_what_the_grammar_takes_stays_as_it_is() -> None:
    overrides = [
        "run_name=a",
        "run_name='a b'",
        "network.width=(",
        "seed=0,1",
        "run_name=a,b",
        "~callbacks.progress",
        "x",
    ]
    assert quote_texts(overrides) == overrides


def test_names_of_a_sweep_are_shortened() -> None:
    tasks = ",".join(["reach", "push", "pick-place", "door-open", "drawer-close", "window-open"] * 10)
    names = set()
    for ending in ("a", "b"):
        own = ["benchmark.name=" + "n" * 230 + ending, f"callbacks.plasticity.thresholds=[0.{len(tasks)}]", "seed=3"]
        name = job_config(["debug"], own, ["benchmark.name"]).run_name
        assert len(name.encode()) <= NAME_BYTES and name.endswith("-s3") and Name().check("run_name", name) == name
        names.add(name)
    assert len(names) == 2
