"""Another user of this machine."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

NOBODY = 65534


@contextmanager
def become_nobody() -> Iterator[None]:
    """Without root's rights."""
    gc.collect()  # what tests before have left is removed by root
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
