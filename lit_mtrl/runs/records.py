"""What a run leaves in its folder while it trains: ``config.yaml``, ``run.json``, ``train.log``, and tables that end
where training goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lit_mtrl.core.files import LogFile, replacing, trouble
from lit_mtrl.core.signals import Ended
from lit_mtrl.core.tables import keep_rows_until, to_json
from lit_mtrl.runs.tags import RUN
from lit_mtrl.training.checkpoint import Saved

log = logging.getLogger("lit_mtrl")


class StoppedError(RuntimeError):
    """The run has ended by an error that has been logged in one line."""


@dataclass(frozen=True)
class Records:
    """The files of a run but for those of loggers and callbacks; its first rank keeps them.

    cfg: the configuration, with all that the machine has decided.
    labels: ``"tags"`` and ``"parameters"``, for ``run.json``.
    loggers: of this rank; those that have ``connect`` open their store first, and get copies of the files.
    saved: what the run is continued from; None for a new one.
    """

    cfg: DictConfig
    labels: Mapping[str, Any]
    loggers: Sequence[Any]
    saved: Saved | None

    @contextmanager
    def kept(self, about: str, frames: Callable[[], int]) -> Iterator[None]:
        """Keep them until the block, which trains, ends; the log says how.

        An error of the disk, or of a file in the folder, is raised as a `StoppedError` after it has been logged.

        about: one line about what runs where, for the log.
        frames: how many frames have been trained on at the time of the call.
        """
        folder = Path(self.cfg.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for logger in self.loggers:
            if hasattr(logger, "connect"):
                logger.connect()
        file = LogFile(folder / "train.log")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(file)
        try:
            self._begin(folder)
            log.info("%s", about)
            yield
            log.info("done at %s frames", f"{frames():,}")
        except Ended as ended:
            ended.logged = True
            log.error("%s at %s frames", ended, f"{frames():,}")
            raise
        except BaseException as error:
            reason = trouble(error, folder)
            log.error("stopped at %s frames: %s", f"{frames():,}", reason or str(error) or type(error).__name__)
            if reason is not None:
                raise StoppedError(reason) from error
            raise
        finally:
            log.removeHandler(file)
            with suppress(OSError):  # what could not be written has been said
                file.close()

    def _begin(self, folder: Path) -> None:
        """Write configuration and tags, and drop the rows beyond the checkpoint."""
        with replacing(folder / "config.yaml") as new:
            OmegaConf.save(self.cfg, new)
        run_id = next(filter(None, (getattr(logger, "run_id", None) for logger in self.loggers)), None)
        with replacing(folder / RUN) as new:
            new.write_text(to_json({**self.labels, "run_id": run_id}, indent=2) + "\n")
        for logger in self.loggers:
            for name in ("config.yaml", RUN) if hasattr(logger, "log_artifact") else ():
                logger.log_artifact(folder / name)
        for note in self.saved.notes if self.saved else ():
            log.warning("%s", note)
        done = self.saved.frames if self.saved else 0
        for table in sorted(folder.glob("*.csv")):
            if dropped := keep_rows_until(table, done):
                log.info("%s", dropped)
