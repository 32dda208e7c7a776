"""What makes MLflow's own pages useful at once: an experiment's note, and a saved view with the right columns, charts
and grouping.

A saved view is a tag of the experiment in the form that MLflow's page itself writes, which is not documented. A version
of MLflow that does not know it ignores it.
"""

from __future__ import annotations

import time
from typing import Any

from lit_mtrl.core.tables import to_json

VIEW = "success"
"""Key of the saved view, as in ``#/experiments/<id>/runs?viewStateShareKey=success``."""
NOTE = "One run per seed; *step* is frames, summed over tasks. The seeds of a method have one `group`."
COLUMNS = (
    "metrics.`eval/success`",
    "tags.`group`",
    "params.`seed`",
    "params.`network.width`",
    "params.`parameters.actor`",
)
CHARTS = (
    "eval/success",
    "eval/return",
    "train/success",
    "plasticity/critic_0/dormant",
    "loss/critic",
    "speed/frames_per_second",
)


def experiment_tags() -> dict[str, str]:
    """Tags of a new experiment."""
    now = int(time.time() * 1000)
    view = {"name": "Success by group", "createdAt": now, "updatedAt": now, "state": to_json(_state())}
    return {"mlflow.note.content": NOTE, f"mlflow.sharedViewState.{VIEW}": to_json(view)}


def _state() -> dict[str, Any]:
    sections = list(dict.fromkeys(name.rsplit("/", 1)[0] for name in CHARTS))
    return {
        "searchFilter": "",
        "orderByKey": "metrics.`eval/success`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(COLUMNS),
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": [_chart(name) for name in CHARTS],
        "compareRunSections": [_section(name) for name in sections],
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "group"}]},
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        "viewMaximized": False,
        "runListHidden": False,
    }


def _chart(metric: str) -> dict[str, Any]:
    return {
        "uuid": f"chart-{metric}",
        "type": "LINE",
        "runsCountToCompare": 10,
        "metricSectionId": f"section-{metric.rsplit('/', 1)[0]}",
        "deleted": False,
        "isGenerated": True,
        "metricKey": metric,
        "displayName": metric,
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _section(name: str) -> dict[str, Any]:
    flags = dict(display=True, isReordered=True, deleted=False, isGenerated=True)
    return {"uuid": f"section-{name}", "name": name, **flags}
