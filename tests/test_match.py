"""``network.match`` finds the largest width that is not above the target, and says so; wrong targets are one line."""

from __future__ import annotations

import json

import pytest
import torch

from lit_mtrl.build import build_part, build_suite
from lit_mtrl.compose import compose
from lit_mtrl.engine import param_count
from lit_mtrl.match import match_width
from lit_mtrl.spec import ConfigError

SOFT_MODULES, MOORE, PACO = 691_022, 1_379_320, 1_700_095


def count(cfg, width: int) -> int:
    cfg = cfg.copy()
    cfg.network.width = width
    with torch.device("meta"):
        return param_count(build_part(cfg.actor, cfg.network, build_suite(cfg)))


@pytest.mark.parametrize(
    ("target", "network", "width"),
    [
        # 2 w^2 + 132 w + 80 parameters on MT10
        (SOFT_MODULES, "multi_head", 555),
        ("soft_modules", "multi_head", 555),
        (MOORE, "multi_head", 798),
        (PACO, "multi_head", 889),
        # the counts of McLean et al.'s hand-picked widths give these widths back
        (677_680, "multi_head", 550),
        (1_385_680, "multi_head", 800),
        (1_683_350, "multi_head", 885),
        # 2 w^2 + 60 w + 8: their single-head widths are 572 and 815
        (SOFT_MODULES, "mlp", 572),
        (MOORE, "mlp", 815),
        ("mlp", "mlp", 400),
        (MOORE, "soft_modules", None),
        ("multi_head", "moore", None),
        (100_000, "paco", None),
    ],
)
def test_largest_width_not_above(target: int | str, network: str, width: int | None) -> None:
    cfg = compose(["mt10_mtmhsac"], [f"network={network}", f"network.match={target}"])
    text = match_width(cfg)
    assert cfg.network.match is None and f"network.width={cfg.network.width}" in str(text)
    assert width is None or cfg.network.width == width
    other = None if isinstance(target, int) else compose(["mt10_mtmhsac"], [f"network={target}"])
    goal = target if other is None else count(other, other.network.width)
    assert count(cfg, cfg.network.width) <= goal < count(cfg, cfg.network.width + 1)


def test_mt50() -> None:
    cfg = compose(["mt50_mtmhsac"], ["network.match=7_404_510"])  # what McLean et al. put beside PaCo
    match_width(cfg)
    assert cfg.network.width == 1805


def test_nothing_asked_nothing_done() -> None:
    cfg = compose(["mt10_mtmhsac"], [])
    assert match_width(cfg) is None and cfg.network.width == 400


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["network.match=100"], "ask for 214 or more"),
        (["network.match=mor"], "did you mean 'moore'"),
        (["network.match=0"], "give a number of parameters"),
        (["network.match=1.5"], "give a number of parameters"),
        (["network=moore", "network.match=1000"], "ask for .* or more"),
        (["network.match=1e6", "actor.network.width=8"], "leave actor.network.width away"),
        (["critic.network.match=1e6"], "set network.match"),
        (["network.match=1e15"], "no width"),
    ],
    ids=str,
)
def test_bad_targets(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        match_width(compose(["mt10_mtmhsac"], overrides))
    assert "\n" not in str(caught.value)


def test_command_line(cli) -> None:
    done = cli("params", "--config", "mt10_mtmhsac", "network.match=moore", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["actor"] == 1_379_024
    assert "network.width=798" in done.stderr
    done = cli("fit", "--config", "debug", "network.match=500", "--print-config")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "network.match=500" in done.stderr
