"""One MLflow run that can be written to again: whatever it has already is not written twice.

Every call can be cut off anywhere and made again with the same arguments.
"""

import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, final

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_LOGGED_ARTIFACTS, MLFLOW_PARENT_RUN_ID

from pipeline.files import sync_below
from pipeline.tracking.store import Store, every, local_path, store_errors

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
Point = tuple[str, float, int]
"""Metric, value, step."""
Moment = tuple[int, Iterable[Point]]
"""Points, and when they were measured, in milliseconds since 1970."""

_METRICS_A_BATCH, _PARAMS_A_BATCH = 900, 100
"""MLflow takes 1000 metrics and tags together."""
_PARAM_LENGTH, _TAG_LENGTH = 6000, 8000


@final
class Run:
    """A run of a sweep, new or taken up again."""

    def __init__(self, store: Store, entity: MlflowRun, *, is_new: bool) -> None:
        """Wrap the run; use `create_run` and `find_runs`."""
        self._store = store
        self._client = store.client
        self.id: str = entity.info.run_id
        self._artifacts = local_path(entity.info.artifact_uri)
        self.status: str = entity.info.status
        self.tags: dict[str, str] = dict(entity.data.tags)
        self._params = set(entity.data.params)
        self._metrics = set(entity.data.metrics)
        self._points: set[tuple[str, int]] | None = set() if is_new else None

    def params(self, values: Mapping[str, Any]) -> None:
        """Log the parameters that the run does not have yet; MLflow never changes one."""
        new = {key: value for key, value in values.items() if key not in self._params}
        params = [Param(key, _text(value, _PARAM_LENGTH)) for key, value in new.items()]
        for start in range(0, len(params), _PARAMS_A_BATCH):
            self._client.log_batch(self.id, params=params[start : start + _PARAMS_A_BATCH])
        self._params.update(new)

    def write(self, moments: Iterable[Moment] = (), tags: Mapping[str, Any] | None = None) -> None:
        """Log the metric points that the run does not have yet, and set or change tags, in as few requests as it takes.

        A point that is sent again is the same row for MLflow, as long as it was measured at the same moment.
        """
        had = self._had() if moments else set()
        new: dict[tuple[str, int], Metric] = {}
        for at_ms, points in moments:
            for key, value, step in points:
                if (key, step) not in had and (key, step) not in new:
                    new[key, step] = Metric(key, float(value), at_ms, step)
        metrics = list(new.values())
        texts = {key: _text(value, _TAG_LENGTH) for key, value in (tags or {}).items()}
        for start in range(0, max(len(metrics), bool(texts)), _METRICS_A_BATCH):
            end = start + _METRICS_A_BATCH
            last = [RunTag(key, value) for key, value in texts.items()] if end >= len(metrics) else []
            self._client.log_batch(self.id, metrics=metrics[start:end], tags=last)
        had.update(new)
        self.tags.update(texts)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set or change tags."""
        self.write(tags=tags)

    def datasets(self, name: str, source: str, splits: Mapping[str, tuple[str, int]]) -> None:
        """Log splits as dataset inputs; logging the same ones again changes nothing.

        Args:
            name: What the data are called.
            source: Where they come from.
            splits: Context (train, validation, test) -> (fingerprint, rows).
        """
        inputs = []
        for context, (fingerprint, num_rows) in splits.items():
            uri, profile = json.dumps({"uri": source}), json.dumps({"num_rows": num_rows})
            dataset = Dataset(f"{name} {context}", fingerprint, "local", source=uri, profile=profile)
            inputs.append(DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)]))
        try:
            self._client.log_inputs(self.id, datasets=inputs)
        except MlflowException as error:
            if not re.search("unique", str(error), re.IGNORECASE):
                raise
            # MLflow looks for the data and then inserts them. Another command did so in between: now they are found.
            self._client.log_inputs(self.id, datasets=inputs)

    def folder(self, local: Path, path: str) -> None:
        """Keep a folder's files as artifacts below `path`."""
        self._client.log_artifacts(self.id, str(local), path)
        self._sync(path)

    def file(self, path: str, data: bytes) -> None:
        """Keep a file as an artifact."""
        inside = PurePosixPath(path)
        with tempfile.TemporaryDirectory(prefix="artifact-") as folder:
            file = Path(folder) / inside.name
            file.write_bytes(data)
            parent = str(inside.parent)
            self._client.log_artifact(self.id, str(file), None if parent == "." else parent)
        self._sync(path)

    def table(self, path: str, data: bytes) -> None:
        """Keep a table as an artifact that the MLflow UI shows as one.

        MLflow's own `log_table` appends to what is there, which would double the rows of a resumed sweep.
        """
        self.file(path, data)
        shown = json.loads(self.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
        entry = {"path": path, "type": "table"}
        if entry not in shown:
            self.set_tags({MLFLOW_LOGGED_ARTIFACTS: json.dumps([*shown, entry])})

    def reopen(self) -> None:
        """Go on with a run that was ended by an interruption."""
        if self.status != "RUNNING":
            self._client.update_run(self.id, status="RUNNING")
            self.status = "RUNNING"

    def end(self, status: RunStatus) -> None:
        """End the run."""
        self._client.set_terminated(self.id, status)
        self.status = status

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written to it since it was found."""
        return not self._params and not self._metrics and not self._points

    def delete(self) -> None:
        """Put the run into MLflow's bin."""
        self._client.delete_run(self.id)

    def _sync(self, path: str) -> None:
        """Wait until the disk has what MLflow has copied into a local folder: the spool is about to forget it."""
        if self._artifacts is not None:
            sync_below(self._artifacts.parent.parent, self._artifacts / path)

    def _had(self) -> set[tuple[str, int]]:
        if self._points is None:
            history = (self._client.get_metric_history(self.id, key) for key in self._metrics)
            self._points = {(metric.key, metric.step) for metrics in history for metric in metrics}
        return self._points


def create_run(store: Store, name: str, tags: Mapping[str, Any], parent: Run | None = None) -> Run:
    """Start a run, below `parent` if there is one."""
    texts = {key: _text(value, _TAG_LENGTH) for key, value in tags.items()}
    if parent is not None:
        texts[MLFLOW_PARENT_RUN_ID] = parent.id
    return Run(store, store.client.create_run(store.experiment_id, tags=texts, run_name=name), is_new=True)


def find_runs(store: Store, sweep_id: str) -> Iterator[Run]:
    """Find every run of a sweep."""
    for entity in every(store.client.search_runs, [store.experiment_id], f"tags.sweep_id = '{sweep_id}'"):
        yield Run(store, entity, is_new=False)


def end_runs(store: Store, sweep_id: str) -> None:
    """End those runs of a killed sweep or pass that are still running; a TrackingError if the store refuses it."""
    with store_errors(store.uri):
        for run in find_runs(store, sweep_id):
            if run.status == "RUNNING":
                run.end("KILLED")


def json_bytes(value: Any) -> bytes:
    """Plain data as JSON that is read by people too."""
    return (json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n").encode()


def table_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as MLflow wants a table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return json_bytes({"columns": columns, "data": [[row.get(column) for column in columns] for row in rows]})


def _text(value: Any, length: int) -> str:
    text = str(value)
    return text if len(text) <= length else text[: length - 3] + "..."
