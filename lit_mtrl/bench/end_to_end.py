"""A short training run as `fit` does it, and where its time goes.

Between two iterations of the run, the same number of environment steps, of policy passes and of updates are timed
alone, so that what else the machine does falls on all. What remains of the iteration is everything else: collector,
replay, transfers, metrics, Lightning.

NOTE 1: evaluation, checkpoints and diagnostics happen once per epoch, and the run ends before.
NOTE 2: with overlap, collection would disturb what is timed alone; the figures of the run without it are used.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict

from lit_mtrl.bench.bare import Cores, policy_passes
from lit_mtrl.bench.machine import Memory
from lit_mtrl.bench.timing import synchronize, timed
from lit_mtrl.bench.update import transitions
from lit_mtrl.config.folders import file_of
from lit_mtrl.config.resolve import with_values
from lit_mtrl.data.collect import one_thread
from lit_mtrl.runs.build import build_suite, default_workers
from lit_mtrl.runs.run import Run
from lit_mtrl.runs.trainer import build_trainer

WARM = 2
"""Iterations with updates that are not counted: modes compile or capture in the first."""
LEAST = 3
"""Iterations that are counted at least, however long they take."""
STORED = 10_000
"""Transitions per task in the replay when the run starts, so that it does not fit into a cache."""
PARTS = ("environment", "policy", "update")


def end_to_end(cfg: DictConfig, seconds: float) -> list[dict[str, Any]]:
    """One row without and one with `collector.overlap`; shares are of an iteration."""
    rows = []
    alone: dict[str, float] = {}
    for overlap in (False, True):
        with tempfile.TemporaryDirectory(prefix="lit_mtrl-bench-") as folder:
            watch = _train(_short(cfg, Path(folder), overlap), seconds, aside=not overlap)
        iteration = statistics.median(watch.times)
        alone = alone or {part: statistics.median(watch.alone[part]) for part in PARTS}
        acting = alone["environment"] + alone["policy"]
        # With overlap the least that an iteration can take is the longer of the two.
        least = max(acting, alone["update"]) if overlap else acting + alone["update"]
        row: dict[str, Any] = {"overlap": overlap, "frames_per_second": watch.frames / sum(watch.times)}
        row |= {"updates_per_second": watch.updates / sum(watch.times), "iteration_ms": 1000 * iteration}
        row |= {f"{part}_ms": 1000 * alone[part] for part in PARTS}
        row |= {f"{part}_share": alone[part] / iteration for part in PARTS}
        rows.append({**row, "outside_share": (iteration - least) / iteration, **watch.memory})
    return rows


def _short(cfg: DictConfig, folder: Path, overlap: bool) -> DictConfig:
    """``cfg`` with one iteration of warm-up, its files in ``folder``, and nothing beside the training."""
    values = {"output_dir": str(folder), "callbacks": {}, "trainer.devices": 1}
    out = with_values(cfg, {**values, "collector.random_steps": cfg.collector.steps, "collector.overlap": overlap})
    out.collector.workers = out.collector.workers or default_workers(build_suite(out), overlap=overlap)
    out.logger = OmegaConf.merge(OmegaConf.load(file_of("logger", "csv")), {"log_frames": cfg.logger.log_frames})
    return out


def _train(cfg: DictConfig, seconds: float, aside: bool) -> _Watch:
    memory = Memory()
    run = Run(cfg)
    watch = _Watch(run, seconds, memory, aside)
    try:
        build_trainer(cfg, [watch], epochs=1).fit(run.agent, run.data)
    finally:
        run.data.teardown("fit")
        watch.close()
    return watch


class _Alone:
    """What an iteration of ``run`` cannot do without, each part alone; a part is called for one iteration's worth of
    it.
    """

    def __init__(self, run: Run):
        data, suite = run.data, run.data.suite
        self._cores = Cores(suite, data.workers, data.copies, data.policy.policy)
        self.environment, self.policy = (partial(self._cores.run, part, data.steps) for part in PARTS[:2])
        assert data.collector is not None
        device = data.collector._policy.device  # which need not be the learner's
        if device.type != "cpu":
            rows = [task for task in range(len(suite.tasks)) for _ in range(data.copies)]
            self._passes = policy_passes(copy.deepcopy(data.policy.policy).to(device), suite, rows)
            self.policy = partial(self._act, data.steps)
        assert run.agent.engine is not None
        self._engine = run.agent.engine

    def _act(self, steps: int) -> None:
        with one_thread():
            self._passes(steps)

    def measure(self, chunk: TensorDict) -> dict[str, float]:
        """Seconds of each part."""
        engine = self._engine
        calls = {"environment": self.environment, "policy": self.policy, "update": lambda: engine.run(chunk)}
        return {part: timed(calls[part]) for part in PARTS}

    def close(self) -> None:
        self._cores.close()


class _Watch(Checkpoint):
    """Times iterations from the end of one to the end of the next; as a `Checkpoint` it keeps Lightning from adding its
    own.
    """

    def __init__(self, run: Run, seconds: float, memory: Memory, aside: bool):
        self.run, self.seconds = run, seconds
        self.times: list[float] = []
        self.alone: dict[str, list[float]] = {part: [] for part in PARTS}
        self.frames = self.updates = 0
        self.memory: dict[str, float] = {}
        self._memory, self._aside, self._parts = memory, aside, None
        self._seen, self._since = -WARM, 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        data = self.run.data
        held = min(STORED, data.buffer.capacity or data.steps * data.copies)
        data.buffer.extend(transitions(data.suite, len(data.suite.tasks), 1, held))
        if self._aside:
            self._parts = _Alone(self.run)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        synchronize()
        now = time.perf_counter()
        if batch.chunk is None:
            return
        self._seen += 1
        if self._seen > 0:
            self.times.append(now - self._since)
            self.frames += self.run.data.iteration_frames
            self.updates += len(batch.chunk)
            if self._parts is not None:
                for part, seconds in self._parts.measure(batch.chunk).items():
                    self.alone[part].append(seconds)
        if sum(self.times) > self.seconds and len(self.times) >= LEAST:
            self.memory = self._memory.peaks()
            trainer.should_stop = True
        self._since = time.perf_counter()

    def close(self) -> None:
        """End what was started beside the run."""
        if self._parts is not None:
            self._parts.close()
