"""The jobs of a sweep: combinations, bounded before they are made, and names that hold no value of the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_mtrl.config.folders import groups
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.runs.jobs import LARGEST, combinations, job_config, job_configs, name_of, plan
from lit_mtrl.runs.summary import log_summary


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["seed=range(1,1000000)"], "seed=range(1,1000000): makes 999,999 runs, and a sweep has 10,000 at most"),
        (["seed=shuffle(range(0,1e12))"], "makes 1,000,000,000,000 runs"),
        (["seed=range(0,200)", "network.depth=range(1,52)"], "makes 10,200 runs"),
        (["seed=range(0,inf)"], "seed=range(0,inf): has no end"),
        (["seed=range(1,5,0)"], "seed=range(1,5,0): its step is zero"),
        (["seed=range(5,1)"], "seed=range(5,1): a range without a value"),
        (["network=glob(x*)"], "network=glob(x*): a range without a value, or a group without such a choice"),
    ],
)
def test_too_many_jobs_or_none(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan(["debug"], overrides)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_ranges_and_patterns() -> None:
    assert combinations(["debug"], ["seed=range(1,4)", "frames=300"]) == [
        [f"seed={i}", "frames=300"] for i in (1, 2, 3)
    ]
    assert combinations(["debug"], ["algo.tau=range(0.25,1,0.25)"]) == [[f"algo.tau={x}"] for x in (0.25, 0.5, 0.75)]
    assert combinations(["debug"], ["network=glob(*)"]) == [[f"network={name}"] for name in groups()["network"]]
    assert len(combinations(["debug"], [f"seed=range(0,{LARGEST})"])) == LARGEST


def test_a_plan_tells_the_overrides_of_runs_from_those_of_hydra() -> None:
    sweep = plan(["debug"], ["hydra/launcher=basic", "seed=0,1", "+hydra.job.x=1", "frames=300"])
    assert sweep.command == "debug hydra/launcher=basic seed=0,1 +hydra.job.x=1 frames=300"
    assert sweep.hydra == ["hydra/launcher=basic", "+hydra.job.x=1"] and sweep.swept == ["seed"]
    assert sweep.jobs == [["seed=0", "frames=300"], ["seed=1", "frames=300"]] and not sweep.searches
    assert not plan(["debug"], ["hydra/sweeper=basic", "seed=0,1"]).searches
    assert plan(["debug"], ["hydra/sweeper=optuna", "seed=0,1", "frames=300"]).jobs == [["frames=300"]]


@pytest.mark.parametrize("name", ["a-${oc.env:SECRET}-s${seed}", "${oc.env:SECRET}-s0"])
def test_names_keep_their_references_to_the_environment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value is in the name of the folder, and in no file."""
    monkeypatch.setenv("SECRET", "hunter2")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(f"run_name: {name}\ndefaults:\n  - debug\n  - override /logger: csv\n")
    cfgs, named = job_configs(plan(["mine.yaml"], ["algo.tau=0.1,0.2"]))
    base = name.removesuffix("-s0").removesuffix("-s${seed}")
    assert [name_of(cfg) for cfg in cfgs] == [name.replace(base, f"{base}-tau={tau}") for tau in (0.1, 0.2)]
    assert named == ["algo.tau"] and "hunter2-tau=0.1" in cfgs[0].output_dir

    class Parent:
        folder = tmp_path

        def log_artifact(self, path: Path) -> None:
            assert "hunter2" not in path.read_text() and base in path.read_text()

    log_summary(Parent(), cfgs)


def test_long_names_with_references_are_refused_instead_of_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x" * 250)
    with pytest.raises(ConfigError, match="a name has 255 at most"):
        job_config(["debug"], ["algo.name=${oc.env:SECRET}", "algo.tau=0.1"], ["algo.tau"])
