"""What every algorithm must say, what it need not, and which parts it is built from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from torch import nn

from lit_mtrl.algos.base import Algorithm, Objective, once
from lit_mtrl.config.compose import compose
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.keys import ACTION, NEXT_OBS, OBS, REWARD, TERMINATED
from lit_mtrl.critics.scalar import ScalarCritic
from lit_mtrl.policies.base import Policy
from lit_mtrl.policies.tanh_gaussian import TanhGaussian
from lit_mtrl.runs.build import build_algorithm, build_sizes, build_suite
from lit_mtrl.runs.tags import counts


class Baseline(nn.Module):
    """A part without a network of the run's."""

    def __init__(self, obs_dim: int, action_dim: int, num_tasks: int, start: float):
        super().__init__()
        self.values = nn.Parameter(torch.full((num_tasks, obs_dim + action_dim), start))


class Parts(Algorithm):
    """Of a critic, a policy under another name, and a baseline."""

    parts = ("critic", "pilot", "baseline")
    pilot: Policy

    def __init__(
        self,
        pilot: Callable[..., Policy],
        critic: Callable[..., nn.Module],
        baseline: Callable[..., nn.Module],
        obs_dim: int,
        action_dim: int,
        num_tasks: int,
        gamma: float,
    ):
        super().__init__()
        self.num_tasks, self.gamma = num_tasks, gamma
        sizes = dict(obs_dim=obs_dim, action_dim=action_dim, num_tasks=num_tasks)
        self.pilot, self.critic, self.baseline = pilot(**sizes), critic(**sizes), baseline(**sizes)

    @property
    def policy(self) -> Policy:
        return self.pilot

    def objectives(self) -> tuple[Objective, ...]:
        return ()


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    return compose(["debug"], ["critic.network.width=24"])


@pytest.fixture
def cfg(composed: DictConfig) -> DictConfig:
    """The debug experiment with `Parts` in the place of SAC."""
    cfg = composed.copy()
    cfg.algo = {"_target_": f"{__name__}.Parts", "name": "mine", "gamma": 0.5}
    cfg.pilot = cfg.pop("actor")
    cfg.baseline = {"_target_": f"{__name__}.Baseline", "start": 2.0}
    return cfg


def width(net: nn.Module) -> int:
    return net.get_parameter("torso.first.weight").shape[-2]


@pytest.mark.parametrize("lacking", ["policy", "objectives"])
def test_an_algorithm_says_what_acts_and_what_is_minimised(lacking: str) -> None:
    both = {"policy": None, "objectives": lambda self: ()}
    assert isinstance(type("Whole", (Algorithm,), both)(), nn.Module)
    part: Any = type("Part", (Algorithm,), {key: value for key, value in both.items() if key != lacking})
    with pytest.raises(TypeError, match=f"abstract method {lacking}"):
        part()


def test_what_it_need_not_say(cfg: DictConfig) -> None:
    algorithm = build_algorithm(cfg, build_suite(cfg))
    assert algorithm.stored == (OBS, ACTION, NEXT_OBS, REWARD, TERMINATED) and algorithm.per_task == ()
    assert algorithm.networks() == {} and algorithm.inputs(TensorDict()) == {}
    acting = algorithm.acting_policy()
    assert acting.policy is algorithm.policy and not acting.on_policy
    rollout = TensorDict({"x": torch.zeros(2, 1, 3)}, [2, 1, 3])
    assert algorithm.prepare(rollout) is rollout and rollout.keys() == {"x"}
    assert algorithm.after_update() is None and algorithm.ranks.size == 1


def test_it_is_built_from_the_parts_that_it_names(cfg: DictConfig) -> None:
    suite = build_suite(cfg)
    algorithm: Any = build_algorithm(cfg, suite)
    assert isinstance(algorithm.pilot, TanhGaussian) and isinstance(algorithm.critic, ScalarCritic)
    assert algorithm.gamma == 0.5 and not hasattr(algorithm, "actor")
    assert width(algorithm.pilot.net) == cfg.network.width != 24
    assert width(algorithm.critic.q.member(0)) == 24
    assert torch.equal(algorithm.baseline.values, torch.full((3, suite.obs_dim + suite.action_dim), 2.0))
    sizes = build_sizes(cfg, suite)
    assert sizes is not None and counts(sizes) == counts(algorithm)
    assert list(counts(algorithm)) == ["critic", "pilot", "baseline"] and counts(algorithm)["baseline"] == 9


@pytest.mark.parametrize("part", ["critic", "pilot", "baseline"])
def test_a_part_that_is_not_chosen_is_one_line(cfg: DictConfig, part: str) -> None:
    del cfg[part]
    message = f"^algo=mine: is built from a '{part}', and none is chosen; add it to its defaults$"
    with pytest.raises(ConfigError, match=message):
        build_algorithm(cfg, build_suite(cfg))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": {"star": 1.0}}, "^baseline.star: unknown key; did you mean 'baseline.start'"),
        ({"critic": {"sise": 1}}, "^critic.sise: unknown key; did you mean 'critic.size'"),
        ({"pilot": {"network": {"wdth": 1}}}, "^network.wdth: unknown key; did you mean 'network.width'"),
        ({"algo": {"gama": 0.5}}, "^algo.gama: unknown key"),
        ({"algo": {"_target_": "lit_mtrl.nets.mlp.MLP"}}, r"^algo._target_=lit_mtrl.nets.mlp.MLP: is no class of .*"),
    ],
    ids=lambda x: "" if isinstance(x, str) else next(iter(x)),
)
def test_values_that_a_part_does_not_take_are_named(cfg: DictConfig, change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed: Any = OmegaConf.merge(cfg, change)
        build_algorithm(changed, build_suite(changed))


def test_once_keeps_what_is_made_for_the_loss_is_evaluated_again() -> None:
    batch, made = TensorDict({}, [2, 3]), []

    def make() -> torch.Tensor:
        made.append(torch.rand(2, 3))
        return made[-1]

    first, second = once(batch, "target", make), once(batch, "target", make)
    assert len(made) == 1 and torch.equal(first, second) and torch.equal(batch["target"], made[0])
