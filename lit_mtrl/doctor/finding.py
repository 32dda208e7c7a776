"""What a probe yields, and how its errors become findings."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

OK, MISSING, PROBLEM = "ok", "missing", "problem"
INSTALL = "pip install -r requirements.txt"


class Finding(NamedTuple):
    """``state``: `OK`, `MISSING` (it is not there) or `PROBLEM` (it is there, but does not work, or is too small)."""

    name: str
    state: str
    found: str
    remedy: str = ""


Probe = Callable[[], Iterable[Finding]]


class ProbeError(Exception):
    """Its argument is the finding that stands for an error."""


@contextmanager
def about(name: str, remedy: str) -> Iterator[None]:
    """Errors inside become a finding of this name."""
    try:
        yield
    except Exception as error:  # libraries' own, about which nothing is known
        raise ProbeError(Finding(name, PROBLEM, message(error), remedy)) from error


def guarded(probe: Probe) -> Iterator[Finding]:
    """What ``probe`` yields; an error ends it and is a finding, too."""
    try:
        yield from probe()
    except ProbeError as error:
        yield error.args[0]
    except ImportError as error:
        yield Finding(title(probe), MISSING, message(error), INSTALL)
    except Exception as error:  # whatever it is, the other probes go on
        yield Finding(title(probe), PROBLEM, message(error))


def title(probe: Probe) -> str:
    """What a finding about a probe itself is called."""
    return probe.__name__.replace("_", " ")


def message(error: Exception) -> str:
    """Kind and first line of an error."""
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0][:300]


def version(package: str) -> str | None:
    """The installed version, without what follows a ``+``; None if there is none."""
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def gigabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
