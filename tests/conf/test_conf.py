"""Every file of ``conf/`` composes, instantiates, and describes itself; the numbers of the default recipe are the
paper's.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from lit_mtrl.config.compose import compose
from lit_mtrl.config.folders import conf_dir, groups
from lit_mtrl.config.instantiate import plain
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.nets.base import param_count
from lit_mtrl.runs.build import algorithm_class, build_part, build_suite
from lit_mtrl.runs.match import composed
from lit_mtrl.runs.run import Run
from tests.helpers.project import ROOT

CHOICES = [(g, n) for g, names in groups().items() if g != "experiment" for n in names]


@pytest.mark.parametrize("name", groups()["experiment"])
def test_every_experiment_builds(name: str, tmp_path: Path) -> None:
    run = Run(compose([name], ["logger=csv", f"output_dir={tmp_path}/run", "network.width=8", "network.match=null"]))
    assert run.data.epochs >= 1
    assert len(run.agent.tasks) == run.agent.algorithm.num_tasks
    assert not (tmp_path / "run").exists()


PROBES = ["env=probes", "benchmark=custom", "collector.workers=1", "eval.workers=1"]
NEEDED = {
    ("callbacks", "paco_reset"): ([], [*PROBES, "network=paco", "algo.mask_out=3e3"]),
    ("env", "gymnasium"): (["debug"], ["benchmark.tasks=[Pendulum-v1]", "env.horizon=100"]),
    ("replay", "rollout"): ([], [*PROBES, "collector.steps=20"]),
}
"""Experiments and overrides with which a choice makes sense; the others are put into ``debug``."""


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=lambda x: x)
def test_every_choice_builds(group: str, name: str, tmp_path: Path) -> None:
    logger = [] if group == "logger" else ["logger=csv"]
    given, needed = NEEDED.get((group, name), (["debug"], []))
    budget = [f"output_dir={tmp_path}/run", "frames=150_000", "epoch_frames=75_000"]
    cfg = compose(given, [f"{group}={name}", *logger, *budget, *needed])
    if "cudagraph" in name and not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="needs a GPU"):
            Run(cfg)
    else:
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
    assert set(groups()) >= {*contract.split(), *algorithm_class(compose([], [])).parts}
    keys = {"seed", "frames", "epoch_frames", "experiment_name", "run_name", "output_dir"}
    assert keys < set(compose([], []))


BUDGETS = {  # the paper's; custom has MT10's
    "mt1": (2_000_000, 50_000),
    "mt10": (20_000_000, 200_000),
    "mt25": (50_000_000, 1_000_000),
    "mt50": (100_000_000, 1_000_000),
    "custom": (20_000_000, 200_000),
}


@pytest.mark.parametrize("name", groups()["benchmark"])
def test_a_benchmark_brings_its_budget(name: str) -> None:
    for configs in [], ["mt10_moore"], ["mt50_moore"]:
        cfg = compose(configs, [f"benchmark={name}"])
        assert (cfg.benchmark.name, cfg.frames, cfg.epoch_frames) == (name, *BUDGETS[name])


def test_experiments_and_overrides_change_the_budget() -> None:
    assert compose(["mt10_paco_published"], []).frames == 20_100_000
    assert compose(["quickstart"], ["benchmark=mt50"]).frames == 90_000
    assert compose(["mt50_moore"], ["frames=2_000_000"]).frames == 2_000_000


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
        "log_alpha_min": None,
        "log_alpha_max": None,
        "mask_out": None,
        "shared_lr": 3e-4,
    }
    assert (cfg["replay"]["capacity"], cfg["replay"]["per_task"]) == (100_000, 128)
    assert not cfg["collector"]["overlap"] and cfg["engine"]["precision"] == "fp32"
    assert cfg["collector"]["random_steps"] == 4000 and cfg["collector"]["updates_per_step"] == 1
    assert {k: cfg["env"][k] for k in ("horizon", "goals", "rewards")} == {"horizon": 500, "goals": 50, "rewards": "v2"}
    assert cfg["collector"]["copies"] == 1 and not cfg["collector"]["stagger"]
    assert (cfg["network"]["width"], cfg["network"]["depth"], cfg["frames"]) == (400, 3, 20_000_000)
    assert cfg["eval"]["episodes"] == 50
    agent = Run(compose(["mt10_mtmhsac"], ["logger=csv", f"output_dir={tmp_path}"])).agent
    assert agent.algorithm.target_entropy == -4.0


PUBLISHED = {  # an experiment and overrides: actor, both critics
    "mt10_mtmhsac": (372_880, 692_820),
    "mt50_mtmhsac": (517_200, 756_900),
    "mt10_mtmhsac network.width=256": (164_944, 295_956),
    "mt50_mtmhsac network.width=256": (257_424, 336_996),
    "mt10_mtmhsac network.width=512": (591_952, 1_116_180),
    "mt50_mtmhsac network.width=512": (776_592, 1_198_180),
    "mt10_mtmhsac network.width=1024": (2_232_400, 4_329_492),
    "mt50_mtmhsac network.width=1024": (2_601_360, 4_493_412),
    "mt10_mtmhsac network.width=2048": (8_659_024, 17_047_572),
    "mt50_mtmhsac network.width=2048": (9_396_624, 17_375_332),
    "mt10_mtmhsac network.width=4096": (34_095_184, 67_649_556),
    "mt50_mtmhsac network.width=4096": (35_570_064, 68_304_996),
    "mt25_mtmhsac": (427_000, None),
    "mt25_mtmhsac network.width=256": (199_624, None),
    "mt25_mtmhsac network.width=512": (661_192, None),
    "mt25_mtmhsac network.width=1024": (2_370_760, None),
    "mt25_mtmhsac network.width=2048": (8_935_624, None),
    "mt25_mtmhsac network.width=4096": (34_648_264, None),
    "mt10_mtmhsac network.width=550": (677_680, None),
    "mt10_mtmhsac network.width=800": (1_385_680, None),
    "mt10_mtmhsac network.width=885": (1_683_350, None),
    "mt10_mtsac": (344_008, 685_602),
    "mt10_soft_modules": (691_022, 1_381_646),
    "mt50_soft_modules": (1_606_140, 3_211_882),
    "mt10_moore": (1_379_320, 2_715_300),
    "mt50_moore": (2_181_500, 4_101_500),
    "mt10_paco": (1_700_095, 3_388_120),
    "mt50_paco": (6_801_180, 13_554_080),
    "mt50_mtmhsac network.width=1805": (7_404_510, None),
    "mt10_care": (420_564, None),
    "mt50_care": (451_168, None),
    "mt10_film": (377_414, None),
    "mt50_film": (379_414, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_of_the_papers(name: str) -> None:
    experiment, *overrides = name.split()
    cfg = compose([experiment], overrides)
    with torch.device("meta"):
        counts = [param_count(build_part(cfg, part, build_suite(cfg))) for part in ("actor", "critic")]
    for count, published in zip(counts, PUBLISHED[name], strict=True):
        assert published in (count, None)


def test_experiments_have_folders_of_their_own() -> None:
    """What differs is not written into one folder; the default's other names are known."""
    folders: dict[str, list[str]] = {}
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfgs = {name: hydra_compose("config", [f"experiment={name}"]) for name in groups()["experiment"]}
    for name, cfg in cfgs.items():
        place = cfg.output_dir if cfg.network.match is None else composed([name], []).output_dir
        folders.setdefault(place, []).append(name)
    doubles = [names for names in folders.values() if len(names) > 1]
    assert doubles == []


def test_actor_critic_split() -> None:
    """Figure 5 of McLean et al.: each part has its own width."""
    cfg = compose(["mt10_mtmhsac"], ["actor.network.width=400", "critic.network.width=1024"])
    with torch.device("meta"):
        actor, critic = (build_part(cfg, part, build_suite(cfg)) for part in ("actor", "critic"))
    assert (param_count(actor), param_count(critic)) == (372_880, 4_329_492)


def test_paco_as_published(tmp_path: Path) -> None:
    cfg = compose(["mt10_paco_published"], ["logger=csv", f"output_dir={tmp_path}"])
    assert (cfg.env.horizon, cfg.algo.mask_out, cfg.algo.max_grad_norm) == (150, 3e3, None)
    assert (cfg.algo.log_alpha_min, cfg.algo.log_alpha_max, cfg.network.variant) == (-10, 0, "original")
    assert [type(c).__name__ for c in Run(cfg).trainer.callbacks].count("PaCoReset") == 1  # pyright: ignore


def test_seed_reaches_initialisation(tmp_path: Path) -> None:
    def weights(seed: int) -> torch.Tensor:
        run = Run(compose(["debug"], [f"seed={seed}", f"output_dir={tmp_path}"]))
        return torch.cat([p.detach().flatten() for p in run.agent.algorithm.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
