"""A run is built from its configuration, which stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_mtrl.config.compose import compose
from lit_mtrl.config.resolve import as_written, raw_value
from lit_mtrl.runs.run import Run


def test_the_configuration_is_not_changed(tmp_path: Path) -> None:
    cfg = compose(["debug"], [f"output_dir={tmp_path}/run", "collector.workers=0"])
    before = as_written(cfg)
    run = Run(cfg)
    assert as_written(cfg) == before and before["collector"]["policy_device"] == "auto"
    assert (run.cfg.collector.workers, run.cfg.collector.policy_device) == (run.data.workers, "cpu")
    assert run.agent.config == as_written(run.cfg)
    assert run.trainer.max_epochs == run.data.epochs == 2 and len(run.trainer.loggers) == 1
    assert not list(tmp_path.iterdir())


def test_a_value_that_is_looked_up_stays_a_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", "1")
    overrides = ["collector.workers='${oc.decode:${oc.env:WORKERS}}'", f"output_dir={tmp_path}/run"]
    run = Run(compose(["debug"], overrides))
    assert run.data.workers == 1 and raw_value(run.cfg, "collector.workers") == "${oc.decode:${oc.env:WORKERS}}"
