"""Studies: what their comments promise is what they launch. Published numbers: readable, in range, and the papers'."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from lit_mtrl.config.compose import compose
from lit_mtrl.config.folders import groups
from lit_mtrl.config.study import split_experiment
from lit_mtrl.runs.jobs import combinations
from lit_mtrl.runs.match import composed
from tests.helpers.project import ROOT

FOLDER = ROOT / "conf/experiment/study"
STUDIES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
PUBLISHED = ROOT / "lit_mtrl/report/published"
PAPERS = sorted(PUBLISHED.glob("*.csv"))
UNITS = {"k": 1_000, "M": 1_000_000}
COLUMNS = "benchmark method width parameters horizon rewards goals frames metric value low high seeds source".split()


def content(name: str) -> dict:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def promised(name: str) -> dict[int, int]:
    """Frames to number of runs, as the file's comment has it."""
    found = re.findall(r"\b(\d+) runs of ([\d.]+)([kM])", (FOLDER / f"{name}.yaml").read_text())
    return {round(float(size) * UNITS[unit]): int(runs) for runs, size, unit in found}


def whole(name: str) -> str:
    """The study of which it is a part: that whose name it begins with, itself in most cases."""
    return next(study for study in STUDIES if name == study or name.startswith(f"{study}_"))


@pytest.mark.parametrize("name", STUDIES)
def test_number_of_runs_is_the_comments(name: str) -> None:
    jobs = combinations([f"study/{name}"], [])
    assert len(jobs) == len({tuple(job) for job in jobs}) == sum(promised(name).values())
    params = content(name)["hydra"]["sweeper"]["params"]
    parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    assert all(override.is_choice_sweep() for override in parsed)
    assert prod(len(list(override.sweep_iterator())) for override in parsed) == len(jobs)


@pytest.mark.parametrize("name", STUDIES)
def test_swept_values_name_the_run(name: str) -> None:
    file = content(name)
    swept = set(file["hydra"]["sweeper"]["params"]) - {"seed"}
    if "experiment" in swept:  # whose run_names differ: tests/conf/test_conf.py
        assert swept == {"experiment"} and "run_name" not in file
        chosen = {job[0].removeprefix("experiment=") for job in combinations([f"study/{name}"], ["seed=0"])}
        assert chosen <= set(groups()["experiment"])
        assert "${benchmark.name}" in file["experiment_name"]
    elif "run_name" in file:  # else the sweep appends the values
        named = set(re.findall(r"\$\{[\w.]+\}", f"{file['experiment_name']} {file['run_name']}"))
        assert {f"${{{key}{'.name' if key in ('network', 'benchmark') else ''}}}" for key in swept} <= named


@pytest.mark.parametrize("name", STUDIES)
def test_last_combination_composes(name: str) -> None:
    configs, overrides = split_experiment([f"study/{name}"], combinations([f"study/{name}"], [])[-1])
    cfg = compose(configs, overrides)
    assert cfg.frames in promised(name)
    assert cfg.frames % cfg.epoch_frames == 0
    assert cfg.experiment_name in (f"{whole(name)}_{cfg.benchmark.name}", f"study_{name}")
    assert cfg.output_dir == f"outputs/{cfg.experiment_name}/{cfg.run_name}"


def test_parts_of_a_study_share_an_experiment_and_no_others_do() -> None:
    names = {whole(name): content(whole(name))["experiment_name"] for name in STUDIES}
    assert len(set(names.values())) == len(names)
    assert all(content(name)["experiment_name"] == names[whole(name)] for name in STUDIES)
    assert {"matched_size": 3, "depth4": 3, "actor_critic_split": 2} == {
        study: parts for study in names if (parts := [whole(name) for name in STUDIES].count(study)) > 1
    }
    assert not {name.split("_$")[0] for name in names.values()} & {"mt1", "mt10", "mt25", "mt50", "quickstart", "debug"}


def test_a_sweep_over_benchmarks_has_their_budgets() -> None:
    jobs = combinations(["study/parameter_scaling"], ["seed=3", "network.width=256"])
    cfgs = [compose(["study/parameter_scaling"], job) for job in jobs]
    assert [(cfg.benchmark.name, cfg.frames, cfg.epoch_frames) for cfg in cfgs] == [
        ("mt10", 20_000_000, 200_000),
        ("mt25", 50_000_000, 1_000_000),
        ("mt50", 100_000_000, 1_000_000),
    ]
    assert [cfg.output_dir for cfg in cfgs] == [
        f"outputs/parameter_scaling_{name}/sac-multi_head-w256-s3" for name in ("mt10", "mt25", "mt50")
    ]


@pytest.mark.slow
def test_every_combination_has_a_folder_and_the_frames_of_the_comment() -> None:
    folders: list[str] = []
    for name in set(STUDIES) - {"quickstart"}:  # whose runs the sweep names
        seeds = content(name)["hydra"]["sweeper"]["params"]["seed"].count(",") + 1
        jobs = combinations([f"study/{name}"], ["seed=3"])
        cfgs = [composed(*split_experiment([f"study/{name}"], job)) for job in jobs]
        folders += [cfg.output_dir for cfg in cfgs]
        frames = [cfg.frames for cfg in cfgs]
        assert {size: frames.count(size) * seeds for size in set(frames)} == promised(name), name
    assert len(set(folders)) == len(folders)


def test_paco_variants_differ_from_the_published_in_what_they_say() -> None:
    def recipe(name: str) -> dict:
        cfg = compose([name], [])
        reset = "paco_reset" in cfg.callbacks
        network = {**cfg.network, "critic": cfg.critic.network.get("composition")}
        rest = [cfg.env, cfg.actor, cfg.collector, cfg.replay, cfg.frames, cfg.epoch_frames]
        return {"network": network, "algo": dict(cfg.algo), "reset": reset, "rest": [str(part) for part in rest]}

    def difference(name: str) -> dict:
        other = recipe(name)
        out = {key: other["network"][key] for key in other["network"] if other["network"][key] != own["network"][key]}
        out |= {key: other["algo"][key] for key in other["algo"] if other["algo"][key] != own["algo"][key]}
        assert other["rest"] == own["rest"]
        return out if other["reset"] else {**out, "reset": False}

    own = recipe("mt10_paco_published")
    assert own["reset"] and own["algo"]["mask_out"] == 3e3
    assert difference("mt10_paco_vanilla") == {"mask_out": None, "reset": False}
    assert difference("mt10_paco_maskout") == {"reset": False}
    assert difference("mt10_paco_actor_only") == {"critic": "none"}


def test_docs_list_every_study() -> None:
    text = (ROOT / "docs/studies.md").read_text()
    rows = {
        row[0].strip("` "): row for line in text.splitlines() if (row := line.strip("|").split("|"))[0].startswith(" `")
    }
    assert sorted(rows) == STUDIES
    for name, row in rows.items():
        assert int(row[3]) == sum(promised(name).values()), name
        sizes = {round(float(size) * UNITS[unit]) for size, unit in re.findall(r"([\d.]+)([kM])\b", row[4])}
        assert sizes == set(promised(name)), name


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_published_numbers_are_complete(path: Path) -> None:
    table = pd.read_csv(path)
    assert list(table) == COLUMNS
    assert len(table) > 10
    needed = "benchmark method horizon rewards goals frames metric value source".split()
    assert table[needed].notna().all().all()
    assert set(table.benchmark) <= {"mt10", "mt25", "mt50"}
    assert set(table.metric) <= {"success", "dormant_critic_0"}
    assert table.value.between(0, table.metric.map({"success": 1, "dormant_critic_0": 100})).all()
    assert (table.low.isna() == table.high.isna()).all()
    banded = table[table.low.notna()]
    assert ((banded.low <= banded.value) & (banded.value <= banded.high)).all()
    same = ["benchmark", "method", "width", "horizon", "frames", "metric"]
    assert not table.duplicated(same).any()
    assert table.horizon.between(100, 500).all() and (table.frames > 0).all()
    assert path.name in (PUBLISHED / "README.md").read_text()


def published(paper: str, **where: object) -> pd.DataFrame:
    table = pd.read_csv(PUBLISHED / f"{paper}.csv")
    for key, value in where.items():
        table = table[table[key] == value]
    return table


def test_published_numbers_are_the_papers() -> None:
    own = {"method": "MTMHSAC", "metric": "success", "benchmark": "mt10"}
    final = published("mclean2025", **own, frames=20_000_000).set_index("width").value
    assert final.round(3).to_dict() == {
        256: 0.743, 400: 0.748, 512: 0.841, 550: 0.857, 800: 0.875, 885: 0.869, 1024: 0.870, 2048: 0.922, 4096: 0.937
    }  # fmt: skip
    dormant = published("mclean2025", metric="dormant_critic_0", benchmark="mt50", frames=100_000_000)
    assert dormant.set_index("width").value.round(1).to_dict() == {256: 0.6, 512: 0.4, 1024: 0.5, 2048: 1.9, 4096: 12.1}
    sun = published("sun2022", method="PaCo").iloc[0]
    assert (sun.value, sun.low, sun.high, sun.horizon) == (0.854, 0.809, 0.899, 150)
    assert published("nauman2025", method="BRC").value.iloc[-1] == 0.8812
    assert published("joshi2025", method="MH-MOORE", benchmark="mt50").value.item() == 0.7946


def test_curves_end_at_the_final_values() -> None:
    """The curves are recovered from drawings, the final values read from labels: two ways to the same number."""
    table = published("mclean2025", method="MTMHSAC", metric="success")
    curves = {key: rows for key, rows in table.groupby(["benchmark", "width"]) if len(rows) > 5}
    assert len(curves) == 10
    for key, rows in curves.items():
        final, last = rows.sort_values("frames").value.iloc[[-1, -2]]
        merged = key in {("mt10", 256), ("mt50", 256), ("mt50", 512), ("mt50", 4096), ("mt10", 4096)}
        assert abs(final - last) < (0.01 if merged else 2e-4), key
