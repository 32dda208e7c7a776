"""What a class of the user's lacks is one line that names it; a fault in his code keeps its traceback."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Optional

import pytest
from lightning import Callback
from omegaconf import DictConfig
from torch import Tensor, nn

from lit_mtrl.config.contract import PAGE, kind_of_parameter, parameters
from lit_mtrl.config.instantiate import find_class, make
from lit_mtrl.config.kinds import Choice, Flag, Kind, Number, Text, Whole
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.envs.base import Suite
from lit_mtrl.nets.base import Network
from lit_mtrl.nets.mlp import MLP
from lit_mtrl.weighting.base import Weighting
from tests.helpers.project import ROOT


class Base(ABC):
    size: int

    @abstractmethod
    def step(self, action: int, frozen: bool = False) -> int: ...

    @property
    @abstractmethod
    def policy(self) -> int: ...

    def close(self) -> None:  # noqa: B027
        """Nothing to close."""


class Fits(Base):
    policy = 3

    def __init__(self, scale: float = 1.0, **more: object):
        self.size, self.more = 2, more

    def step(self, a: int, frozen: bool = True, *more: int) -> int:
        return a


class Lacks(Base):
    def step(self, action: int, frozen: bool = False) -> int:
        return action


class OtherSignature(Fits):
    def step(self, action: int) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return action


class OtherClose(Fits):
    def close(self, now: bool) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]


class NoSize(Fits):
    def __init__(self) -> None: ...


class Needs(Fits):
    def __init__(self, name: str, scale: float):
        super().__init__()
        self.name, self.scale = name, scale


class Broken(Fits):
    def __init__(self) -> None:
        raise KeyError("of his own")


class Mistaken(Fits):
    def __init__(self) -> None:
        raise ConfigError("env.scale=0: give more")


class NoForward(nn.Module):
    def __init__(self, in_dim: int, out_dim: int, num_tasks: int, head_bound: float):
        super().__init__()


class NoTask(MLP):
    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return x


class LossesAlone(Weighting):
    def forward(self, losses: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return losses


class NoTasks(Suite):
    obs_dim = action_dim = horizon = num_goals = 1

    def __init__(self, tasks: Sequence[str], seed: int): ...

    def make(self, task: int) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]

    def tags(self) -> dict[str, str]:
        return {}


class NoNumTasks(nn.Module):
    def __init__(self, in_dim: int, out_dim: int):
        super().__init__()

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        return x


class NoArguments(Callback):
    def on_train_batch_end(self) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]


def built(target: type, base: type, /, key: str = "env", more: dict | None = None, **values: object) -> object:
    cfg = DictConfig({"_target_": f"{__name__}.{target.__name__}", **values})
    return make(cfg, base, key, **(more or {}))


NET = dict(in_dim=3, out_dim=1, num_tasks=2, head_bound=1.0)


@pytest.mark.parametrize(
    ("target", "base", "values", "more", "said"),
    [
        (Lacks, Base, {}, {}, "does not define policy; see"),
        (OtherSignature, Base, {}, {}, r"step: .*'frozen'; it is called as step\(self, action: int, frozen: bool = Fa"),
        (OtherClose, Base, {}, {}, r"close: missing a required argument: 'now'; it is called as close\(self\)"),
        (NoSize, Base, {}, {}, "its objects have no size; set it in its constructor; see"),
        (Needs, Base, {}, {}, r"env\.name: is missing, and .*\.Needs needs it; give it"),
        (Needs, Base, {"name": "x"}, {}, r"env\.scale: is missing"),
        (
            NoSize,
            Base,
            {"scales": 1},
            {},
            r"env\.scales: unknown key; .*\.NoSize takes no 'scales'; take it out of the yaml",
        ),
        (Needs, Base, {"name": "x", "scales": 1}, {}, r"env\.scales: unknown key; did you mean 'env\.scale'\?"),
        (Mistaken, Base, {}, {}, "env.scale=0: give more"),
        (NoForward, Network, {}, NET, "does not define forward; see"),
        (NoTask, Network, {}, NET, r"forward: .*'task'; it is called as forward\(self, x: Tensor, task: Tensor"),
        (NoNumTasks, Network, {}, NET, "its constructor must take 'num_tasks', too; see"),
        (LossesAlone, Weighting, {}, {"num_tasks": 2}, r"forward: .* called as forward\(self, losses: Tensor, gramian"),
        (NoTasks, Suite, {}, {"tasks": [], "seed": 0}, "its objects have no tasks"),
        (NoArguments, Callback, {}, {}, "on_train_batch_end: .*; it is called as on_train_batch_end"),
        (NoArguments, Weighting, {}, {}, r"is no class of lit_mtrl\.weighting\.base\.Weighting"),
    ],
)
def test_what_is_lacking(target: type, base: type, values: dict, more: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        built(target, base, more=more, **values)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400
    assert ("see " in said) <= text.rstrip(")").endswith(PAGE)


def test_what_fits() -> None:
    made = built(Fits, Base, scale=2.0, colour="red")
    assert isinstance(made, Fits) and made.more == {"colour": "red"}
    named = built(Needs, Base, name="x", scale=2)
    assert isinstance(named, Needs) and named.name == "x", "a class may take a name"
    assert isinstance(built(Fits, Base, name="x"), Fits), "and need not"


def test_a_fault_in_a_constructor_keeps_its_traceback() -> None:
    with pytest.raises(KeyError, match="of his own"):
        built(Broken, Base)


def test_any_module_with_a_forward_is_a_network() -> None:
    assert issubclass(MLP, Network) and issubclass(nn.Linear, Network) and not issubclass(Fits, Network)
    assert isinstance(
        make(DictConfig({"_target_": "lit_mtrl.nets.mlp.MLP", "width": 4}), Network, "network", **NET), MLP
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "import nowhere_at_all\n",
            r"\(ModuleNotFoundError: No module named 'nowhere_at_all', .*mine_in_test\.py:1\)$",
        ),
        ("class Net(:\n", r"\(SyntaxError: .*\(mine_in_test\.py, line 1\)\)$"),
        ("\nx = 1 / 0\n", r"\(ZeroDivisionError: division by zero, .*mine_in_test\.py:2\)$"),
        ("from torch import nothing_of_the_kind\n", r"\(ImportError: cannot import name .*mine_in_test\.py:1\)$"),
        ("class Nett: ...\n", r"\('mine_in_test' has no 'Net'\)$"),
    ],
)
def test_a_module_that_cannot_be_imported(content: str, said: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine_in_test.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        with pytest.raises(ConfigError, match=r"^env\._target_=mine_in_test\.Net: cannot be imported " + said):
            find_class("mine_in_test.Net", object, "env._target_=mine_in_test.Net")
    finally:
        sys.modules.pop("mine_in_test", None)


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="there is no module 'mine_nowhere'.*--config-dir"):
        find_class("mine_nowhere.nets.Net", object, "x")
    with pytest.raises(ConfigError, match="'lit_mtrl.nets' has no 'mpl'"):
        find_class("lit_mtrl.nets.mpl.MLP", object, "x")


def takes(
    flag: bool,
    whole: int,
    number: float,
    text: str,
    either: int | float,
    maybe: float | None,
    older: Optional[int],  # noqa: UP045
    word: Literal["a", "b"],
    sizes: list[int],
    unknown: Kind,
    untyped,
    shown=3,
    hidden: int = None,  # pyright: ignore # noqa: RUF013
) -> None: ...


NULL = "as the class has it"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("flag", Flag()),
        ("whole", Whole()),
        ("number", Number()),
        ("text", Text()),
        ("either", Number()),
        ("maybe", Number(NULL)),
        ("older", Whole(NULL)),
        ("word", Choice(of=("a", "b"))),
        ("sizes", Kind()),
        ("unknown", Kind()),
        ("untyped", Text(NULL)),
        ("shown", Whole(NULL)),
        ("hidden", Whole(NULL)),
    ],
)
def test_kinds_come_from_the_constructor(name: str, kind: Kind) -> None:
    assert kind_of_parameter(parameters(takes)[name], default="of the yaml") == kind


def test_the_page_is_there() -> None:
    assert (ROOT / PAGE).is_file()
