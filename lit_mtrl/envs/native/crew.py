"""Threads that step rows beside the one that asks for it; each takes the next row that nobody has taken.

They wait in the kernel for a byte in a pipe, without Python's lock. Whoever asks works as well, and goes on once every
row is done, not once every thread has been there: a thread that something else keeps from its core costs nothing but
its help. OpenMP's threads, which spin at a barrier, make everybody wait for it: beside two busy processes on two cores
they were four times slower than one thread.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Sequence

import numpy as np
from numba import typeof

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.pointers import call3, put, take
from lit_mtrl.envs.native.step import Rows, step_row

LIBC = ctypes.CDLL(None)
CALLS = np.array([ctypes.cast(getattr(LIBC, name), ctypes.c_void_p).value for name in ("read", "write")], np.int64)
"""Addresses of the system's functions."""


class Crew:
    """``threads`` that step ``rows``, the caller's among them."""

    def __init__(self, rows: Rows, threads: int):
        helpers = threads - 1
        # How many rows were taken, and how many are done.
        shared = rows, np.zeros(1, np.int64), np.zeros(1, np.int64), CALLS
        self._end = None
        woken = wake = done = finished = -1
        if helpers:
            (woken, wake), (done, finished) = os.pipe(), os.pipe()
            self._threads = [
                threading.Thread(target=serve, args=(*shared, woken, finished), name="lit_mtrl-step", daemon=True)
                for _ in range(helpers)
            ]
            for thread in self._threads:
                thread.start()
            self._end = weakref.finalize(self, _end, self._threads, wake, (woken, done, finished))
        self._run = *shared, wake, done, np.zeros(threads, np.uint8)
        self._serve = *shared, woken, finished

    def run(self) -> None:
        """A step of every row, by ``rows.actions``."""
        run(*self._run)

    def compile(self) -> None:
        """Have compiled what waits for its first call otherwise."""
        run.compile(tuple(map(typeof, self._run)))
        serve.compile(tuple(map(typeof, self._serve)))

    def close(self) -> None:
        """End the threads."""
        if self._end is not None:
            self._end()


def _end(threads: Sequence[threading.Thread], wake: int, others: Sequence[int]) -> None:
    os.close(wake)  # which ends what they read from
    for thread in threads:
        thread.join()
    for file in others:
        os.close(file)


@compiled
def work(rows, taken, finished):
    """Step rows until none is left to be taken; whether the last of all to be done was among them."""
    last, i = False, take(taken)
    while i < len(rows.model):
        step_row(rows, i, rows.actions[i])
        last = take(finished) == len(rows.model) - 1
        i = take(taken)
    return last


@compiled
def serve(rows, taken, finished, calls, woken, done):
    """What a helper does: a byte wakes it up, the pipe's end ends it. It may come too late, and help with a later step,
    or find nothing to do.
    """
    byte = np.zeros(1, np.uint8)
    while True:
        got = call3(calls[0], woken, byte.ctypes.data, 1)
        if got == 0:
            return
        if got == 1 and work(rows, taken, finished):  # else a signal came
            call3(calls[1], done, byte.ctypes.data, 1)


@compiled
def run(rows, taken, finished, calls, wake, done, crew):
    """A step of every row; returns when all are done.

    crew: ``[threads]``, uint8.
    """
    put(finished, 0)
    put(taken, 0)
    if len(crew) > 1:
        call3(calls[1], wake, crew.ctypes.data, len(crew) - 1)
    if not work(rows, taken, finished):
        while call3(calls[0], done, crew.ctypes.data, 1) != 1:
            pass
