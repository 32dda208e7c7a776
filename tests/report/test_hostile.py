"""Run folders that anyone may have written: one line that names the file, or a report in which nothing is taken for
more than text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from lit_mtrl.config.read import BYTES
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.text import one_line
from lit_mtrl.report import default_folder, read_folders, write_report
from lit_mtrl.report.files import MOST
from lit_mtrl.report.runs import read_folder
from tests.helpers.pages import Page
from tests.helpers.run_folders import write_run

TWO = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
HEAD = "frames,task,success,return,length\n"
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30))
Change = Callable[[Path], object]


def write(name: str, content: str | bytes) -> Change:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def rows(*lines: str) -> Change:
    """Evaluations with these rows after two good ones of tasks a and b."""
    return write("eval.csv", HEAD + "100,a,0.5,1,1\n100,b,0.5,1,1\n" + "".join(f"{line}\n" for line in lines))


def config(**values: Any) -> Change:
    def change(folder: Path) -> None:
        settings = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(yaml.safe_dump({**settings, **values}))

    return change


def extra(value: Any) -> Change:
    return write("run.json", json.dumps(value))


def folder_named(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return change


REFUSED: dict[str, tuple[str, Change]] = {
    "bomb": ("config.yaml", write("config.yaml", BOMB)),
    "reference to itself": ("config.yaml", write("config.yaml", "a: &a [*a]\n")),
    "huge": ("config.yaml", write("config.yaml", "a: 1\n" * (BYTES // 5 + 1))),
    "deep": ("config.yaml", write("config.yaml", "[" * 5000)),
    "code": ("config.yaml", write("config.yaml", "a: !!python/object/apply:os.system [true]\n")),
    "no text": ("config.yaml", write("config.yaml", b"\xff\xfe\x00a")),
    "long text": ("config.yaml", config(run_name="x" * 3000)),
    "huge number": ("config.yaml", write("config.yaml", "seed: 0x" + "f" * 4000 + "\n")),
    "date": ("config.yaml", write("config.yaml", "seed: 2001-99-99\n")),
    "frames": ("config.yaml", config(frames="many")),
    "frames nan": ("config.yaml", config(frames=float("nan"))),
    "frames infinite": ("config.yaml", config(frames=float("inf"))),
    "frames list": ("config.yaml", config(frames=[1])),
    "frames negative": ("config.yaml", config(frames=-5)),
    "frames too many": ("config.yaml", config(frames=MOST + 1)),
    "network": ("config.yaml", config(network="mlp")),
    "env": ("config.yaml", config(env=[1, 2])),
    "algo": ("config.yaml", config(algo=5)),
    "callbacks": ("config.yaml", config(callbacks=7)),
    "weighting": ("config.yaml", config(weighting="mean")),
    "benchmark": ("config.yaml", config(benchmark="mt10")),
    "folder for configuration": ("config.yaml", folder_named("config.yaml")),
    "json list": ("run.json", extra([1, 2])),
    "json number": ("run.json", extra(3)),
    "json deep": ("run.json", write("run.json", "[" * 100_000)),
    "json twice": ("run.json", write("run.json", "{} {}")),
    "tags": ("run.json", extra({"tags": ["a"]})),
    "parameters": ("run.json", extra({"parameters": [1]})),
    "count text": ("run.json", extra({"parameters": {"actor": "12"}})),
    "count nan": ("run.json", extra({"parameters": {"actor": float("nan")}})),
    "count negative": ("run.json", extra({"parameters": {"critic": -1}})),
    "count flag": ("run.json", extra({"parameters": {"critic": True}})),
    "json folder": ("run.json", folder_named("run.json")),
    "success nan": ("eval.csv", rows("200,a,nan,1,1", "200,b,0.1,1,1", "300,a,0.1,1,1", "300,b,0.1,1,1")),
    "success infinite": ("eval.csv", rows("200,a,inf,1,1", "200,b,0.1,1,1")),
    "success large": ("eval.csv", rows("200,a,7,1,1", "200,b,0.1,1,1")),
    "success text": ("eval.csv", rows("200,a,good,1,1")),
    "eval frames negative": ("eval.csv", rows("-200,a,0.1,1,1")),
    "eval frames fraction": ("eval.csv", rows("200.5,a,0.1,1,1")),
    "eval frames huge": ("eval.csv", rows("99999999999999999999,a,0.1,1,1")),
    "eval frames infinite": ("eval.csv", rows("inf,a,0.1,1,1")),
    "eval frames nan": ("eval.csv", rows("nan,a,0.1,1,1")),
    "task empty": ("eval.csv", rows("200,,0.1,1,1")),
    "task long": ("eval.csv", rows(f"200,{'t' * 3000},0.1,1,1")),
    "many tasks": ("eval.csv", rows(*(f"200,t{i},0.1,1,1" for i in range(600)))),
    "quote": ("eval.csv", rows('200,"a,0.1,1,1')),
    "eval binary": ("eval.csv", write("eval.csv", b"\xff\xfe\n\x00\n\n")),
    "eval folder": ("eval.csv", folder_named("eval.csv")),
    "metrics text": ("metrics.csv", write("metrics.csv", "frames,time/total\n1,slow\n")),
    "metrics columns": ("metrics.csv", write("metrics.csv", "step,time/total\n1,2\n")),
    "metrics frames": ("metrics.csv", write("metrics.csv", "frames,time/total\n-1,2\n")),
    "metrics folder": ("metrics.csv", folder_named("metrics.csv")),
    "plasticity columns": ("plasticity.csv", write("plasticity.csv", "frames,srank\n1,2\n")),
    "plasticity text": ("plasticity.csv", write("plasticity.csv", "frames,net,layer,srank\n1,actor,total,x\n")),
    "plasticity nets": ("plasticity.csv", write("plasticity.csv", "frames,net,layer,srank\n1,,total,2\n")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_line_that_names_the_file(case: str, tmp_path: Path) -> None:
    file, change = REFUSED[case]
    folder = write_run(tmp_path / "a", TWO, extra={}, plasticity=True)
    change(folder)
    with pytest.raises(ConfigError) as error:
        read_folder(folder)
    assert str(error.value).startswith(f"{folder / file}: ") and "\n" not in str(error.value)
    assert len(str(error.value)) < 600


EVIL = "</title><script>alert(1)</script>"
RENDERED: dict[str, dict[str, Any]] = {
    "html": {"run_name": EVIL, "extra": {"tags": {"method": EVIL, "git_commit": EVIL}}},
    "all at once": {
        "run_name": f"=../../{EVIL}\x1b",
        "extra": {"tags": {"method": f"@../m\x00{EVIL}", "benchmark": f"../../b\n\ud800/{EVIL}"}},
    },
    "climbing": {"run_name": "../../../up", "extra": {"tags": {"method": "../../m", "benchmark": "../../../b"}}},
    "dots": {"run_name": "..", "extra": {"tags": {"benchmark": ".."}}},
    "control": {
        "run_name": "a\x1b[31m\x00\x07b",
        "extra": {"tags": {"method": "m\x1b]0;x\x07", "benchmark": "b\x00\n"}},
    },
    "surrogate": {"extra": {"tags": {"method": "m\ud800", "benchmark": "\udfff"}}},
    "script": {"run_name": "日本", "extra": {"tags": {"method": "日本語 $x_", "benchmark": "ünï/日本"}}},
    "long": {"extra": {"tags": {"method": "m" * 1900, "benchmark": "漢" * 1900}}},
    "formula": {"run_name": "=cmd|'/c calc'!A0", "extra": {"tags": {"method": "@SUM(1)"}}},
    "types": {
        "seed": [1],
        "network__width": "wide",
        "critic__network": {"width": -3},
        "extra": {"tags": {"frames": "x"}},
    },
    "numbers": {"network__width": float("inf"), "seed": 2**62, "extra": {"parameters": {"actor": MOST, "critic": 1}}},
    "nothing": {"algo": None, "network": None, "weighting": None, "benchmark": None, "extra": {"tags": None}},
    "config": {"critic": 3, "actor": "x", "collector": [1], "eval": None, "callbacks": {"x": 1}},
}


@pytest.mark.parametrize(
    "case", [case if case == "all at once" else pytest.param(case, marks=pytest.mark.slow) for case in RENDERED]
)
def test_shown_as_text(case: str, tmp_path: Path) -> None:
    above = tmp_path / "above"
    for number in range(2):  # of two benchmarks, so that names of files are made of them
        options = {"seed": 0, **RENDERED[case]}
        if number:
            options["env__horizon"] = 150
            options["extra"] = {"tags": {**(options.get("extra", {}).get("tags") or {}), "benchmark": "other"}}
        write_run(above / "runs" / f"r{number}", TWO, **options)
    page = write_report(
        read_folders([above / "runs"]), above / "reports" / "out", title=f"{EVIL}\x1b", mixed_protocols=True
    )
    assert {path.name for path in above.iterdir()} == {"runs", "reports"}
    assert {path.name for path in (above / "reports").iterdir()} == {"out"}
    assert {path.name for path in (above / "reports" / "out").iterdir()} == {"figures", "tables", "index.html"}
    text = Page(page.read_text())
    assert "script" not in text.tags
    written = [
        path.read_text() for path in (above / "reports").rglob("*") if path.suffix in (".html", ".svg", ".csv", ".md")
    ]
    assert not any(c in content for content in written for c in "\x00\x07\x1b")
    for name in ("summary", "runs", "per_task"):
        cells = pd.read_csv(page.parent / "tables" / f"{name}.csv", dtype=str).fillna("").to_numpy().ravel()
        assert not any(cell.startswith(("=", "@", "+")) for cell in cells)


@pytest.mark.parametrize("names", [["../../x"], [".."], ["/etc"], ["a/b", "c"], ["."], [""], ["x" * 500], ["\x00"]])
def test_the_default_folder_is_below_reports(names: list[str], tmp_path: Path) -> None:
    folder = default_folder(names)
    assert folder.parent == Path("reports") and folder.name not in ("", ".", "..") and len(folder.name.encode()) < 255
    (tmp_path / folder).mkdir(parents=True)


def test_escapes_tell_texts_apart() -> None:
    assert one_line("a\nb\x1b\ud800 é日") == "a\\nb\\x1b\\ud800 é日"
    assert one_line("a\x01") != one_line("a\x02")


def test_metrics_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", TWO)
    (folder / "metrics.csv").write_text("frames,time/total,norm/actor/grad\n1,2,inf\n2,nan,-inf\n3,,5\n")
    metrics = read_folder(folder).metrics
    assert [list(x) for x in metrics["time/total"]] == [[1], [2]]
    assert [list(x) for x in metrics["norm/actor/grad"]] == [[3], [5]]
