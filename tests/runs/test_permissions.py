"""Folders and stores that this user cannot write: one line with the owner and the remedy, before anything is
started.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from lit_mtrl.config.compose import compose
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.processes import denied, is_locked, lock_file
from lit_mtrl.runs import folder as folders
from lit_mtrl.runs import sweep as multirun
from lit_mtrl.runs.folder import LOCK, require_free
from lit_mtrl.runs.lock import require_idle
from lit_mtrl.runs.resume import frames_done, resumed
from lit_mtrl.tracking.mlflow import MLflowLogger
from tests.helpers.runs import stopped_at
from tests.helpers.users import NOBODY


def refused(call, *args: object) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_new_folder_in_one_of_another_user(open_folder: Path, nobody) -> None:
    run = open_folder / "outputs" / "run"
    require_free(run)
    with nobody():
        message = refused(require_free, run)
    assert message == (
        f"output_dir={run}: {open_folder} belongs to uid 0 and is not writable for uid {NOBODY}; as root `install -d"
        f" -o {NOBODY} {run}`, or start the container with `--user 0`, or choose another output_dir"
    )


def test_folder_of_another_user(open_folder: Path, nobody) -> None:
    with nobody():
        assert f"as root `chown -R {NOBODY} {open_folder}`" in refused(require_free, open_folder)
    os.chown(open_folder, NOBODY, -1)
    with nobody():
        require_free(open_folder)
        open_folder.chmod(0o555)
        assert f"{open_folder} is not writable for its owner, uid {NOBODY}; `chmod -R u+rwX" in refused(
            require_free, open_folder
        )


def test_folder_that_may_not_be_looked_into(open_folder: Path, nobody) -> None:
    (open_folder / "private").mkdir(mode=0o700)
    run = stopped_at(open_folder / "private", 300)
    with nobody():
        assert f"{open_folder}/private" in refused(require_free, run)
        assert frames_done(compose(["debug"], [f"output_dir={run}"])) == 0


def test_run_of_another_user_is_not_continued(open_folder: Path, nobody, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of what is in it may be this user's already."""
    monkeypatch.chdir(open_folder)
    cfg, run = compose(["debug"], []), stopped_at(open_folder, 300)
    cfg.output_dir = str(run)
    lock_file(run / LOCK).close()
    for path in (run, run / "config.yaml"):
        os.chown(path, NOBODY, -1)
    with nobody():
        assert f"{run}/{LOCK} belongs to uid 0" in refused(resumed, cfg) or "checkpoints belongs to uid 0" in refused(
            resumed, cfg
        )
    os.chown(run / LOCK, NOBODY, -1)
    os.chown(run / "checkpoints", NOBODY, -1)
    with nobody():
        assert f"{run}/checkpoints/last" in refused(resumed, cfg)
        assert "belongs to uid 0" in refused(folders.require_writable, run)


def test_lock_of_another_user_can_be_looked_at(open_folder: Path, nobody) -> None:
    with lock_file(open_folder / LOCK), nobody():
        assert is_locked(open_folder / LOCK)
        assert "another process is training there" in refused(require_idle, open_folder)
    with nobody():
        assert not is_locked(open_folder / LOCK)


def test_way_to_the_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert denied(tmp_path / "file" / "run") == f"{tmp_path}/file is not a folder"
    assert denied(tmp_path / "new" / "run") is None


def test_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def access(*_: object, effective_ids: bool = False) -> bool:
        return False

    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(os, "supports_effective_ids", {access})
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert denied(tmp_path / "run") == f"{tmp_path} is on a file system that is mounted read-only; mount it writable"


@pytest.mark.parametrize("mine", [(), (".",), (".", "mlflow.db"), (".", "mlflow.db", "mlflow.db.lock")])
def test_store_of_another_user(mine: tuple[str, ...], open_folder: Path, nobody) -> None:
    for name in ("mlflow.db", "mlflow.db.lock"):
        (open_folder / name).touch()
    (open_folder / "mlartifacts").mkdir()
    for name in mine:
        os.chown(open_folder / name, NOBODY, -1)
    missing = [open_folder, *(open_folder / name for name in ("mlflow.db", "mlflow.db.lock", "mlartifacts"))][len(mine)]
    logger = MLflowLogger(f"sqlite:///{open_folder}/mlflow.db", "x", "y", {}, {}, open_folder)
    with nobody():
        message = refused(logger.connect)
    whose = f"{missing} belongs to uid 0 and is not writable for uid {NOBODY};"
    start = f"logger.tracking_uri=sqlite:///{open_folder}/mlflow.db: {whose}"
    assert message.startswith(start) and f"`chown -R {NOBODY} {missing}`" in message


def test_sweep_where_nothing_can_be_written(open_folder: Path, nobody, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(open_folder)
    compose(["debug"], [])  # imports what a sweep does; another user may not read all of it
    with nobody():
        message = refused(multirun.launch, ["debug"], ["seed=0,1"])
    assert message.startswith(f"--multirun: {open_folder} belongs to uid 0 and is not writable for uid {NOBODY};")
    assert not list(open_folder.iterdir())


def test_sweep_over_runs_of_another_user(open_folder: Path, nobody, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(open_folder)
    run = stopped_at(open_folder, 300, "seed=1")
    for path in (Path("outputs"), Path("outputs/debug")):
        os.chown(path, NOBODY, -1)
    with nobody():
        message = refused(multirun.launch, ["debug"], ["seed=0,1"])
    assert message.startswith(f"output_dir={run.relative_to(open_folder)}: {run} belongs to uid 0")
