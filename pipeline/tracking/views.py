"""Pages of the MLflow UI that are worth opening: the jobs' table, and the trials of a job side by side.

The UI keeps a view (filter, columns, charts) as a tag of the experiment, by which a link opens it. That is private to
the UI, so it stands in this file alone and is used with the versions that a browser has tried; with any other, a link
opens MLflow's plain comparison of a job's trials, which needs no view.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import mlflow
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from pipeline.tracking.store import Store, every

TRIED = ("3.17.",)
"""Beginnings of the versions of MLflow whose UI opens these views (tests/unit/tracking/test_views.py)."""
MOST_JOBS = 8
"""Jobs that get a link of their own."""
_TAG, _KEY = "mlflow.sharedViewState.", "viewStateShareKey"
_SCORE, _SEARCHED = "best/primary", ("learning_rate", "width")
_TIMEOUT_S = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A page of the UI."""

    title: str
    url: str


def links(store: Store, address: str, sweep_id: str | None = None) -> list[Link]:
    """Prepare the pages, and say where they are: the table of all jobs, then each job's trials, of `MOST_JOBS` at most.

    Args:
        store: Where it is recorded.
        address: Of the UI, without a slash at the end.
        sweep_id: Whose trials. None: of the newest sweep.

    Returns:
        None, where the store cannot be asked: they are a convenience, and all else is recorded.
    """
    try:
        return list(_links(store, address, sweep_id))
    except (MlflowException, OSError) as error:
        _log.warning("There are no links to the UI: %s", error)
        return []


def _links(store: Store, address: str, sweep_id: str | None) -> Iterator[Link]:
    tried = _version(store).startswith(TRIED)
    runs = f"{address}/#/experiments/{store.experiment_id}/runs?workflowType=machine_learning"
    table = f"{runs}&{_KEY}={_keep(store, 'jobs', 'The winner of each job', _jobs_view())}" if tried else runs
    yield Link(title="all jobs", url=table)
    if sweep_id is None:
        newest = _first(store, "tags.kind = 'sweep'", 1)
        sweep_id = newest[0].data.tags.get("sweep_id") if newest else None
    jobs = _first(store, f"tags.kind = 'job' and tags.sweep_id = '{sweep_id}'", MOST_JOBS)
    for name in sorted(job.data.tags["job"] for job in jobs):
        wanted = f"tags.kind = 'trial' and tags.sweep_id = '{sweep_id}' and tags.job = '{name}'"
        trials = list(every(store.client.search_runs, [store.experiment_id], wanted))
        if not trials:
            continue
        if tried:
            key = f"trials-{hashlib.sha256(name.encode()).hexdigest()[:12]}"  # each sweep's in the place of the last
            _keep(store, key, f"Trials of {name}", _trials_view(wanted, _varied(trials)))
            yield Link(title=f"trials of {name}", url=f"{runs}&compareRunsMode=CHART&{_KEY}={key}")
        else:
            yield Link(title=f"trials of {name}", url=f"{address}/{_comparison(store, trials)}")


def _first(store: Store, wanted: str, count: int) -> list[Run]:
    """The newest runs of a kind."""
    order = ["attributes.start_time DESC"]
    return list(store.client.search_runs([store.experiment_id], wanted, ViewType.ACTIVE_ONLY, count, order))


def _version(store: Store) -> str:
    """Of the MLflow that shows the UI: of this machine, or of the server."""
    if store.is_local:
        return str(mlflow.__version__)
    asked: dict[str, Any] = {"max_retries": 0, "timeout": _TIMEOUT_S, "raise_on_status": False}
    reply = http_request(get_default_host_creds(store.uri), "/version", "GET", **asked)
    return str(reply.text).strip() if reply.status_code == 200 else ""


def _keep(store: Store, key: str, name: str, state: Mapping[str, Any]) -> str:
    """Keep a view under a name that the UI lists too, and return its key."""
    now = int(time.time() * 1000)
    view = {"name": name, "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
    store.client.set_experiment_tag(store.experiment_id, f"{_TAG}{key}", json.dumps(view))
    return key


def _comparison(store: Store, trials: Sequence[Run]) -> str:
    """MLflow's own page for runs that were chosen by hand."""
    chosen = {"runs": [run.info.run_id for run in trials], "experiments": [store.experiment_id]}
    return "#/compare-runs?" + "&".join(f"{key}={quote(json.dumps(ids))}" for key, ids in chosen.items())


def _varied(trials: Sequence[Run]) -> list[str]:
    """Learning rate, width, and what else the trials differ in."""
    values: dict[str, set[str]] = {}
    for run in trials:
        for name, value in run.data.params.items():
            values.setdefault(name, set()).add(value)
    return [*_SEARCHED, *sorted(name for name, found in values.items() if len(found) > 1 and name not in _SEARCHED)]


def _jobs_view() -> dict[str, Any]:
    """The jobs of all sweeps, the newest first, with what they reached and with which settings."""
    scores = ["test/primary", "test/low", "test/high", "test/baseline"]
    columns = [*_columns("metrics", scores), *_columns("params", _SEARCHED), *_columns("tags", ["method"])]
    # In the order of time, which is the default, jobs would be hidden below their sweeps. A sweep's id begins with it.
    order = {"orderByKey": "tags.`sweep_id`", "orderByAsc": False}
    return {"searchFilter": "tags.kind = 'job'", **order, "selectedColumns": columns, "columnOrder": columns}


def _trials_view(wanted: str, params: Sequence[str]) -> dict[str, Any]:
    """The trials of a job, the best first: a line each through settings and score, and their curves."""
    section = "trials"
    lines = _chart("PARALLEL", section, selectedParams=list(params), selectedMetrics=[_SCORE], showAllRuns=True)
    curves = _chart("LINE", section, metricKey="eval/primary", displayName="eval/primary")
    return {
        "searchFilter": wanted,
        "orderByKey": f"metrics.`{_SCORE}`",
        "orderByAsc": False,
        "selectedColumns": [*_columns("metrics", [_SCORE]), *_columns("params", params)],
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,  # else the sections that the UI adds come first
        "compareRunCharts": [lines, curves],
        "compareRunSections": [
            {
                "uuid": section,
                "name": "settings and score",
                "columns": 1,
                "display": True,
                "isReordered": False,
                "deleted": False,
                "isGenerated": False,
            }
        ],
    }


def _columns(kind: str, names: Sequence[str]) -> list[str]:
    return [f"{kind}.`{name}`" for name in names]


def _chart(kind: str, section: str, **values: Any) -> dict[str, Any]:
    whole = {"uuid": f"{section}-{kind}", "type": kind, "metricSectionId": section, "runsCountToCompare": 100}
    return {**whole, "deleted": False, "isGenerated": False, **values}
