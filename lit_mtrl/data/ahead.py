"""Collection beside the updates: the next iteration's steps come from a thread while the learner works on this
one's.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

from tensordict import TensorDictBase

from lit_mtrl.data.collect import TaskCollector

log = logging.getLogger("lit_mtrl")

PATIENCE = 60.0
"""Seconds that `close` waits for a collection that does not end; whoever shuts the collector down then ends it."""


class CollectAhead:
    """One `TaskCollector.collect` in flight at most. What it raises is raised by `take`, and again by whoever takes
    again.
    """

    def __init__(self, collector: TaskCollector):
        self.collector = collector
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="collect")
        self._flight: Future[TensorDictBase] | None = None

    @property
    def busy(self) -> bool:
        """Whether a collection was started and its result not yet asked for."""
        return self._flight is not None

    def start(self) -> None:
        """Begin the next collection with what was published last."""
        self._flight = self._thread.submit(self.collector.collect)

    def result(self) -> TensorDictBase:
        """Wait for the collection that was started."""
        assert self._flight is not None, "no collection was started"
        data = self._flight.result()
        self._flight = None
        return data

    def close(self) -> None:
        """End what is in flight, and the thread; the collector is of no use afterwards."""
        stuck = False
        if self._flight is not None:
            self.collector.interrupt()
            stuck = bool(wait_for([self._flight], PATIENCE).not_done)
            if stuck:
                log.warning("the collection does not end; its environments are shut down")
        self._thread.shutdown(wait=not stuck, cancel_futures=True)
