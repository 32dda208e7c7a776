"""Every file of ``conf/`` composes, instantiates, and describes itself; the default recipe is the paper's, number for number."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lit_mtrl.build import Run, plain
from lit_mtrl.compose import compose, groups
from tests.conftest import ROOT

CHOICES = [(g, n) for g, names in groups().items() if g != "experiment" for n in names]


@pytest.mark.parametrize("name", groups()["experiment"])
def test_every_experiment_builds(name: str, tmp_path: Path) -> None:
    run = Run(compose([name], ["logger=csv", f"output_dir={tmp_path}/run", "network.width=8"]))
    assert run.data.epochs >= 1
    assert len(run.agent.tasks) == run.agent.algorithm.num_tasks
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=lambda x: x)
def test_every_choice_builds(group: str, name: str, tmp_path: Path) -> None:
    logger = [] if group == "logger" else ["logger=csv"]
    cfg = compose(
        ["debug"], [f"{group}={name}", *logger, f"output_dir={tmp_path}/run", "frames=150_000", "epoch_frames=75_000"]
    )
    Run(cfg)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "conf").glob("*/*.yaml")), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_file_says_what_it_is(path: Path) -> None:
    comments = [line for line in path.read_text().splitlines() if line.startswith("#") and "@package" not in line]
    assert comments and len(comments[0]) > 10


def test_groups_and_keys_of_the_contract() -> None:
    contract = (
        "algo network critic weighting benchmark env collector replay engine trainer eval callbacks logger experiment"
    )
    assert set(groups()) == set(contract.split())
    keys = {"seed", "frames", "epoch_frames", "experiment_name", "run_name", "output_dir"}
    assert keys < set(compose([], []))


def test_default_recipe_is_mclean(tmp_path: Path) -> None:
    cfg = plain(compose(["mt10_mtmhsac"], []))
    algo = {k: v for k, v in cfg["algo"].items() if k not in ("_target_", "name")}
    assert algo == {
        "gamma": 0.99,
        "tau": 0.005,
        "actor_lr": 3e-4,
        "critic_lr": 3e-4,
        "temperature_lr": 3e-4,
        "adam_eps": 1e-5,
        "max_grad_norm": 1.0,
        "initial_temperature": 1.0,
        "target_entropy": None,
        "shared_temperature": False,
        "task_weights": False,
    }
    assert cfg["replay"] == {"capacity": 100_000, "per_task": 128}
    assert cfg["collector"]["random_steps"] == 4000 and cfg["collector"]["updates_per_step"] == 1
    assert {k: cfg["env"][k] for k in ("horizon", "goals", "rewards", "copies")} == {
        "horizon": 500,
        "goals": 50,
        "rewards": "v2",
        "copies": 1,
    }
    assert (cfg["network"]["width"], cfg["network"]["depth"], cfg["frames"]) == (400, 3, 20_000_000)
    assert cfg["eval"]["episodes"] == 50
    agent = Run(compose(["mt10_mtmhsac"], ["logger=csv", f"output_dir={tmp_path}"])).agent
    assert agent.algorithm.target_entropy == -4.0


def test_seed_reaches_initialisation(tmp_path: Path) -> None:
    def weights(seed: int) -> torch.Tensor:
        run = Run(compose(["debug"], [f"seed={seed}", f"output_dir={tmp_path}"]))
        return torch.cat([p.detach().flatten() for p in run.agent.algorithm.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
