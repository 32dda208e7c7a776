"""The base of callbacks: when it is due, where metrics and files go; one of the user's own is chosen and asked."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest

from lit_mtrl.callbacks.checkpoint import Checkpoint
from lit_mtrl.callbacks.evaluation import Evaluation
from lit_mtrl.callbacks.gradients import Gradients
from lit_mtrl.callbacks.pictures import Pictures
from lit_mtrl.callbacks.plasticity import Plasticity
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.training.callback import Callback
from tests.helpers.command import refused, run


def trainer(**given: Any) -> lightning.Trainer:
    return SimpleNamespace(**given)  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(
    ("every", "epochs", "due"),
    [(1, 3, [1, 2, 3]), (2, 5, [2, 4, 5]), (3, 6, [3, 6]), (7, 3, [3]), (2, -1, [2, 4, 6, 8])],
)
def test_due_every_so_many_epochs_and_at_the_end(every: int, epochs: int, due: list[int]) -> None:
    callback, last = Callback(every), 8 if epochs == -1 else epochs
    assert [e for e in range(1, last + 1) if callback.due(trainer(current_epoch=e - 1, max_epochs=epochs))] == due


@pytest.mark.parametrize(
    ("made", "key"),
    [
        (Callback, "callbacks.*"),
        (Evaluation, "eval"),
        (Checkpoint, "callbacks.checkpoint"),
        (Gradients, "callbacks.gradients"),
        (Pictures, "callbacks.pictures"),
        (Plasticity, "callbacks.plasticity"),
    ],
)
def test_a_wrong_number_of_epochs_is_one_line_that_names_the_key(made: type[Callback], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(every_epochs=0)
    assert str(caught.value) == f"{key}.every_epochs=0: 1 or more"


def test_metrics_go_to_every_logger_and_files_to_those_that_take_them(tmp_path: Path) -> None:
    got: list[tuple] = []
    table = SimpleNamespace(log_metrics=lambda metrics, step: got.append(("table", metrics, step)))
    store = SimpleNamespace(
        log_metrics=lambda metrics, step: got.append(("store", metrics, step)),
        log_artifact=lambda path, folder: got.append(("store", path, folder)),
    )
    run, callback = trainer(loggers=[table, store], default_root_dir=str(tmp_path)), Callback()
    callback.log_metrics(run, {"a": 1.0}, 70)
    callback.log_artifact(run, callback.folder(run) / "a.png", "pictures")
    assert got == [("table", {"a": 1.0}, 70), ("store", {"a": 1.0}, 70), ("store", tmp_path / "a.png", "pictures")]


OWN = """
import lightning
from lit_mtrl.core.errors import require
from lit_mtrl.training.callback import Callback

class Counting(Callback):
    key = "callbacks.counting"

    def __init__(self, most_tasks: int = 10, every_epochs: int = 1):
        super().__init__(every_epochs)
        self.most_tasks, self.count = most_tasks, 0

    def check(self, agent):
        require(len(agent.tasks) <= self.most_tasks, f"{self.key}.most_tasks={self.most_tasks}: there are more")

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.count += 1

    def on_train_epoch_end(self, trainer, pl_module):
        if self.due(trainer):
            self.log_metrics(trainer, {"iterations": self.count}, pl_module.frames)

class Foreign(lightning.Callback):
    def check(self, agent):
        raise AssertionError("something else of this name")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder of the user's own with a module and two choices."""
    (tmp_path / "conf" / "callbacks").mkdir(parents=True)
    (tmp_path / "counting_callback.py").write_text(OWN)
    (tmp_path / "conf/callbacks/counting.yaml").write_text(
        "# Mine.\ncounting:\n  _target_: counting_callback.Counting\n  most_tasks: 3\n  every_epochs: 2\n"
    )
    (tmp_path / "conf/callbacks/foreign.yaml").write_text("# Bare.\nforeign: {_target_: counting_callback.Foreign}\n")
    monkeypatch.chdir(tmp_path)
    yield ("fit", "--config", "debug", "--config-dir", "conf", "output_dir=run")
    sys.modules.pop("counting_callback", None)


def test_a_class_of_the_users_own_is_chosen_and_trains(own: tuple[str, ...]) -> None:
    short = "collector.random_steps=1000", "frames=900", "logger.log_frames=900"
    code, _, err = run(*own, "callbacks=[counting,foreign]", *short)
    assert code == 0, err
    with Path("run/metrics.csv").open(newline="") as file:
        rows = [(row["frames"], row["iterations"]) for row in csv.DictReader(file) if row["iterations"]]
    assert rows == [("600", "20"), ("900", "30")]
    assert "no checkpoints, so it cannot be continued" in err and not Path("run/checkpoints").exists()


def test_it_is_asked_before_anything_is_written(own: tuple[str, ...]) -> None:
    said = refused(*own, "callbacks=[default,counting]", "callbacks.counting.most_tasks=2")
    assert said == "error: callbacks.counting.most_tasks=2: there are more\n"
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("callbacks=[default,countig]", "callbacks=countig: unknown; did you mean 'counting'?"),
        ("callbacks.counting.every_epochs=2", "callbacks.counting.every_epochs: unknown key"),
    ],
)
def test_mistakes_are_one_line(override: str, said: str, own: tuple[str, ...]) -> None:
    assert said in refused(*own, override)
