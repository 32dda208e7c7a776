"""What a run says in the terminal: its own lines, above the progress bar."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from contextlib import suppress

from tqdm import tqdm

log = logging.getLogger("lit_mtrl")


def speak(first: bool) -> None:
    """Show our own messages, and leave out those of libraries, and warnings that do not apply to us.

    ``first``: whether this is the run's first rank, which speaks for all; of another one errors alone are shown.
    """
    if not log.handlers:
        tqdm.set_lock(threading.RLock())  # its own is for several processes, and takes a semaphore
        log.addHandler(_AboveTheBar())
        log.setLevel(logging.INFO)
        log.propagate = False
    if not first:
        log.setLevel(logging.ERROR)
    for name in ("lightning.pytorch", "lightning.fabric", "torchrl"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (".*transfer_batch_to_device.*", ".*isinstance.treespec, LeafSpec.*", ".*litlogger.*"):
        warnings.filterwarnings("ignore", message)


class _AboveTheBar(logging.StreamHandler):
    """Writes lines above a progress bar instead of into it; nothing where whoever read them has gone."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            tqdm.write(self.format(record), file=sys.stderr)
