"""Beside the peer, the JAX package `metaworld_algorithms` of McLean et al. (2025), which runs in a Python of its own.

Both sides take turns: collection with the policy acting (the peer's through its AsyncVectorEnv), and an update from
data that is at hand.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lit_mtrl.bench.collection import collector
from lit_mtrl.bench.limits import COPIES, STEPS
from lit_mtrl.bench.timing import ratio, turns
from lit_mtrl.bench.update import UPDATES, learner
from lit_mtrl.bench.variants import engines, learner_device, with_engine
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.tables import to_json
from lit_mtrl.envs.metaworld import MetaWorld
from lit_mtrl.runs.build import build_suite, default_workers
from lit_mtrl.training.modes import resolve_mode

PEER = "metaworld_algorithms"
BENCHMARKS = ("mt10", "mt25", "mt50")
CRITIC = "lit_mtrl.critics.scalar.ScalarCritic"
SCRIPT = Path(__file__).with_name("theirs.py")


def require_peer(cfg: DictConfig, python: str) -> None:
    """Raise `ConfigError` unless ``python`` can import the peer, and the peer can do what is configured."""
    meta_world = isinstance(build_suite(cfg), MetaWorld) and cfg.benchmark.name in BENCHMARKS
    same = (cfg.algo.name, cfg.network.name, cfg.critic._target_) == ("sac", "multi_head", CRITIC)
    require(
        meta_world and same,
        f"--peer: {PEER} is timed with algo=sac network=multi_head critic=twin on one of {', '.join(BENCHMARKS)}",
    )
    order = [python, "-P", "-c", f"import {PEER}.rl.algorithms"]
    try:
        found = subprocess.run(order, env=_environment(), capture_output=True, text=True, check=False)
    except OSError as error:
        raise ConfigError(f"--peer {python}: {error.strerror}; name a Python that has {PEER}") from None
    why = "".join(found.stderr.strip().splitlines()[-1:])
    require(found.returncode == 0, f"--peer {python}: it cannot import {PEER} ({why}); name a Python that has it")


def peer(cfg: DictConfig, seconds: float, python: str) -> list[dict[str, Any]]:
    """One row per way to collect, and one for the update as `fit` would do it; ``times_peer`` is our speed as a
    multiple of the peer's.
    """
    with ExitStack() as stack:
        theirs = Theirs(cfg, python)
        stack.callback(theirs.close)
        return [*_collection(cfg, seconds, theirs, stack), _update(cfg, seconds, theirs)]


class Theirs:
    """The peer in a process of its own, set up as ``cfg`` says; see `lit_mtrl.bench.theirs`."""

    def __init__(self, cfg: DictConfig, python: str):
        tasks = len(build_suite(cfg).tasks)
        setting = {"benchmark": cfg.benchmark.name.upper(), "tasks": tasks, "horizon": cfg.env.horizon}
        setting |= {"width": cfg.network.width, "depth": cfg.network.depth, "per_task": cfg.replay.per_task}
        setting |= {"steps": STEPS, "updates": UPDATES[learner_device(cfg).type]}
        self._said = tempfile.TemporaryFile("w+")
        self._process: Any = subprocess.Popen(
            [python, "-P", str(SCRIPT), to_json(setting)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=_environment(),
        )
        self._answer()

    def do(self, what: str) -> None:
        """Have it do what `theirs` calls ``what``, and wait."""
        with suppress(BrokenPipeError):  # `_answer` says why
            print(what, file=self._process.stdin, flush=True)
        self._answer()

    def _answer(self) -> None:
        if not self._process.stdout.readline():
            code = self._process.wait()
            self._said.seek(0)
            said = self._said.read()[-4000:]
            self.close()
            raise RuntimeError(f"the peer ended with exit code {code}: {said}")

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()
        self._said.close()


def _collection(cfg: DictConfig, seconds: float, theirs: Theirs, stack: ExitStack) -> list[dict[str, Any]]:
    calls: dict[str, Callable[[], object]] = {PEER: partial(theirs.do, "collect")}
    frames = {PEER: STEPS * len(build_suite(cfg).tasks)}
    for engine in engines(cfg):
        other = with_engine(cfg, engine)
        suite = build_suite(other)
        for copies in COPIES:
            name = f"{engine}, {copies} per task"
            calls[name] = collector(other, suite, default_workers(suite), copies, stack)
            frames[name] = STEPS * copies * len(suite.tasks)
    times = {name: [t / frames[name] for t in each] for name, each in turns(calls, seconds).items()}
    rate = {name: 1 / statistics.median(each) for name, each in times.items()}
    ours = [name for name in calls if name != PEER]
    return [_row("collection", name, "frames/s", rate[name], rate[PEER], ratio(times, PEER, name)) for name in ours]


def _update(cfg: DictConfig, seconds: float, theirs: Theirs) -> dict[str, Any]:
    device = learner_device(cfg).type
    mode = resolve_mode(cfg.engine.mode, cfg.engine.precision, device)
    engine, chunk = learner(cfg, mode, cfg.replay.per_task, UPDATES[device])
    times = turns({PEER: partial(theirs.do, "update"), mode: partial(engine.run, chunk)}, seconds)
    each = {name: 1000 * statistics.median(t) / UPDATES[device] for name, t in times.items()}
    return _row("update", mode, "ms", each[mode], each[PEER], ratio(times, PEER, mode))


def _row(what: str, how: str, unit: str, ours: float, theirs: float, times_peer: float) -> dict[str, Any]:
    return {"what": what, "ours_by": how, "unit": unit, "ours": ours, "peer": theirs, "times_peer": times_peer}


def _environment() -> dict[str, str]:
    """That of this process, without what would lead another Python to our packages."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
