"""Figures: labels that do not run into each other, intervals, and what is laid beside."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.text import Text

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.envs.benchmarks import MT10
from lit_mtrl.report import figures
from lit_mtrl.report.groups import plan
from lit_mtrl.report.published import available, load, name_of, nearest_rows, protocol_notes, success_rows
from lit_mtrl.report.runs import read_folders
from lit_mtrl.report.style import COLOURS, styles
from lit_mtrl.report.summary import improvement_rows, measure
from tests.helpers.run_folders import write_run

NONE = load([])


def prepare(folder: Path, **options):
    made = plan(read_folders([folder]), **options)
    return [(panel, measure(panel, "iqm")) for panel in made.panels], made.labels


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory):
    """Twelve groups with long names."""
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    for width in (64, 128, 256, 512):
        for weighting in ("gradnorm", "uncertainty_of_long_name", "mean"):
            for seed in range(2):
                name, keys = (
                    f"{width}{weighting}{seed}",
                    dict(weighting__critic__name=weighting, network__width=width, seed=seed),
                )
                write_run(
                    folder / name,
                    rng.random((2, 10)).tolist(),
                    tasks=MT10,
                    network__name=f"network_{width}_of_a_long_name",
                    **keys,
                )
    return prepare(folder)


def overlaps(texts: Iterable[Text], renderer) -> list[tuple[str, str]]:
    boxes = [
        (text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_visible() and text.get_text()
    ]
    pairs = itertools.combinations(boxes, 2)
    return [(a, b) for (a, first), (b, second) in pairs if first.shrunk(0.98, 0.98).overlaps(second.shrunk(0.98, 0.98))]


@pytest.mark.parametrize("name", ["final", "over_frames", "per_task", "improvement"])
def test_labels_do_not_overlap(name: str, many) -> None:
    panels, labels = many
    assert len(labels) == 12 and min(map(len, labels)) > 40
    if name == "per_task":
        figure = figures.per_task(*panels[0]).figure
    elif name == "improvement":
        figure = figures.improvement(panels[0][0], improvement_rows(*panels[0])).figure
    else:
        figure = getattr(figures, name)(panels, labels, "iqm", NONE).figure
    assert figure is not None
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    for ax in figure.axes:
        assert (
            overlaps([*ax.get_xticklabels(), *ax.get_yticklabels(), ax.title, ax.xaxis.label, ax.yaxis.label], renderer)
            == []
        )
        for legend in figure.legends:
            assert not legend.get_window_extent(renderer).overlaps(ax.get_tightbbox(renderer))
    for legend in figure.legends:
        assert overlaps(legend.get_texts(), renderer) == []
        assert len(legend.get_texts()) == 12
        box, page = legend.get_window_extent(renderer), figure.bbox
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1
    assert overlaps([label for ax in figure.axes for label in ax.get_yticklabels()], renderer) == []


def test_twenty_styles_differ() -> None:
    looks = styles([str(i) for i in range(30)])
    assert len(set(COLOURS)) == 20
    assert len({tuple(look.items()) for look in looks.values()}) == 30


def test_curves_have_bands_only_with_several_seeds(tmp_path: Path) -> None:
    for i, (width, seed) in enumerate([(64, 0), (64, 1), (128, 0)]):
        write_run(tmp_path / str(i), [[0.1 * i] * 3, [0.2 + 0.1 * i] * 3], network__width=width, seed=seed)
    panels, labels = prepare(tmp_path)
    ax = figures.over_frames(panels, labels, "iqm", NONE).figure.axes[0]
    assert [list(line.get_ydata()) for line in ax.lines] == [pytest.approx([0.05, 0.25]), pytest.approx([0.2, 0.4])]
    assert list(ax.lines[0].get_xdata()) == [1000, 2000]
    assert len([each for each in ax.collections if isinstance(each, PolyCollection)]) == 1
    hours = figures.over_hours(panels, labels, "iqm").figure.axes[0]
    assert list(hours.lines[0].get_xdata()) == [0.5, 1.0]


def test_published_numbers(tmp_path: Path) -> None:
    """Ones of another horizon say so, in the legend and on the page."""
    write_run(tmp_path / "a", [[0.5] * 10, [0.6] * 10], tasks=MT10, at=[10_000_000, 20_000_000], frames=20_000_000)
    own = dict(
        benchmark="mt10", parameters=5.0, rewards="v2", goals="50", metric="success", low=np.nan, high=np.nan, seeds=3
    )
    rows = [
        {
            **own,
            "method": "A",
            "width": 64,
            "horizon": "150",
            "frames": at,
            "value": at / 1e8,
            "source": "Doe (2020), figure 1",
        }
        for at in (10_000_000, 20_000_000, 40_000_000)
    ]
    rows += [
        {
            **own,
            "method": "B",
            "width": 99,
            "horizon": "500",
            "frames": 40_000_000,
            "value": 0.3,
            "source": "Doe (2020), table 2",
        }
    ]
    rows += [{**rows[-1], "method": "C", "width": np.nan, "benchmark": name} for name in ("mt10", "mt50")]
    pd.DataFrame(rows).to_csv(tmp_path / "doe.csv", index=False)
    panels, labels = prepare(tmp_path)
    made = [panel for panel, _ in panels]
    table = success_rows(load([str(tmp_path / "doe.csv")]), made[0])
    assert table["method"].tolist() == ["A", "A", "A", "C"]  # width 64 was run, 99 was not
    names = [name_of(row, made[0]) for row in nearest_rows(table, made[0])]
    assert names == ["A 64 [Doe (2020), horizon 150]", "C [Doe (2020), at 40M frames]"]
    assert protocol_notes(table, made) == [
        "mt10: A of Doe (2020) was measured with horizon 150, runs here were not: what differs may be the protocol, not"
        " the method."
    ]
    figure = figures.over_frames(panels, labels, "iqm", table).figure
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "sac-multi_head",
        "A 64 [Doe (2020), horizon 150]",
    ]
    assert list(figure.axes[0].lines[1].get_ydata()) == [0.1, 0.2, 0.4]
    shown = [label.get_text() for label in figures.final(panels, labels, "iqm", table).figure.axes[0].get_yticklabels()]
    assert [label.replace("\n", " ") for label in shown] == ["sac-multi_head", *names]
    (tmp_path / "bad.csv").write_text("benchmark,method\n")
    with pytest.raises(ConfigError, match=r"bad.csv: lacks the columns horizon"):
        load([str(tmp_path / "bad.csv")])


@pytest.mark.parametrize("name", available())
def test_shipped_papers_can_be_read(name: str) -> None:
    table = load([name])
    assert len(table) and table["value"].notna().all() and table["paper"].str.len().gt(3).all()
