"""Tables: what is dropped is said, and what is not as the checkpoint saw it is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.tables import append_rows, check, frames_of, keep_rows_until, summary
from lit_mtrl.tracking.csv import CSVLogger

ROWS = [{"frames": frames, "task": task, "success": 0.25} for frames in (10, 20, 30) for task in ("a", "b")]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    append_rows(tmp_path / "eval.csv", ROWS)
    return tmp_path / "eval.csv"


def test_nothing_to_drop_leaves_the_file_alone(table: Path) -> None:
    before = table.stat().st_mtime_ns, table.read_bytes()
    assert keep_rows_until(table, 30) is None
    assert (table.stat().st_mtime_ns, table.read_bytes()) == before


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("", "eval.csv: rows dropped: 2 beyond the checkpoint at 20 frames"),
        ("40,a,0.5\r\n", "eval.csv: rows dropped: 3 beyond the checkpoint at 20 frames"),
        ("20,c,0.2", "eval.csv: rows dropped: 2 beyond the checkpoint at 20 frames, 1 cut short or unreadable"),
        ("20,c\r\n", "eval.csv: rows dropped: 2 beyond the checkpoint at 20 frames, 1 cut short or unreadable"),
        ("2o,c,0.5\r\n", "eval.csv: rows dropped: 2 beyond the checkpoint at 20 frames, 1 cut short or unreadable"),
        (
            "-5,c,0.5\r\n20,a,0,0\r\n",
            "eval.csv: rows dropped: 2 beyond the checkpoint at 20 frames, 2 cut short or unreadable",
        ),
        ("\x00\r\n", "eval.csv: rows dropped: 2 beyond the checkpoint at 20 frames, 1 cut short or unreadable"),
    ],
)
def test_what_is_dropped_is_said(ending: str, said: str, table: Path) -> None:
    """A last row that was cut within its last value has all columns, but not the value that was meant."""
    with table.open("a", newline="") as file:
        file.write(ending)
    assert keep_rows_until(table, 20) == said
    assert frames_of(table) == {10, 20}
    assert table.read_bytes().count(b"\r\n") == 5
    assert [path.name for path in table.parent.iterdir()] == ["eval.csv"]


def test_a_header_that_was_cut_short_goes(tmp_path: Path) -> None:
    (tmp_path / "eval.csv").write_text("frames,ta")
    assert (
        keep_rows_until(tmp_path / "eval.csv", 20)
        == "eval.csv: removed, for its header was cut short and it had no rows"
    )
    assert not (tmp_path / "eval.csv").exists()
    for text in ("mine", "x,y\n1,2"):
        (tmp_path / "mine.csv").write_text(text)
        assert keep_rows_until(tmp_path / "mine.csv", 20) is None
        assert (tmp_path / "mine.csv").read_text() == text and summary(tmp_path / "mine.csv") is None


def test_an_empty_table_gets_a_header(tmp_path: Path) -> None:
    (tmp_path / "eval.csv").touch()
    assert keep_rows_until(tmp_path / "eval.csv", 20) is None
    append_rows(tmp_path / "eval.csv", ROWS[:1])
    assert (tmp_path / "eval.csv").read_text().splitlines() == ["frames,task,success", "10,a,0.25"]


def test_rows_that_came_later_and_columns_that_were_added_are_no_damage(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1.5, "b": 2}, step=10)
    logger.log_metrics({"a": 2.5}, step=20)
    before = summary(logger.path)
    assert check(logger.path, before) is None
    logger.log_metrics({"a": 1, "c, d": 3}, step=30)
    assert check(logger.path, before) is None
    keep_rows_until(logger.path, 20)
    assert check(logger.path, before) is None


@pytest.mark.parametrize("place", range(0, 70, 3))
def test_any_flipped_bit_is_found(place: int, table: Path) -> None:
    before, whole = summary(table), bytearray(table.read_bytes())
    whole[place] ^= 1
    table.write_bytes(whole)
    try:
        said = check(table, before)
    except ConfigError as error:
        assert str(error).startswith(f"{table}: ") and "restore it from a copy, or move it away" in str(error)
    else:
        assert said is not None


def test_what_is_lacking_is_said(table: Path) -> None:
    before, whole = summary(table), table.read_bytes()
    for rows in range(6):
        table.write_bytes(b"".join(whole.splitlines(keepends=True)[: rows + 1]) + whole.splitlines()[rows + 1][:-1])
        assert check(table, before) == f"eval.csv: lacks {6 - rows} of the 6 rows that it had at the checkpoint"
    table.unlink()
    assert check(table, before) == "eval.csv: is missing, with 6 rows"
