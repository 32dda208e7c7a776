"""Kinds of values by hand-made cases; every key of ``conf/`` has one, and choices are those that the code knows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lit_mtrl.callbacks.evaluation import PROTOCOLS
from lit_mtrl.callbacks.paco_reset import METHODS
from lit_mtrl.cli.main import main
from lit_mtrl.config.keys import KEYS, described, kind_of
from lit_mtrl.config.kinds import Choice, Folder, Kind, Name, Number, Numbers, Size, Tasks, Text, Whole, like
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.text import shown
from lit_mtrl.data.placement import DEVICES
from lit_mtrl.envs.metaworld import ENGINES
from lit_mtrl.envs.probes import KINDS
from lit_mtrl.nets import care, film, layers, paco
from lit_mtrl.training.modes import MODES, PRECISIONS
from lit_mtrl.training.strategies import STRATEGIES
from lit_mtrl.weighting import cagrad, pcgrad
from tests.helpers.project import ROOT

INF, NAN = math.inf, math.nan
FITS: list[tuple[Kind, Any, Any]] = [
    (Whole(low=1, high=5), 5.0, 5),
    (Whole(low=1, high=5), 1, 1),
    (Whole(null="none"), None, None),
    (Number(low=0, high=1, open="high"), 0, 0),
    (Number(low=0, high=1, open="low"), 1, 1),
    (Number(), -1e300, -1e300),
    (Numbers(low=0, high=1, open="high"), [0.0, 0.5], [0.0, 0.5]),
    (Name(), 42, "42"),
    (Name(), "a/b c(é)=1", "a/b c(é)=1"),
    (Name(), "x" * 255, "x" * 255),
    (Folder(), "../a", "../a"),
    (Folder(), "/a/b", "/a/b"),
    (Tasks(), "mt10", "mt10"),
    (Tasks(), ["reach", 7], ["reach", "7"]),
    (Size(), 1e6, 1_000_000),
    (Size(), "moore", "moore"),
    (Kind(), {"a": 1}, {"a": 1}),
    (Choice(of=("a", "b")), "b", "b"),
]
MISFITS: list[tuple[Kind, Any]] = [
    *((Whole(low=1, high=5), value) for value in (0, 6, 1.5, True, "1", None, [1], INF, -INF, NAN, 10**400)),
    *((Number(low=0, high=1, open="low high"), value) for value in (0, 1, -0.1, True, "x", None, NAN, INF, 10**400)),
    *((Numbers(low=0, high=1), value) for value in ([], 0.5, [0.1, 0.1], [0.1, NAN], ["a"], "ab", [True], None)),
    *((Name(), value) for value in ("", "/a", "a/", "a//b", "..", "a/..", ".", " ", "a\n", "a\0")),
    *((Name(), value) for value in ("${x}", "\udc80", 1.5, True)),
    *((Name(), value) for value in ("x" * 256, "é" * 128, "/".join(["x" * 200] * 21))),
    *((Folder(), value) for value in ("", "a\nb", 1.5, None, "~no-such-user/x", "x" * 256)),
    *((Tasks(), value) for value in ([], None, 5, ["a\n"], [None], [[]], "")),
    *((Size(), value) for value in (0, -1, 1.5, NAN, [], True, "")),
    *((Kind(), value) for value in (None, NAN, [1, INF], [[NAN]])),
    *((Choice(of=("a", "b")), value) for value in ("c", None, 1, ["a"])),
    (Text(), None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "used"), FITS, ids=str)
def test_fits(kind: Kind, value: Any, used: Any) -> None:
    found = kind.check("a.b", value)
    assert found == used and type(found) is type(used)


@pytest.mark.parametrize(("kind", "value"), MISFITS, ids=lambda x: ascii(str(x))[:40])
def test_misfits(kind: Kind, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        kind.check("a.b", value)
    message = str(caught.value)
    assert message.startswith("a.b=") and message.isprintable() and len(message) < 250


def test_home_is_expanded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/~")
    assert Folder().check("output_dir", "~/runs") == "/home/~/runs"
    assert Folder().check("output_dir", "/home/~/runs") == "/home/~/runs"


def test_words() -> None:
    assert str(Whole(low=1, high=500)) == "a whole number from 1 to 500"
    assert str(Number(low=0, high=10, open="low")) == "a number above 0, at most 10"
    assert str(Number(low=0, high=1, open="high")) == "a number from 0 to below 1"
    assert str(Number(low=0, high=1, open="low high")) == "a number above 0, below 1"
    assert shown("a\n" + "b" * 100) == "a\\n" + "b" * 57 + "... (103 characters)"
    assert [shown(x) for x in (None, True, "None")] == ["null", "true", "None"]
    with pytest.raises(ConfigError, match=r"^a=6: a whole number from 1 to 5, or null \(all\) is needed, such as 3$"):
        Whole(low=1, high=5, null="all").check("a", 6, 3)


def test_kind_of_a_default() -> None:
    assert [type(like(x)).__name__ for x in (True, 1, 1.0, "a", [1], None)] == [
        "Flag",
        "Whole",
        "Number",
        "Text",
        "Kind",
        "Kind",
    ]


def test_every_key_of_conf_has_a_kind_and_its_default_fits() -> None:
    for path in (ROOT / "conf").rglob("*.yaml"):
        if path.parent.name in ("experiment", "study"):
            continue
        at_top = path.parent == ROOT / "conf" or "@package _global_" in path.read_text()
        group = "" if at_top else path.parent.name
        for key, value in keys(OmegaConf.to_container(OmegaConf.load(path)), group):
            kind = kind_of(key)
            if "defaults" in key.split(".") or key.startswith("hydra.") or key.endswith("_target_"):
                continue
            assert kind is not None, f"{path}: {key} has no kind: add it to lit_mtrl/config/keys.py"
            if "${" not in str(value) and value != "???":
                assert kind.check(key, value) == value


def keys(tree: Any, group: str) -> list[tuple[str, Any]]:
    group = {"weighting": "weighting.critic"}.get(group, group)
    out = []
    for key, value in tree.items():
        name = f"{group}.{key}" if group else key
        out += keys(value, name) if isinstance(value, dict) and value else [] if value == {} else [(name, value)]
    return out


CHOICES = {
    "env.kind": KINDS,
    "env.engine": ENGINES,
    "network.task_input": layers.TASK_INPUTS,
    "network.heads": layers.HEADS,
    "network.context": care.CONTEXTS,
    "network.modulation": film.MODULATIONS,
    "network.composition": paco.COMPOSITIONS,
    "weighting.*.rescale": cagrad.RESCALES,
    "weighting.*.reduction": pcgrad.REDUCTIONS,
    "collector.policy_device": DEVICES,
    "replay.device": DEVICES,
    "engine.mode": ("auto", *MODES),
    "engine.precision": PRECISIONS,
    "trainer.strategy": ("auto", *STRATEGIES),
    "eval.protocol": PROTOCOLS,
    "callbacks.*.method": METHODS,
}


def test_choices_are_those_of_the_code() -> None:
    for key, choices in CHOICES.items():
        kind = KEYS[key]
        assert isinstance(kind, Choice) and set(kind.of) == set(choices), key
    others = {key for key, kind in KEYS.items() if isinstance(kind, Choice)} - set(CHOICES)
    assert others == {"env.rewards", "trainer.accelerator"}


def test_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    lines = capsys.readouterr().out.splitlines()
    for key, text in described():
        assert any(line.split() == [key, *text.split()] for line in lines), key


def test_page_is_up_to_date() -> None:
    from tools.keys import page

    assert (ROOT / "docs" / "configuration.md").read_text() == page(), "run python -m tools.keys"
    assert Path(ROOT / "docs" / "configuration.md").exists()
