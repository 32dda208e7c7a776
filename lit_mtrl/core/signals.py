"""How a process is told to end: by Ctrl-C (SIGINT), by SIGTERM, or because its terminal was closed (SIGHUP)."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FROM_TERMINAL = (signal.SIGINT, signal.SIGHUP)
"""Of these, what a terminal sends to all processes that run in it."""

_open: list[list[int]] = []
"""What has come to the blocks of `ended_by_signals` that this process is in."""


class Ended(SystemExit):
    """Signal ``signum`` has told this process to end; its text says so. ``code``: the exit code, as a shell has it.

    ``logged``: whether the run's log tells of it. It is a `SystemExit`, because Lightning ends the process itself at
    a `KeyboardInterrupt`.
    """

    def __init__(self, signum: int):
        super().__init__(128 + signum)
        self.signum, self.logged = signum, False

    def __str__(self) -> str:
        return "interrupted" if self.signum == signal.SIGINT else f"ended by {signal.Signals(self.signum).name}"


@contextmanager
def ended_by_signals(at_once: bool = True) -> Iterator[list[int]]:
    """Within the block, `ENDING` raise `Ended` in the main thread; yields the signals that have come.

    Not while one is being handled, so that nothing disturbs the cleaning up, nor after the block, if that has ended
    so: the process is about to go. A block within another one has the same list. What fails after a signal, perhaps
    because that came to other processes, too, becomes `Ended`. What this process ignores (under ``nohup``, say) stays
    ignored. Not ``at_once``: the first signal raises nothing; whoever looks at what has come raises.
    """
    came = _open[-1] if _open else []
    _open.append(came)

    def handle(signum: int, _: object) -> None:
        came.append(signum)
        if (at_once or len(came) > 1) and not _ending():
            raise Ended(came[0])

    # In another thread Python allows no handlers; a handler of None is not Python's.
    heeded = [s for s in ENDING if signal.getsignal(s) not in (signal.SIG_IGN, None)] if _in_main_thread() else []
    old = {signum: signal.signal(signum, handle) for signum in heeded}
    unraisable = sys.unraisablehook
    sys.unraisablehook = partial(_but_for_ended, unraisable)
    try:
        with starting_processes():
            pass  # Python's helper, which removes semaphores that are left, now outlives the terminal
        yield came
    except (Exception, SystemExit) as error:
        ended = bool(came) or isinstance(error, Ended)
        old = dict.fromkeys(old, signal.SIG_IGN) if ended else old
        if ended and not isinstance(error, Ended):
            raise Ended(came[0]) from error
        raise
    finally:
        _open.pop()
        sys.unraisablehook = unraisable
        for signum, handler in old.items():
            signal.signal(signum, handler)


def _but_for_ended(hook: Callable[[Any], object], lost: Any) -> None:
    """What Python does with an exception that it loses: nothing, if a signal raised it in a destructor."""
    if not isinstance(lost.exc_value, Ended):
        hook(lost)


def raise_if_told() -> None:
    """Raise `Ended` within `ended_by_signals` if a signal has come, and the exception was lost.

    Python loses one that meets a destructor or a library's bare ``except``, as there are many while packages are
    imported.
    """
    if _open and _open[-1] and not _ending():
        raise Ended(_open[-1][0])


@contextmanager
def starting_processes() -> Iterator[None]:
    """Processes that are started in the block do not see what a terminal sends to all, from their first moment on:
    their parent ends them.

    What comes for this process meanwhile is handled after the block: none of them is left half started.
    """
    came: list[int] = []
    handled = [s for s in ENDING if callable(signal.getsignal(s))] if _in_main_thread() else []
    old = {signum: signal.signal(signum, lambda signum, _: came.append(signum)) for signum in handled}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, FROM_TERMINAL)
    try:
        resource_tracker.ensure_running()  # else the first of them would start it, and that unblocks SIGINT
        signal.pthread_sigmask(signal.SIG_BLOCK, FROM_TERMINAL)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for signum, handler in old.items():
            signal.signal(signum, handler)
        if came:
            signal.raise_signal(came[0])


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _ending() -> bool:
    """Whether what is being handled, or what led to it, ends this process."""
    error = sys.exception()
    while error is not None and not isinstance(error, SystemExit):
        error = error.__context__
    return error is not None
