"""One MLflow run that can be written to again: whatever it has already is not written twice."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_LOGGED_ARTIFACTS, MLFLOW_PARENT_RUN_ID

from pipeline.tracking.store import Store, every

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
Point = tuple[str, float, int]
"""Metric, value, step."""

_METRICS_A_BATCH, _PARAMS_A_BATCH = 1000, 100
_PARAM_LENGTH, _TAG_LENGTH = 6000, 8000


@final
class Run:
    """A run of a sweep, new or taken up again."""

    def __init__(self, store: Store, entity: MlflowRun, *, is_new: bool) -> None:
        """Wrap the run; use `create_run` and `find_runs`."""
        self._store = store
        self._client = store.client
        self.id: str = entity.info.run_id
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

    def points(self, points: Iterable[Point]) -> None:
        """Log the metric points that the run does not have yet."""
        had = self._had()
        new = {(key, step): value for key, value, step in points if (key, step) not in had}
        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step) for (key, step), value in new.items()]
        for start in range(0, len(metrics), _METRICS_A_BATCH):
            self._client.log_batch(self.id, metrics=metrics[start : start + _METRICS_A_BATCH])
        had.update(new)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set or change tags."""
        texts = {key: _text(value, _TAG_LENGTH) for key, value in tags.items()}
        self._client.log_batch(self.id, tags=[RunTag(key, value) for key, value in texts.items()])
        self.tags.update(texts)

    def datasets(self, name: str, source: str, splits: Mapping[str, tuple[str, int]]) -> None:
        """Log splits as dataset inputs; logging the same ones again changes nothing.

        Args:
            name: What the data are called.
            source: Where they come from.
            splits: Context (train, validation, test) -> (fingerprint, rows).
        """
        inputs = []
        for context, (fingerprint, num_rows) in splits.items():
            dataset = Dataset(
                name=f"{name} {context}",
                digest=fingerprint,
                source_type="local",
                source=json.dumps({"uri": source}),
                profile=json.dumps({"num_rows": num_rows}),
            )
            inputs.append(DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)]))
        self._client.log_inputs(self.id, datasets=inputs)

    def folder(self, local: Path, path: str) -> None:
        """Keep a folder's files as artifacts below `path`."""
        self._client.log_artifacts(self.id, str(local), path)

    def text(self, path: str, text: str) -> None:
        """Keep a text as an artifact."""
        self._client.log_text(self.id, text, path)

    def json(self, path: str, value: Any) -> None:
        """Keep plain data as an artifact."""
        self.text(path, json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")

    def figure(self, path: str, figure: "Figure") -> None:
        """Keep a figure as an artifact; the ending says the format."""
        self._client.log_figure(self.id, figure, path)

    def table(self, path: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows as an artifact that the MLflow UI shows as a table.

        MLflow's own `log_table` appends to what is there, which would double the rows of a resumed sweep.
        """
        columns = list(dict.fromkeys(key for row in rows for key in row))
        data = [[row.get(column) for column in columns] for row in rows]
        self.json(path, {"columns": columns, "data": data})
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


def _text(value: Any, length: int) -> str:
    text = str(value)
    return text if len(text) <= length else text[: length - 3] + "..."
