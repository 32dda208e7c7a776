"""What is said once in a process, however often it holds."""

from __future__ import annotations

import logging
from functools import cache


@cache
def warn_once(text: str) -> None:
    """A warning of the package's log, unless the same one was given before."""
    logging.getLogger("lit_mtrl").warning(text)
