"""Commands that train nothing: wrong options are one line and leave nothing behind; what is printed can be read by
machines.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from lit_mtrl.config.saved import ROOT_KEYS
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.tables import to_json
from lit_mtrl.tracking.ui import serve
from tests.helpers.command import run
from tests.helpers.project import ROOT, SOURCES
from tests.helpers.run_folders import write_run

REPORT = ("report", "--runs", "runs")
BENCH = ("bench", "--config", "debug")
OPTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "statistic": ((*REPORT, "--statistic", "men"), "did you mean 'mean'"),
    "statistic empty": ((*REPORT, "--statistic", ""), "--statistic="),
    "group": ((*REPORT, "--group", "sede"), "did you mean 'seed'"),
    "where": ((*REPORT, "--where", "seed"), "write KEY=VALUE"),
    "where key": ((*REPORT, "--where", "sede=1"), "did you mean 'seed'"),
    "where value": ((*REPORT, "--where", "seed=7"), "no such run"),
    "published": ((*REPORT, "--published", "mclean2026"), "did you mean 'mclean2025'"),
    "published file": ((*REPORT, "--published", "none.csv"), "--published=none.csv"),
    "published folder": ((*REPORT, "--published", "folder.csv"), "--published"),
    "published text": ((*REPORT, "--published", "runs/a/config.csv"), "--published"),
    "published words": ((*REPORT, "--published", "words.csv"), "no table"),
    "published empty": ((*REPORT, "--published", ""), "--published"),
    "out file": ((*REPORT, "--out", "words.csv"), "--out words.csv: exists and is no report"),
    "out below a file": ((*REPORT, "--out", "words.csv/x"), "is not a folder"),
    "out runs": ((*REPORT, "--out", "runs"), "exists and is no report"),
    "out dangling": ((*REPORT, "--out", "dangling"), "exists and is no report"),
    "out empty": ((*REPORT, "--out", ""), "--out: is empty"),
    "out system": ((*REPORT, "--out", "/proc/x"), "--out /proc/x"),
    "ui": ((*REPORT, "--ui", "nowhere"), "--ui nowhere: no address"),
    "ui script": ((*REPORT, "--ui", "javascript:alert(1)//"), "no address"),
    "ui bracket": ((*REPORT, "--ui", "http://["), "no address"),
    "ui empty": ((*REPORT, "--ui", ""), "no address"),
    "ui line end": ((*REPORT, "--ui", "http://a\nb"), "no address"),
    "log": ((*REPORT, "--log"), "--log: needs --experiment"),
    "nothing": (("report",), "give --experiment NAME, or folders"),
    "both": ((*REPORT, "--experiment", "x"), "give --experiment NAME, or folders"),
    "no folder": (("report", "--runs", "none"), "no such folder"),
    "a file": (("report", "--runs", "words.csv"), "no such folder"),
    "no runs": (("report", "--runs", "folder.csv"), "holds no run"),
    "no store": (("report", "--experiment", "x"), "no such file"),
    "no uri": (("report", "--experiment", "x", "--tracking-uri", "nowhere"), "nowhere"),
    "overrides": (("ui", "seed=1"), "takes no overrides"),
    "seconds nan": ((*BENCH, "--seconds", "nan"), "--seconds=nan"),
    "seconds negative": ((*BENCH, "--seconds=-1"), "--seconds=-1"),
    "seconds zero": ((*BENCH, "--seconds", "0"), "--seconds=0"),
    "seconds infinite": ((*BENCH, "--seconds", "inf"), "--seconds=inf"),
    "seconds many": ((*BENCH, "--seconds", "1e9"), "--seconds=1e+09"),
    "seconds text": ((*BENCH, "--seconds", "long"), "--seconds"),
    "only": ((*BENCH, "--only", "updates"), "did you mean 'update'"),
    "networks": ((*BENCH, "--networks", "mpl"), "did you mean 'mlp'"),
    "json folder": ((*BENCH, "--only", "none", "--json", "runs"), "not of a folder"),
    "json no folder": ((*BENCH, "--only", "none", "--json", "none/x.json"), "there is no such folder"),
    "json below a file": ((*BENCH, "--only", "none", "--json", "words.csv/x.json"), "there is no such folder"),
    "json empty": ((*BENCH, "--only", "none", "--json", ""), "not of a folder"),
    "json system": ((*BENCH, "--only", "none", "--json", "/sys/x.json"), "--json /sys/x.json"),
    "peer": ((*BENCH, "--only", "peer"), "--peer"),
    "peer empty": ((*BENCH, "--peer", ""), "--peer: is empty"),
    "port": (("ui", "--port", "http"), "--port"),
    "port fraction": (("ui", "--port", "1e3"), "--port"),
    "port negative": (("ui", "--port=-1"), "--port -1: 0 to 65535"),
    "port large": (("ui", "--port", "65536"), "--port 65536: 0 to 65535"),
    "ui store": (("ui", "--tracking-uri", "words.csv"), "--tracking-uri"),
    "params": (("params", "--config", "words.csv"), "--config words.csv"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a run and files that are none."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "a", [[0.1, 0.2, 0.3]], at=[2000])
    (tmp_path / "runs" / "a" / "config.csv").write_text("a,b\n1,2\n")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "none" / "there")
    columns = "benchmark,method,horizon,rewards,goals,metric,source,width,parameters,frames,value,low,high,seeds"
    (tmp_path / "words.csv").write_text(f"{columns}\n{','.join(['x'] * 14)}\n")
    return tmp_path


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("case", OPTIONS)
def test_a_wrong_option_is_one_line(case: str, folder: Path) -> None:
    args, said = OPTIONS[case]
    before = everything(folder)
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and said in err
    assert err.count("\n") == 1 or "\n" in "".join(args)
    assert everything(folder) == before


def test_the_port_is_looked_at_first() -> None:
    with pytest.raises(ConfigError, match="--port 70000"):
        serve("nowhere", 70000)


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``conf/`` that is used in its place."""
    copy = tmp_path / "conf"
    shutil.copytree(ROOT / "conf", copy)
    monkeypatch.setenv("LIT_MTRL_CONF", str(copy))
    return copy


def test_list_describes_what_it_can(conf: Path) -> None:
    network = conf / "network"
    (network / "bom.yaml").write_bytes(b"\xef\xbb\xbf# With a mark.\na: 1\n")
    (network / "binary.yaml").write_bytes(b"\x00\xff\xfe# no\n\x1b[31m")
    (network / "coloured.yaml").write_text("# \x1b[31mred\x07\n")
    (network / "broken.yaml").write_text("a: [\n# Broken, but with a comment.\n")
    (network / "dangling.yaml").symlink_to("nowhere")
    (network / "folder.yaml").mkdir()
    (network / "empty.yaml").touch()
    (network / "long.yaml").write_text("x" * 100_000)
    Path(os.fsdecode(os.fsencode(network) + b"/\xff.yaml")).touch()
    code, out, err = run("list")
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert lines["bom"].endswith(" With a mark.")
    assert lines["broken"].endswith(" Broken, but with a comment.")
    assert "(cannot be read: No such file or directory)" in lines["dangling"]
    assert "(cannot be read: Is a directory)" in lines["folder"]
    assert lines["mlp"].endswith(lines["mlp"].split(maxsplit=1)[1])
    assert out.isascii() or out.isprintable() or "\x1b" not in out
    assert not set(out) & {"\x1b", "\x00", "\x07"} and not any("\ud800" <= c <= "\udfff" for c in out)
    assert max(map(len, out.splitlines())) < 300


def test_json_has_null_for_what_it_lacks() -> None:
    value = {"a": float("nan"), "b": [float("inf"), (1.5, -float("inf"))], "c": {"d": None, "e": True, "f": "NaN"}}
    assert json.loads(to_json(value)) == {"a": None, "b": [None, [1.5, None]], "c": {"d": None, "e": True, "f": "NaN"}}
    assert to_json({"a": 1}, indent=2) == '{\n  "a": 1\n}'


def test_all_json_that_others_read_is_written_by_one_function() -> None:
    ours = {
        "lit_mtrl/core/tables.py",
        "lit_mtrl/core/manifest.py",
        "lit_mtrl/tracking/queue.py",
        "lit_mtrl/data/tensor_files.py",
    }
    for path in SOURCES:
        if path.relative_to(ROOT).as_posix() in ours:
            continue
        called = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not called & {"dumps", "dump"} or "import json" not in path.read_text(), f"{path}: use tables.to_json"


def test_configurations_of_a_sweep_are_printed_and_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("fit", "--config", "debug", "--multirun", "--print-config", "seed=1", "network.width=8,16")
    assert code == 0 and not list(tmp_path.iterdir())
    documents = out.split("---\n")
    assert [text.splitlines()[0] for text in documents] == [
        "# seed=1 network.width=8",
        "# seed=1 network.width=16",
    ]
    cfgs = list(yaml.safe_load_all(out))
    assert [(cfg["seed"], cfg["network"]["width"]) for cfg in cfgs] == [(1, 8), (1, 16)]
    assert [cfg["run_name"] for cfg in cfgs] == ["sac-multi_head-width=8-s1", "sac-multi_head-width=16-s1"]
    assert all(cfg.keys() >= ROOT_KEYS for cfg in cfgs)


def test_configuration_of_a_sweep_that_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    search = ("hydra/sweeper=optuna", "network.width=8,16")
    code, out, _ = run("fit", "--config", "debug", "--multirun", "--print-config", "seed=3", *search)
    assert code == 0 and yaml.safe_load(out)["seed"] == 3 and out.startswith("# seed=3\n")
    code, out, err = run("fit", "--config", "debug", "--multirun", "--print-config", "seed=3")
    assert (code, out) == (2, "") and "--multirun: give at least one key" in err
    assert not list(tmp_path.iterdir())
