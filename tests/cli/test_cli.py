"""The command line: what it answers, and that bad input is one line, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers.command import run
from tests.helpers.processes import environment
from tests.helpers.project import ROOT

HEAVY = {"torch", "lightning", "numpy", "mlflow", "torchrl", "metaworld", "matplotlib"}


@pytest.mark.parametrize(
    ("config", "overrides", "actor", "critic"),
    [
        ("conf/experiment/mt10_mtmhsac.yaml", [], 372_880, 692_820),
        ("mt50_mtmhsac", [], 517_200, 756_900),
        ("mt10_mtmhsac", ["network.width=1024"], 2_232_400, 4_329_492),
        ("mt10_mtmhsac", ["--network.width=256"], 164_944, 295_956),
        ("mt25_mtmhsac", [], 427_000, None),
        ("mt10_mtsac", [], 344_008, 685_602),
        ("mt10_mtmhsac", ["actor.network.width=400", "network.width=1024"], 372_880, 4_329_492),
    ],
)
def test_published_parameter_counts(config: str, overrides: list[str], actor: int, critic: int | None) -> None:
    config = str(ROOT / config) if "/" in config else config
    code, out, _ = run("params", "--config", config, "--json", *overrides)
    counts = json.loads(out)
    assert code == 0
    assert counts["actor"] == actor
    assert critic is None or counts["critic"] == critic


def test_hydra_spelling_is_the_same_as_config() -> None:
    assert run("params", "experiment=mt50_mtmhsac", "--json") == run("params", "--config", "mt50_mtmhsac", "--json")


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """So that it is instant (0.1 s); a test of the time itself would fail on a busy machine."""
    code = "import sys, lit_mtrl.cli.main as c\ntry: c.main(['--help'])\n"
    code += "finally: print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    for command in ("fit", "test", "params", "list", "bench"):
        assert f"\n    {command} " in done.stdout
    loaded = set(ast.literal_eval(done.stderr))
    assert not loaded & {*HEAVY, "hydra", "omegaconf", "yaml"}


@pytest.mark.parametrize("args", [["list"], ["fit", "--print-config"], ["fit", "network.widht=3"]], ids=str)
def test_what_trains_nothing_imports_nothing_heavy(args: list[str], tmp_path: Path) -> None:
    code = f"import sys, lit_mtrl.cli.main as c; c.main({args}); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not set(ast.literal_eval(done.stdout.splitlines()[-1])) & HEAVY


def test_list_names_every_file() -> None:
    _, out, _ = run("list")
    for path in (ROOT / "conf").glob("*/*.yaml"):
        assert path.stem in out


def test_print_config_is_a_config(tmp_path: Path) -> None:
    _, out, _ = run("fit", "--config", "mt10_mtmhsac", "--print-config", "seed=7")
    (tmp_path / "saved.yaml").write_text(out)
    _, again, _ = run("fit", "--config", str(tmp_path / "saved.yaml"), "--print-config")
    assert again == out
    assert yaml.safe_load(out)["seed"] == 7


def test_saved_config_gets_new_folder_with_new_name(tmp_path: Path) -> None:
    _, out, _ = run("fit", "--config", "mt10_mtmhsac", "--print-config")
    (tmp_path / "saved.yaml").write_text(out)
    _, out, _ = run("fit", "--config", str(tmp_path / "saved.yaml"), "--print-config", "run_name=other")
    assert yaml.safe_load(out)["output_dir"] == "outputs/mt10/other"


def test_recorded_runs_can_be_repeated() -> None:
    """Also those from before there was a weighting per objective."""
    for path in (ROOT / "results").rglob("config.yaml"):
        code, out, err = run("fit", "--config", str(path), "run_name=again", "--print-config", "--trust", "results")
        assert code == 0, err
        cfg, saved = yaml.safe_load(out), yaml.safe_load(path.read_text())
        parts = cfg["weighting"]
        assert parts.keys() == {"critic", "actor"} and all(part["name"] for part in parts.values())
        assert all(cfg[key] == saved[key] for key in ("frames", "epoch_frames", "benchmark", "seed"))


def test_own_file_and_order_of_files(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("defaults:\n  - override /network: mlp\nnetwork:\n  width: 33\n")
    _, out, _ = run("fit", "--config", "mt50_mtmhsac", "--config", str(mine), "--print-config", "network.depth=2")
    cfg = yaml.safe_load(out)
    assert cfg["network"]["_target_"] == "lit_mtrl.nets.mlp.MLP"
    assert (cfg["network"]["width"], cfg["network"]["depth"]) == (33, 2)
    assert cfg["benchmark"]["name"] == "mt50"


def test_weightings_by_group_by_objective_and_in_files(tmp_path: Path) -> None:
    def chosen(*args: str) -> tuple[str, str, float | None]:
        code, out, err = run("fit", "--print-config", *args)
        assert code == 0, err
        cfg = yaml.safe_load(out)["weighting"]
        return cfg["critic"]["name"], cfg["actor"]["name"], cfg["critic"].get("c")

    assert chosen() == ("mean", "mean", None)
    assert chosen("weighting=pcgrad") == ("pcgrad", "pcgrad", None)
    assert chosen("weighting.critic=pcgrad", "weighting.actor=mean") == ("pcgrad", "mean", None)
    assert chosen("--weighting.critic=cagrad", "weighting.critic.c=0.25") == ("cagrad", "mean", 0.25)
    assert chosen("weighting=cagrad", "weighting.actor=famo") == ("cagrad", "famo", 0.5)
    assert chosen("weighting@weighting.critic=dwa") == ("dwa", "mean", None)
    assert chosen("--config", "mt10_cagrad") == ("cagrad", "cagrad", 0.9)
    mine = tmp_path / "mine.yaml"
    mine.write_text("defaults:\n  - override /weighting@weighting.critic: cagrad\nweighting:\n  critic:\n    c: 0.3\n")
    assert chosen("--config", str(mine)) == ("cagrad", "mean", 0.3)
    _, out, _ = run("fit", "--config", str(mine), "--print-config")
    (tmp_path / "saved.yaml").write_text(out)
    assert chosen("--config", str(tmp_path / "saved.yaml"), "weighting.critic.c=0.4") == ("cagrad", "mean", 0.4)
    code, _, err = run("fit", "--config", str(tmp_path / "saved.yaml"), "weighting.critic=pcgrad")
    assert code == 2 and "weighting.critic: a saved config.yaml is resolved" in err and err.count("\n") == 1


BAD = {
    "reset without threshold": (
        ["--config", "mt10_paco_published", "algo.mask_out=null", "logger=csv"],
        "algo.mask_out=3e3",
    ),
    "key of a callback": (
        ["--config", "mt10_paco_published", "callbacks.paco_reset.methd=copy"],
        "did you mean 'callbacks.paco_reset.method'",
    ),
    "added key of a callback": (
        ["--config", "mt10_paco_published", "+callbacks.paco_reset.moments=1", "logger=csv"],
        "callbacks.paco_reset.moments: unknown key",
    ),
    "word for a number": (["--config", "debug", "algo.mask_out=abc"], "algo.mask_out=abc: a number above 0"),
    "experiment": (["--config", "mt10_mtmhsca"], "did you mean 'mt10_mtmhsac'"),
    "experiment as override": (["experiment=mt10_mtmhsca"], "did you mean 'mt10_mtmhsac'"),
    "missing file": (["--config", "conf/experiment/quickstrt.yaml"], "did you mean the experiment 'quickstart'"),
    "key": (["network.widht=3"], "did you mean 'network.width'"),
    "dashed key": (["--network.widht=3"], "did you mean 'network.width'"),
    "part key": (["actor.network.widht=3"], "did you mean 'actor.network.width'"),
    "option": (["--confg", "x"], "did you mean '--config'"),
    "no value": (["network.width"], "key=value"),
    "network": (["network=multihead"], "did you mean 'multi_head'"),
    "task": (["benchmark=custom", "benchmark.tasks=[reech]"], "did you mean 'reach'"),
    "task twice": (["benchmark.tasks=[reach,reach]"], "named twice"),
    "benchmark": (["benchmark.tasks=mt11"], "did you mean 'mt10'"),
    "type": (["network.width=wide"], "network.width=wide: a whole number"),
    "fraction": (["network.width=2.5"], "network.width=2.5: a whole number"),
    "flag": (["algo.task_weights=3"], "true or false"),
    "null": (["network.width=null"], "network.width=null"),
    "width": (["network.width=0"], "network.width=0"),
    "depth": (["network.depth=-1"], "network.depth=-1"),
    "b": (["replay.per_task=0"], "replay.per_task=0"),
    "capacity": (["replay.capacity=-5"], "replay.capacity=-5"),
    "K": (["collector.updates_per_step=0"], "collector.updates_per_step=0"),
    "fractional K": (["collector.updates_per_step=0.25"], "collector.updates_per_step=0.25"),
    "steps": (["collector.steps=0"], "collector.steps=0"),
    "steps per epoch": (["collector.steps=7"], "collector.steps=7"),
    "workers": (["collector.workers=99"], "collector.workers=99"),
    "budget": (["frames=0"], "frames=0"),
    "negative budget": (["frames=-100"], "frames=-100"),
    "epoch": (["epoch_frames=123"], "a multiple of 5000"),
    "budget in epochs": (["frames=300_000"], "frames=300000"),
    "copies": (["collector.copies=0"], "collector.copies=0"),
    "horizon": (["env.horizon=501"], "env.horizon=501"),
    "goals": (["env.goals=0"], "env.goals=0"),
    "rewards": (["env.rewards=v3"], "env.rewards=v3"),
    "weighting": (["weighting=pcgrd"], "weighting=pcgrd: unknown; did you mean 'pcgrad'"),
    "weighting of one objective": (
        ["weighting.critic=cagrd"],
        "weighting.critic=cagrd: unknown; did you mean 'cagrad'",
    ),
    "weighting of nothing": (["weighting.crtic=mean"], "did you mean 'weighting.critic'"),
    "no weighting": (["weighting.actor=null"], "weighting.actor=None: unknown; choose one of"),
    "option of another weighting": (
        ["weighting=cagrad", "weighting.actor=mean", "weighting.actor.c=0.1"],
        "weighting.actor.c",
    ),
    "c": (
        ["weighting.critic=cagrad", "weighting.critic.c=1"],
        "weighting.critic.c=1: a number from 0 to below 1 is needed",
    ),
    "reduction": (
        ["weighting=pcgrad", "weighting.actor.reduction=sun"],
        "weighting.actor.reduction=sun: unknown; did you mean 'sum'",
    ),
    "weighting of an experiment": (
        ["--config", "mt10_cagrad", "weighting=mean"],
        "weighting.critic.c: set by the experiment",
    ),
    "several weightings": (["weighting=mean,pcgrad"], "weighting=mean,pcgrad: several values; add --multirun"),
    "added option": (["+weighting.critic.foo=1", "logger=csv"], "weighting.critic.foo: unknown key"),
    "gradients": (["callbacks.gradients.batches=0", "logger=csv"], "callbacks.gradients.batches=0"),
    "gamma": (["algo.gamma=1"], "algo.gamma=1"),
    "lr": (["algo.critic_lr=-1"], "algo.critic_lr=-1"),
    "norm": (["algo.max_grad_norm=0"], "algo.max_grad_norm=0"),
    "temperature": (["algo.initial_temperature=0"], "algo.initial_temperature=0"),
    "engine": (["engine.mode=egaer"], "engine.mode=egaer"),
    "episodes": (["eval.episodes=0"], "eval.episodes=0"),
    "protocol": (["eval.protocol=offcial"], "did you mean 'official'"),
    "log frames": (["logger.log_frames=0"], "logger.log_frames=0"),
    "size": (["critic.size=0"], "critic.size=0"),
    "resume": (["--resume", "nowhere"], "nowhere"),
    "accelerator": (["trainer.accelerator=tpv"], "trainer"),
    "file store": (["logger.tracking_uri=file:./mlruns"], "logger.tracking_uri"),
    "multirun without values": (["--multirun", "seed=1"], "--multirun"),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_input(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args, said = BAD[case]
    monkeypatch.chdir(tmp_path)
    code, out, err = run("fit", *args)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("- a\n- b\n", "must hold a mapping"),
        ("just words", "must hold a mapping"),
        ("a: [1\n", "not readable as YAML"),
        ("network:\n  widht: 3\n", "did you mean 'network.width'"),
        ("sed: 3\n", "did you mean 'seed'"),
        ("weighting:\n  critic: pcgrad\n", "weighting.critic=pcgrad: has keys of its own"),
        ("defaults:\n  - override /weighting: pcgrad\n", "weighting"),
    ],
)
def test_bad_config_files(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    code, _, err = run("fit", "--config", str(file), "--print-config")
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_bad_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "x.ckpt"
    file.write_bytes(b"not a checkpoint")
    code, _, err = run("test", "--ckpt", str(file))
    assert code == 2 and "truncated" in err and err.count("\n") == 1
    code, _, err = run("test", "--ckpt", str(tmp_path / "none.ckpt"))
    assert code == 2 and "no such file" in err


@pytest.mark.parametrize("name", ["LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", "NODE_RANK"])
@pytest.mark.parametrize("value", ["x", "", "-1", "²"])
def test_ranks_that_are_no_numbers(name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    code, out, err = run("fit", "--config", "debug")
    assert (code, out) == (2, "") and not list(tmp_path.iterdir())
    assert err == f"error: {name}={value}: is a whole number where torchrun or SLURM sets it; unset it\n"


@pytest.mark.parametrize("value", ["garbage", "[]", '{"debug": 5}', "[" * 100_000])
def test_runs_of_sweeps_that_no_sweep_has_set(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIT_MTRL_PARENT_RUNS", value)
    code, _, err = run("fit", "--config", "debug", "logger=mlflow")
    assert code == 2 and err.count("\n") == 1 and not list(tmp_path.iterdir())
    assert err.startswith("error: LIT_MTRL_PARENT_RUNS=") and "is not what a sweep sets for its jobs; unset it" in err


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run("fit", "--config", "debug", f"output_dir={tmp_path}/file/run")
    assert code == 2 and "output_dir=" in err
