"""What a user's own class or file may get wrong: one line that says whose fault it is, and nothing trained on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.helpers.command import refused, run

NETWORK = """
import torch
from torch import nn
class Mine(nn.Module):
    def __init__(self, in_dim, out_dim, num_tasks, head_bound, hidden=8):
        super().__init__()
        self.layer = nn.Linear(in_dim, out_dim)
    def forward(self, x, task=None):
        return {result}
"""
WEIGHTING = """
import torch
from lit_mtrl.weighting.base import Weighting
class Mine(Weighting):
    def __init__(self, num_tasks):
        {constructor}
    def forward(self, losses, gramian):
        return {result}
"""
CALLBACK = """
from lit_mtrl.training.callback import Callback
class Mine(Callback):
    key = "callbacks.mine"
    def {hook}(self, trainer, pl_module):
        self.log_metrics(trainer, {{"mine/moved": {value}}}, pl_module.frames)
"""
DEBUG = ("fit", "--config", "debug", "--config-dir", "conf", "output_dir=run")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In an empty folder of one's own."""
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("mine", None)


def write(group: str, code: str, yaml: str = "_target_: mine.Mine\nname: mine\n") -> None:
    Path("conf", group).mkdir(parents=True)
    Path("conf", group, "mine.yaml").write_text(yaml)
    Path("mine.py").write_text(code)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("torch.ones(3, 3)", "forward of 'critic' is [3, 3]; it must be [T] = [3]"),
        ("losses.mean()", "forward of 'critic' is []; it must be [T] = [3]"),
        ("losses[:-1]", "forward of 'critic' is [2]; it must be [T] = [3]"),
        ("[1.0, 1.0, 1.0]", "forward of 'critic' is list; it must be [T] = [3]"),
    ],
)
def test_weights_of_another_shape(result: str, said: str) -> None:
    write("weighting", WEIGHTING.format(constructor="super().__init__(num_tasks)", result=result))
    code, _, err = run(*DEBUG, "weighting.critic=mine")
    assert code == 2 and f"error: weighting.critic (Mine): {said}, one number per task; see docs/your_method.md" in err


def test_a_base_that_is_not_constructed() -> None:
    write("weighting", WEIGHTING.format(constructor="self.count = num_tasks", result="losses"))
    assert "weighting.critic._target_=mine.Mine: its constructor does not call super().__init__" in refused(
        *DEBUG, "weighting.critic=mine"
    )


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("self.layer(x)[..., :1]", "forward gives [3, 3, 1]"),
        ("self.layer(x).mean(0)", "forward gives [3, "),
        ("(self.layer(x), 0)", "forward gives tuple"),
    ],
)
def test_outputs_of_another_shape(result: str, said: str) -> None:
    write("network", NETWORK.format(result=result))
    text = refused(*DEBUG, "network=mine", "~network.width", "~network.depth")
    assert text.startswith(f"error: network._target_=mine.Mine: {said}") and "[T, b, out_dim]" in text


def test_a_network_that_needs_values_is_not_called_without() -> None:
    write("network", NETWORK.format(result="self.layer(x * float(x.detach().mean() * 0 + 1))"))
    code, _, err = run(*DEBUG, "network=mine", "~network.width", "~network.depth")
    assert code == 0, err


def test_a_size_that_the_experiment_sets() -> None:
    write("network", NETWORK.format(result="self.layer(x)"))
    said = refused(*DEBUG, "network=mine")
    assert "network.width: set by the experiment, unknown to the network chosen" in said and "~network.width" in said
    text = "defaults:\n  - debug\n  - override /network: mine\n"
    Path("conf/experiment").mkdir()
    Path("conf/experiment/ours.yaml").write_text(f"# @package _global_\n{text}")
    assert "network.width: set by the experiment" in refused("fit", "--config", "ours", "--config-dir", "conf")


def test_a_match_without_a_width() -> None:
    write("network", NETWORK.format(result="self.layer(x)"))
    said = refused("params", "--config", "mt10_mtmhsac", "--config-dir", "conf", "network=mine", "network.match=mlp")
    assert "network.match=mlp: mine.Mine has no argument 'width' to choose" in said


def test_a_module_that_is_not_there() -> None:
    write("network", "", "_target_: mein.Mine\nname: mine\n")
    said = refused(*DEBUG, "network=mine", "~network.width", "~network.depth")
    assert "network._target_=mein.Mine: cannot be imported (there is no module 'mein')" in said


def test_a_file_without_a_name() -> None:
    write("network", NETWORK.format(result="self.layer(x)"), "_target_: mine.Mine\nwidth: 3\ndepth: 2\n")
    assert "network: the file that is chosen has no 'name'" in refused(*DEBUG, "network=mine")


def test_a_file_that_is_no_yaml() -> None:
    write("network", "", "_target_: mine.Mine\nwidth: [2\n")
    said = refused(*DEBUG, "network=mine")
    assert "conf/network/mine.yaml:" in said and "not readable as YAML" in said


def test_a_folder_that_was_not_added() -> None:
    write("network", "")
    Path("conf/experiment").mkdir()
    Path("conf/experiment/own_runs.yaml").write_text("seed: 1\n")
    hint = "; it lies in ./conf, which --config-dir conf adds"
    assert hint in refused("fit", "--config", "debug", "network=mine")
    assert hint in refused("fit", "--config", "own_runs")


def test_a_hook_that_nobody_calls() -> None:
    write(
        "callbacks",
        CALLBACK.format(hook="on_train_epoch_ended", value=1),
        "mine:\n  _target_: mine.Mine\n",
    )
    said = refused(*DEBUG, "callbacks=[default,mine]")
    assert "callbacks.mine._target_=mine.Mine: on_train_epoch_ended is no hook of Lightning; did you mean" in said


def test_a_metric_that_is_no_number() -> None:
    write("callbacks", CALLBACK.format(hook="on_train_epoch_end", value="'far'"), "mine:\n  _target_: mine.Mine\n")
    code, _, err = run(*DEBUG, "callbacks=[default,mine]")
    assert code == 2 and "callbacks.mine: log_metrics: mine/moved='far': a metric is a number" in err
