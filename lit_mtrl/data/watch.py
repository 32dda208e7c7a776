"""Processes that TorchRL's collector starts, and whoever waits for them: a wait ends when one of them has died."""

from __future__ import annotations

import os
import queue
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from torchrl.collectors import MultiSyncCollector
from torchrl.envs import EnvBase
from torchrl.weight_update import SharedMemWeightSyncScheme

from lit_mtrl.core.processes import die_with_parent
from lit_mtrl.core.signals import starting_processes

HAVE_ENDED = "collecting processes have ended"


def started(*args: Any, **options: Any) -> MultiSyncCollector:
    """TorchRL's collector, whose processes are ended by their parent alone."""
    with starting_processes():
        return MultiSyncCollector(*args, **options)


def exit_code(process: Any, wait: float = 0.2) -> int | None:
    """Of a process that has ended, or does within ``wait`` seconds, as one whose pipe has just broken; None if
    TorchRL has closed it.
    """
    try:
        process.join(wait)
        return process.exitcode
    except ValueError:
        return None


def require_alive(processes: Sequence[Any]) -> None:
    """Raise `RuntimeError`, which names them and their exit codes, if some of the processes have ended."""
    codes = {worker: exit_code(process, wait=0.0) for worker, process in enumerate(processes)}
    dead = ", ".join(f"worker {worker} (exit code {code})" for worker, code in codes.items() if code is not None)
    if dead:
        raise RuntimeError(f"{HAVE_ENDED}: {dead}")


def watched_get(get: Callable[..., Any], processes: Sequence[Any], *args: Any, **options: Any) -> Any:
    """A queue's `get` with a timeout, after which the processes are looked at."""
    try:
        return get(*args, **options)
    except queue.Empty:
        require_alive(processes)
        raise


class WatchedWeights(SharedMemWeightSyncScheme):
    """TorchRL waits without end for a worker to acknowledge its weights; this waits while the workers live."""

    workers: Sequence[Any] = ()

    def _wait_for_ack(self, worker_ids: int | list[int] | None = None, timeout: float | None = None) -> None:
        for acknowledged in self._ack_queues.values():  # pyright: ignore[reportAttributeAccessIssue]
            while True:
                try:
                    acknowledged.get(timeout=1.0)
                    break
                except queue.Empty:
                    require_alive(self.workers)


def worker_env(make: partial[EnvBase], log: Path) -> EnvBase:
    """Runs in the worker: keep what it says, end it with its parent, build its environments."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 2)
    os.close(file)
    die_with_parent()
    Queue._on_queue_feeder_error = staticmethod(_cannot_send)  # pyright: ignore[reportAttributeAccessIssue]
    return make()


def _cannot_send(error: Exception, _: object) -> None:
    """What a worker had to say could not be put into a queue."""
    traceback.print_exception(error)
    os._exit(1)
