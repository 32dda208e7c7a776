"""``network.match`` finds the largest width that is not above the target, and says so; wrong targets are one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lit_mtrl.config.compose import compose
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.nets.base import param_count
from lit_mtrl.runs.build import build_part, build_suite
from lit_mtrl.runs.match import match_width
from lit_mtrl.runs.run import Run

SOFT_MODULES, MOORE, PACO = 691_022, 1_379_320, 1_700_095


def count(cfg, width: int) -> int:
    cfg = cfg.copy()
    cfg.network.width = width
    cfg.network.match = None
    with torch.device("meta"):
        return param_count(build_part(cfg, "actor", build_suite(cfg)))


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
    found = match_width(cfg)
    assert found is not None and f"network.width={found[0]}," in found[1]
    assert width is None or found[0] == width
    other = None if isinstance(target, int) else compose(["mt10_mtmhsac"], [f"network={target}"])
    goal = target if other is None else count(other, other.network.width)
    assert count(cfg, found[0]) <= goal < count(cfg, found[0] + 1)


@pytest.mark.parametrize(("target", "width"), [(6_801_180, 1725), (7_404_510, 1805)])
def test_mt50(target: int, width: int) -> None:
    """PaCo's count, and the count of the network that McLean et al. put beside it."""
    found = match_width(compose(["mt50_mtmhsac"], [f"network.match={target}"]))
    assert found is not None and found[0] == width


def test_nothing_asked_nothing_done() -> None:
    cfg = compose(["mt10_mtmhsac"], [])
    assert match_width(cfg) is None and cfg.network.width == 400


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["network.match=100"], "ask for 214 or more"),
        (["network.match=mor"], "did you mean 'moore'"),
        (["network.match=0"], "a number of parameters, or a network's name"),
        (["network.match=inf"], "a number of parameters, or a network's name"),
        (["network.match=nan"], "a number of parameters, or a network's name"),
        (["network.match=1.5"], "a number of parameters, or a network's name"),
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


def test_is_resolved_or_refused_but_never_ignored(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="network.match"):
        Run(compose(["debug"], ["network.match=3000", f"output_dir={tmp_path}"]))


def test_command_line(cli) -> None:
    done = cli("params", "--config", "mt10_mtmhsac", "network.match=moore", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["actor"] == 1_379_024
    assert "network.width=798" in done.stderr
    wide = ("--config", "study/matched_size_mt50_widths", "network.match=2181500")
    done = cli("params", *wide, "--print-config")  # names follow the width
    assert "run_name: sac-multi_head-w928-s0" in done.stdout and "width: 928" in done.stdout, done.stderr
    done = cli("fit", "--config", "debug", "network.match=5", "--print-config")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "network.match=5:" in done.stderr
