"""Evaluation in the background: the rows and the best weights of the foreground, whenever results come and whenever the
run dies.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import nn

import lit_mtrl.callbacks.evaluation
from lit_mtrl.algos.base import Algorithm, Objective
from lit_mtrl.callbacks.checkpoint import Checkpoint
from lit_mtrl.callbacks.evaluation import Evaluation
from lit_mtrl.config.compose import compose
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.manifest import exists
from lit_mtrl.core.tables import append_rows, keep_rows_until
from lit_mtrl.data.module import DataModule
from lit_mtrl.envs.probes import Probes
from lit_mtrl.evaluation.evaluator import PENDING, Episodes, Evaluator
from lit_mtrl.runs.resume import resumed
from lit_mtrl.runs.run import Run
from lit_mtrl.tracking.csv import CSVLogger
from lit_mtrl.training.checkpoint import find, load
from tests.helpers.runs import BARE, read, same

NEVER = 10**9
ITERATIONS, FRAMES = 4, 10
"""Of an epoch; of an iteration."""
EPOCH = ITERATIONS * FRAMES
SUCCESS = (0.25, 0.5, 0.375, 0.875, 0.125, 0.625, 0.875)
"""Of the weights at the ends of the epochs."""
SUITE = Probes(["a", "b"])


class Actor(nn.Module):
    """Its one weight counts iterations."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)


class Acting(Algorithm):
    """Nothing but its policy."""

    def __init__(self):
        super().__init__()
        self.actor = Actor()  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def policy(self) -> Any:
        return self.actor

    def objectives(self) -> tuple[Objective, ...]:
        return ()


class Late(Evaluator):
    """Knows the success of the weights; a result is there when it has been asked for ``polls`` times."""

    def __init__(self, polls: int):
        super().__init__(SUITE, episodes=1, workers=1)
        self.polls, self.jobs = polls, []

    def submit(self, actor: Any) -> Any:
        assert all(job.taken for job in self.jobs), "two evaluations at a time"
        epochs, rest = divmod(int(actor.weight), ITERATIONS)
        assert rest == 0, "not the weights of an epoch's end"
        values = np.array([[SUCCESS[epochs - 1]], [0.0]]), np.full((2, 1), epochs), np.ones((2, 1))
        self.jobs.append(LateJob(Episodes(*values), self.polls))
        return self.jobs[-1]


class LateJob:
    def __init__(self, result: Episodes, polls: int):
        self._result, self.polls, self.taken = result, polls, False

    def done(self) -> bool:
        self.polls -= 1
        return self.polls < 0

    def result(self) -> Episodes:
        self.taken = True
        return self._result


class Data(DataModule):
    """Of a module only what the callbacks need."""

    def __init__(self):
        self.suite, self.buffer = SUITE, SimpleNamespace(dumps=lambda path: path.mkdir() or {})  # pyright: ignore
        self.resumed = None


def train(
    folder: Path, every: int = 1, keep: int = 1, background: bool = True, polls: int = 0, watch: Any = None
) -> None:
    """A run's hooks in Lightning's order, from the last checkpoint if there is one; ``watch(frames)`` after every
    iteration.
    """
    folder.mkdir(exist_ok=True)
    evaluation, checkpoint = Evaluation(every, background=background), Checkpoint(keep)
    evaluation.evaluator = Late(polls)
    algorithm = Acting()
    actor = algorithm.policy
    agent: Any = SimpleNamespace(algorithm=algorithm, frames=0, tasks=SUITE.tasks)

    def save(path: Path, weights_only: bool) -> None:
        state = {"algorithm.actor.weight": actor.weight.clone()}
        parts = {"callback": checkpoint.state_dict(), "lit_mtrl": {"frames": agent.frames}}
        torch.save({"state_dict": state, **parts}, path)

    metrics: dict[str, torch.Tensor] = {}
    trainer: Any = SimpleNamespace(
        default_root_dir=str(folder),
        callback_metrics=metrics,
        loggers=[CSVLogger(folder)],
        datamodule=Data(),
        max_epochs=len(SUCCESS),
        save_checkpoint=save,
        is_global_zero=True,
        global_rank=0,
        world_size=1,
        strategy=SingleDeviceStrategy(),
    )
    if exists(folder / "checkpoints"):
        saved = find(folder / "checkpoints", "")
        agent.frames, trainer.datamodule.resumed = saved.frames, saved.sidecar
        actor.weight.copy_(saved.content["state_dict"]["algorithm.actor.weight"])
        checkpoint.load_state_dict(saved.content["callback"])
    for table in folder.glob("*.csv"):
        keep_rows_until(table, agent.frames)
    evaluation.on_train_start(trainer, agent)
    checkpoint.on_train_start(trainer, agent)
    for trainer.current_epoch in range(agent.frames // EPOCH, len(SUCCESS)):
        for _ in range(ITERATIONS):
            agent.frames += FRAMES
            actor.weight.add_(1)
            evaluation.on_train_batch_end(trainer, agent)
            checkpoint.on_train_batch_end(trainer, agent)
            if watch is not None:
                watch(agent.frames)
        evaluation.on_train_epoch_end(trainer, agent)
        checkpoint.on_train_epoch_end(trainer, agent)
    evaluation.on_train_end(trainer, agent)
    checkpoint.on_train_end(trainer, agent)
    assert "eval/pending" not in metrics


def compare(one: Path, two: Path) -> None:
    """Rows and weights, and no file that should be gone."""
    assert (one / "eval.csv").read_text() == (two / "eval.csv").read_text()
    for name in ("best", "last"):
        a, b = (load(run / "checkpoints" / f"{name}.ckpt", "") for run in (one, two))
        same(a["state_dict"], b["state_dict"])
        assert a["lit_mtrl"]["frames"] == b["lit_mtrl"]["frames"]
    left = {p.name for p in (two / "checkpoints").iterdir()} - {"last.old", "last.ckpt.old"}
    assert left == {"best.ckpt", "last", "last.ckpt"}


def frames_in(table: Path) -> list[int]:
    return sorted({int(row["frames"]) for row in read(table)}) if table.exists() else []


def test_foreground(tmp_path: Path) -> None:
    """What the others are compared with."""
    train(tmp_path, background=False)
    rows = read(tmp_path / "eval.csv")
    assert [int(r["frames"]) for r in rows] == [EPOCH * e for e in range(1, 8) for _ in SUITE.tasks]
    assert [float(r["success"]) for r in rows[::2]] == list(SUCCESS)
    assert load(tmp_path / "checkpoints" / "best.ckpt", "")["lit_mtrl"]["frames"] == 4 * EPOCH


@pytest.mark.parametrize("every", [1, 2, 3])
def test_same_as_in_the_foreground(every: int, tmp_path: Path) -> None:
    train(tmp_path / "foreground", every, background=False)
    for keep, polls in product((1, 2, 3), (0, 2, 5, NEVER)):
        run = tmp_path / f"{keep}-{polls}"
        train(run, every, keep, polls=polls)
        compare(tmp_path / "foreground", run)
        logged = {r["frames"]: r["eval/success"] for r in read(run / "metrics.csv")}
        assert {int(k): 2 * float(v) for k, v in logged.items()} == {
            EPOCH * e: SUCCESS[e - 1] for e in range(1, 8) if e % every == 0 or e == 7
        }


def test_results_come_while_training_goes_on(tmp_path: Path) -> None:
    seen = []

    def watch(frames: int) -> None:
        seen.append((frames_in(tmp_path / "eval.csv"), (tmp_path / "checkpoints" / PENDING).exists()))

    train(tmp_path, polls=1, watch=watch)
    assert seen[:ITERATIONS] == [([], False)] * ITERATIONS
    assert seen[ITERATIONS : 2 * ITERATIONS] == [([], True)] + [([EPOCH], False)] * 3


class Died(BaseException):
    """As if the process had been killed here."""


class Mortal:
    """Dies before the ``left``-th change of a file; a table may have got some of its rows by then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.left = NEVER
        for name in ("replace", "unlink", "rename", "write_text"):
            monkeypatch.setattr(Path, name, self.counted(getattr(Path, name)))
        monkeypatch.setattr(shutil, "copyfile", self.counted(shutil.copyfile))
        monkeypatch.setattr(shutil, "rmtree", self.counted(shutil.rmtree))
        monkeypatch.setattr(torch, "save", self.counted(torch.save))
        append = self.counted(append_rows)
        monkeypatch.setattr(
            lit_mtrl.callbacks.evaluation, "append_rows", lambda path, rows: [append(path, [row]) for row in rows]
        )

    def counted(self, function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Died
            return function(*args, **kwargs)

        return call

    def dies(self, left: int, run: Callable[[], None]) -> bool:
        self.left = left
        try:
            run()
        except Died:
            return True
        finally:
            self.left = NEVER
        return False


@pytest.mark.parametrize(("every", "keep", "polls"), [(1, 1, 1), (1, 3, 0), (2, 1, 6), (3, 2, NEVER)])
def test_killed_before_any_change_of_a_file_and_resumed(
    every: int, keep: int, polls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "foreground", every, background=False)
    mortal = Mortal(monkeypatch)
    deaths = 0
    while True:
        attempt = partial(train, tmp_path / str(deaths), every, keep, polls=polls)
        if not mortal.dies(deaths, attempt):
            break
        attempt()
        compare(tmp_path / "foreground", tmp_path / str(deaths))
        deaths += 1
    assert deaths > 40


@pytest.mark.parametrize("seed", range(6))
def test_killed_again_and_again(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the background, or, since that may be changed on resuming, in the foreground."""
    draw = random.Random(seed)
    every, keep = draw.choice((1, 2, 3)), draw.choice((1, 2))
    train(tmp_path / "foreground", every, background=False)
    mortal = Mortal(monkeypatch)
    run, deaths = tmp_path / "run", 0

    def attempt() -> None:
        train(run, every, keep, polls=draw.choice((0, 1, 3, 6, NEVER)), background=draw.random() < 0.8)

    while mortal.dies(draw.randrange(3, 25), attempt):
        deaths += 1
    compare(tmp_path / "foreground", run)
    assert deaths > 0


def test_leftovers_of_a_run_that_died_before_its_first_checkpoint(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    shutil.copyfile(tmp_path / "whole" / "checkpoints" / "last.ckpt", tmp_path / "run" / "checkpoints" / PENDING)
    train(tmp_path / "run")
    compare(tmp_path / "whole", tmp_path / "run")


def test_waiting_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(lit_mtrl.callbacks.evaluation, "LONG", -1.0)
    with caplog.at_level("INFO", "lit_mtrl"):
        train(tmp_path, polls=NEVER)
    assert caplog.text.count("training waited 0 s for the evaluation before") == len(SUCCESS) - 1


def test_official_evaluation_cannot() -> None:
    with pytest.raises(ConfigError, match=r"^eval.background=true: eval.protocol=official .*; use every_goal"):
        Evaluation(protocol="official", background=True)


class Stop(lightning.Callback):
    def __init__(self, frames: int):
        self.frames = frames

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *args: Any) -> None:
        if pl_module.frames >= self.frames:
            raise Died


def fit(folder: Path, *overrides: str, stop: int = NEVER, resume: bool = False) -> None:
    lean = (*BARE, "frames=900", "network.width=8", "collector.updates_per_step=0.2")
    cfg = compose(["debug"], [f"output_dir={folder}", *lean, *overrides])
    run = Run(cfg, resumed(cfg) if resume else None)
    run.trainer.callbacks.append(Stop(stop))  # pyright: ignore[reportAttributeAccessIssue]
    run.fit()


def test_whole_runs(tmp_path: Path) -> None:
    """With Lightning, and a process that plays: interrupted and resumed, as in the foreground, bit for bit."""
    fit(tmp_path / "foreground")
    with pytest.raises(Died):
        fit(tmp_path / "killed", "eval.background=true", stop=645)
    fit(tmp_path / "killed", "eval.background=true", resume=True)
    compare(tmp_path / "foreground", tmp_path / "killed")
