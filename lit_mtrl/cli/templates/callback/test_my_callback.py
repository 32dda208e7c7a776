"""What every callback must do; `python -m pytest test_my_callback.py`."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from lit_mtrl.cli.main import main
from lit_mtrl.cli.templates.callback.my_callback import MyCallback
from lit_mtrl.core.errors import ConfigError


def test_a_value_that_cannot_be_used_is_one_line() -> None:
    """And no traceback."""
    with pytest.raises(ConfigError, match="norm=0"):
        MyCallback(norm=0)


def test_a_run_records_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the probes, in seconds."""
    monkeypatch.chdir(Path(__file__).parent)
    mine = f"+callbacks.mine._target_={MyCallback.__module__}.MyCallback"
    assert main(["fit", "--config", "debug", f"output_dir={tmp_path}/run", mine]) == 0
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        moved = [float(row["my_callback/moved"]) for row in csv.DictReader(file) if row["my_callback/moved"]]
    assert len(moved) == 2 and 0 < moved[0]
