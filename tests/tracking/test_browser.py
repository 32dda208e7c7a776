"""MLflow's pages in a browser: `lit_mtrl.tracking.ui` shows the runs by name, their curves side by side, and their
files.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from lit_mtrl.tracking.mlflow import MLflowLogger
from lit_mtrl.tracking.view import VIEW
from tests.helpers.processes import environment
from tools.screenshot import chromium, open_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
RUNS = {"sac-multi_head-s0": 0.9, "sac-moore-s1": 0.5}
"""Run names and their last success."""
POINTS = 5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], str]:
    """A folder with ``mlflow.db``, the ids of the two runs in it, and that of their experiment."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "eval.csv").write_text("frames,task,success\n100,reach,0.125\n")
    ids = []
    for name, last in RUNS.items():
        tags = {"method": name[:-3], "benchmark": "mt10", "group": name[:-3]}
        logger = MLflowLogger(f"sqlite:///{folder}/mlflow.db", "mt10", name, tags, {"seed": int(name[-1])}, folder)
        logger.connect()
        for step in range(1, POINTS + 1):
            success = last * step / POINTS
            metrics = {
                "eval/success": success,
                "eval/success/reach": success,
                "loss/critic": 1 / step,
                "alpha/reach": 0.1,
            }
            logger.log_metrics(metrics, step=1000 * step)
        logger.log_artifact(folder / "eval.csv")
        logger.finalize("success")
        assert logger.run_id
        ids.append(logger.run_id)
    return folder, ids, logger._client.get_experiment_by_name("mt10").experiment_id


@pytest.fixture(scope="module")
def address(store: tuple[Path, list[str], str]) -> Iterator[str]:
    """Of the server, without a slash at the end."""
    options: dict[str, Any] = dict(cwd=store[0], env=environment(), stdout=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-m", "lit_mtrl", "ui", "--port", "0"], **options) as process:
        try:
            assert process.stdout
            found = re.match(r"MLflow: (http://[\d.:]+)/start ", process.stdout.readline())
            assert found
            yield found[1]
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0  # while the browser's connections are open, or just closed
        finally:
            process.kill()


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    """A page that must not ask anybody but the server; as a new user's, nothing is chosen in it."""
    if chromium() is None:
        pytest.fail("this test needs Chromium: apt install chromium")
    asked: list[str] = []
    with open_page(choices={}) as page:
        page.on("request", lambda request: asked.append(request.url))
        yield page
        page.wait_for_timeout(500)
    outside = [url for url in asked if urlsplit(url).scheme.startswith("http") and not url.startswith(address)]
    assert asked and not outside


def curves(page: Any) -> dict[str, tuple[list[float], list[float]]]:
    """Steps and values by run name of the lines that the page's first chart draws."""
    page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot .scatterlayer path.js-line').length >= 2")
    lines = page.evaluate("() => document.querySelector('.js-plotly-plot').data.map(d => [d.name, [...d.x], [...d.y]])")
    return {name: (x, y) for name, x, y in lines if x}


def assert_curves_of_both(page: Any) -> None:
    found = curves(page)
    assert sorted(found) == sorted(RUNS)
    for name, last in RUNS.items():
        assert found[name][0] == [1000 * step for step in range(1, POINTS + 1)]
        assert found[name][1] == pytest.approx([last * step / POINTS for step in range(1, POINTS + 1)])


def test_start_leads_to_the_runs(page: Any, address: str, tmp_path: Path) -> None:
    """From the printed address by clicks, not into the pages on language models."""
    page.goto(f"{address}/start")
    page.get_by_role("link", name="mt10", exact=True).first.click()
    for name in RUNS:
        page.get_by_role("link", name=name).wait_for()
    assert "workflowType=machine_learning" in page.url
    page.screenshot(path=tmp_path / "runs.png")
    assert not page.get_by_text("Ask questions about your").is_visible()  # the chat


def test_saved_view_groups_success_by_method(
    page: Any, address: str, store: tuple[Path, list[str], str], tmp_path: Path
) -> None:
    """MLflow knows the view that experiments are made with: success first, one line per group."""
    where = f"{address}/#/experiments/{store[2]}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"
    page.goto(f"{where}&compareRunsMode=CHART")
    page.get_by_text("Success by group").first.wait_for()
    page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot .scatterlayer path.js-line').length >= 2")
    for name in RUNS:
        page.get_by_text(f"Group: {name[:-3]}").first.wait_for()
    drawn = page.evaluate("() => document.querySelector('.js-plotly-plot').data.map(d => [d.metricKey, [...d.y]])")
    ends = {y[-1] for key, y in drawn if key == "eval/success"}
    assert ends == set(RUNS.values())
    page.screenshot(path=tmp_path / "view.png")


def test_compare_leads_to_curves_of_both(
    page: Any, address: str, store: tuple[Path, list[str], str], tmp_path: Path
) -> None:
    """The compare view names both runs; its link of the metric draws both over frames."""
    _, ids, experiment = store
    page.goto(f"{address}/#/compare-runs?runs={quote(json.dumps(ids))}&experiments={quote(json.dumps([experiment]))}")
    page.get_by_text("Comparing 2 Runs from 1 Experiment").first.wait_for()
    for name in RUNS:
        assert page.get_by_text(name, exact=True).count()
    page.screenshot(path=tmp_path / "compare.png")
    page.get_by_role("link", name="eval/success", exact=True).click()
    page.get_by_text("sac-moore-s1 (eval/success)").wait_for()
    page.get_by_text("sac-multi_head-s0 (eval/success)").wait_for()
    assert_curves_of_both(page)
    page.screenshot(path=tmp_path / "curves.png")


def test_charts_of_chosen_runs(page: Any, address: str, store: tuple[Path, list[str], str], tmp_path: Path) -> None:
    """The chart view of an experiment, for the runs that a link names."""
    _, ids, experiment = store
    chosen = quote("attributes.run_id IN ('{}','{}')".format(*ids))
    mode = "workflowType=machine_learning&compareRunsMode=CHART"
    page.goto(f"{address}/#/experiments/{experiment}/runs?{mode}&searchFilter={chosen}")
    page.get_by_text("2 matching runs").wait_for()
    page.get_by_placeholder("Search metric charts").fill("eval/success$")
    page.get_by_text("sac-moore-s1 (eval/success)").first.wait_for()
    assert_curves_of_both(page)
    page.screenshot(path=tmp_path / "charts.png")


def test_files_open(page: Any, address: str, store: tuple[Path, list[str], str]) -> None:
    _, ids, experiment = store
    page.goto(f"{address}/#/experiments/{experiment}/runs/{ids[0]}/artifacts/eval.csv")
    page.get_by_text("0.125").first.wait_for()
