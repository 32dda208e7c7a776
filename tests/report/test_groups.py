"""Which runs count, how they are grouped, and what is refused or said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.report.groups import Plan, choose, natural, plan
from lit_mtrl.report.runs import Recorded, read_folder, read_folders
from tests.helpers.run_folders import write_run

TWO = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]


@pytest.fixture
def run(tmp_path: Path):
    """``run(name, key=value)`` writes and reads one."""

    def make(name: str, success: Any = TWO, **options: Any) -> Recorded:
        return read_folder(write_run(tmp_path / name, success, **options))

    return make


def groups(made: Plan) -> dict[str, list[str]]:
    return {group.label: [run.name for run in group.runs] for panel in made.panels for group in panel.groups}


def test_automatic_keys(run) -> None:
    """Seeds, circumstances and keys that follow from others make no group; numbers are in order."""
    runs = [
        run(
            f"w{width}s{seed}",
            seed=seed,
            network__width=width,
            algo__tau=width / 1e5,
            collector__workers=seed + 1,
            trainer__threads=seed,
        )
        for width in (256, 1024, 64)
        for seed in (0, 1)
    ]
    made = plan(runs)
    assert made.keys == ["method", "algo.tau"]  # the first of the two in the configuration's order
    for each in runs:
        del each.labels["algo.tau"]
    made = plan(runs)
    assert made.keys == ["method", "network.width"]
    assert groups(made) == {f"network.width={w}": [f"w{w}s0", f"w{w}s1"] for w in (64, 256, 1024)}
    assert made.warnings == made.notes == []


def test_labels_name_the_method_where_it_differs(run) -> None:
    one = [run("a", seed=0), run("b", seed=1)]
    assert list(groups(plan(one))) == ["sac-multi_head"]
    two = [*one, run("c", network__name="mlp", network__experts=4)]
    assert groups(plan(two)) == {"sac-mlp": ["c"], "sac-multi_head": ["a", "b"]}
    experts = [
        *two,
        run("e", network__name="mlp", network__experts=8),
        run("f", network__name="mlp", network__experts=8, seed=1),
    ]
    assert groups(plan(experts)) == {
        "sac-mlp, network.experts=4": ["c"],
        "sac-mlp, network.experts=8": ["e", "f"],
        "sac-multi_head": ["a", "b"],
    }
    older = [*experts, run("g", network__name="mlp")]
    assert groups(plan(older))["sac-mlp"] == ["c", "e", "g", "f"]
    assert plan(older).warnings[-1].endswith("sac-mlp pools runs that differ in network.experts.")
    three = [*two, run("d", weighting__actor__name="famo")]
    assert list(groups(plan(three)))[-1] == "sac-multi_head, weighting=mean"
    assert "sac-multi_head, weighting: critic=mean actor=famo" in groups(plan(three))


def test_benchmarks_have_panels_of_their_own(run) -> None:
    runs = [run("a"), run("b", [[0.0], [1.0]], tasks=["reach"]), run("c", seed=1, network__width=128)]
    made = plan(runs)
    assert [(panel.benchmark, [g.label for g in panel.groups]) for panel in made.panels] == [
        ("mt1-reach", ["network.width=64"]),
        ("mt3-reach+push+pick-place", ["network.width=64", "network.width=128"]),
    ]
    assert made.labels == ["network.width=64", "network.width=128"]


@pytest.mark.parametrize(
    ("key", "option"),
    [
        ("horizon", {"env__horizon": 150}),
        ("rewards", {"env__rewards": "v1"}),
        ("goals", {"env__goals": 1}),
        ("eval.protocol", {"eval__protocol": "x"}),
    ],
)
def test_a_group_of_several_protocols_is_refused(key: str, option: dict, run) -> None:
    runs = [run("a"), run("b", seed=1, **option)]
    with pytest.raises(ConfigError) as error:
        plan(runs, ["method"])
    assert f"group sac-multi_head: its runs differ in {key} (" in str(error.value)
    assert f"--group method,{key}" in str(error.value) and "--mixed-protocols" in str(error.value)
    made = plan(runs, ["method"], mixed_protocols=True)
    assert groups(made) == {"sac-multi_head": ["a", "b"]}
    assert made.warnings[0].startswith("Mixed protocols: group sac-multi_head")
    separate = plan(runs)
    assert len(separate.panels[0].groups) == 2
    assert any(f"groups differ in {key}" in line for line in separate.warnings)


def test_benchmarks_in_one_group_are_refused_and_never_averaged(run) -> None:
    runs = [run("a"), run("b", [[0.0], [1.0]], tasks=["reach"], seed=1)]
    with pytest.raises(ConfigError, match="its runs differ in benchmark"):
        plan(runs, ["method"])
    assert len(plan(runs, ["method"], mixed_protocols=True).panels) == 2


def test_unknown_keys(run) -> None:
    runs = [run("a")]
    with pytest.raises(ConfigError, match=r"--group netwrk.width: unknown key; did you mean 'network.width'"):
        plan(runs, ["netwrk.width"])
    with pytest.raises(ConfigError, match=r"--where widht: unknown key; did you mean 'network.width'"):
        choose(runs, {"widht": "64"})


def test_where(run) -> None:
    runs = [run("a"), run("b", network__width=128, algo__mask_out=0.5), run("c", network__skip=True)]
    assert [each.name for each in choose(runs, {"network.width": "64"})] == ["a", "c"]
    assert [each.name for each in choose(runs, {"algo.mask_out": "null", "network.skip": "false"})] == ["a"]
    with pytest.raises(ConfigError, match=r"--where network.width=65: no such run; there are 64, 128"):
        choose(runs, {"network.width": "65"})


def test_only_finished_runs_count(run) -> None:
    runs = [run("a"), run("b", TWO[:1], at=[1000], seed=1)]
    assert groups(plan(runs)) == {"sac-multi_head": ["a"]}
    made = plan(runs, unfinished=True)
    assert groups(made) == {"sac-multi_head": ["a", "b"]}
    assert made.panels[0].frames == 1000
    assert "runs end at different frames, up to 2,000; ends are compared at 1,000" in made.notes[0]
    assert any("evaluated at different frames" in note for note in made.notes)
    with pytest.raises(ConfigError, match=r"no finished run.*b unfinished at 1,000 of 2,000 frames.*--unfinished"):
        plan(runs[1:])


def test_the_latest_of_repetitions_counts(run) -> None:
    runs = [run("a", seed=0), run("b", seed=0), run("c", seed=1)]
    for each, time in zip(runs, (20.0, 10.0, 5.0), strict=True):
        each.time = time
    made = plan(runs)
    assert groups(made) == {"sac-multi_head": ["a", "c"]}
    assert [each.name for each in made.superseded] == ["b"]
    runs[0].status = "running"
    assert [each.name for each in plan(runs, unfinished=True).superseded] == ["a"]


def test_runs_of_one_seed_that_are_no_repetitions(run) -> None:
    """Another budget: both count, and that is said; another protocol of evaluation: another group."""
    made = plan([run("a"), run("b", TWO[:1], at=[1000], frames=1000)])
    assert groups(made) == {"sac-multi_head": ["a", "b"]} and made.superseded == []
    assert any("has several runs of a seed" in line for line in made.warnings)
    assert len(groups(plan([run("c"), run("d", eval__protocol="official")]))) == 2


def test_seeds_are_compared_and_single_ones_named(run) -> None:
    runs = [run("a", seed=0), run("b", seed=1), run("c", seed=0, network__width=128)]
    made = plan(runs)
    assert made.notes == ["mt3-reach+push+pick-place: groups have different seeds: network.width=128 lacks 1."]
    assert made.warnings == ["mt3-reach+push+pick-place: one seed, so no interval can be given, for network.width=128."]


def test_what_a_group_pools_is_said(run) -> None:
    made = plan([run("a"), run("b", seed=1, network__width=128)], ["method"])
    assert made.warnings == ["mt3-reach+push+pick-place: sac-multi_head pools runs that differ in network.width."]


def test_natural_order() -> None:
    values = ["w10", "w9", 2, "10", None, "a"]
    assert sorted(values, key=natural) == [2, "10", "a", None, "w9", "w10"]


def test_a_callback_that_steps_in_makes_a_group_of_its_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a", TWO, seed=0, callbacks__plasticity__delta=0.01)
    write_run(tmp_path / "b", TWO, seed=0, callbacks__plasticity__delta=0.02)
    write_run(tmp_path / "c", TWO, seed=0, callbacks__paco_reset__method="interpolate")
    made = plan(read_folders([tmp_path]))
    assert [(group.label, len(group.runs)) for group in made.panels[0].groups] == [
        ("callbacks=none", 1),
        ("callbacks=paco_reset", 1),
    ]
    assert len(made.superseded) == 1  # what only watches makes no difference
