"""The table of a sweep, and what a sweeper that searches maximises."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_mtrl.config.compose import compose
from lit_mtrl.runs.summary import final_score


@pytest.mark.parametrize(
    "text", ["", "frames,success\n1", "frames,success\n1,x\n", "frbmes,success\n1,1\n", "frames,success\n\xff,1\n"]
)
def test_an_evaluation_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    cfg = compose(["debug"], [f"output_dir={tmp_path}"])
    assert final_score(cfg) is None
    (tmp_path / "eval.csv").write_bytes(text.encode("latin-1"))
    assert final_score(cfg) is None


def test_final_score_is_the_mean_of_the_last_evaluation(tmp_path: Path) -> None:
    cfg = compose(["debug"], [f"output_dir={tmp_path}"])
    assert final_score(cfg) is None
    (tmp_path / "eval.csv").write_text("frames,task,success\n")
    assert final_score(cfg) is None
    (tmp_path / "eval.csv").write_text("frames,task,success\n1,a,0.0\n1,b,0.0\n2,a,1.0\n2,b,0.5\n")
    assert final_score(cfg) == 0.75
