"""Metrics in Prometheus' format, counted in each process and summed over all of them.

The set is that of text-embeddings-inference, with a prefix of our own.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from pipeline.serving.queue import Batch
from pipeline.serving.state import Table

_TIMES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_KEPT = ("counter", "histogram")
"""What a process has counted counts on when it is gone; what it had at the moment, such as a queue, goes with it."""


@final
class Figures:
    """The metrics of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        more: Any = {"registry": self._registry}
        self._requests = Counter("adapter_request_count", "Requests for answers.", **more)
        self._success = Counter("adapter_request_success", "Requests that were answered.", **more)
        self._failure = Counter("adapter_request_failure", "Requests that were not, by reason.", ["err"], **more)
        self._rows = Counter("adapter_rows", "Inputs that were answered, by task.", ["task"], **more)
        self._retried = Counter("adapter_request_retried", "Requests that went to another process.", **more)
        self._duration = Histogram("adapter_request_duration", "Seconds of a request.", buckets=_TIMES, **more)
        self._tokenization = Histogram(
            "adapter_request_tokenization_duration", "Seconds in which texts were read.", buckets=_TIMES, **more
        )
        self._queued = Histogram(
            "adapter_request_queue_duration", "Seconds that a row has waited for its batch.", buckets=_TIMES, **more
        )
        self._inference = Histogram(
            "adapter_request_inference_duration", "Seconds of a batch in the model.", buckets=_TIMES, **more
        )
        self._batch_rows = Histogram("adapter_batch_next_size", "Rows of a batch.", buckets=_SIZES, **more)
        self._batch_tokens = Histogram(
            "adapter_batch_next_tokens", "Sub-tokens of a batch, with padding.", buckets=_TOKENS, **more
        )
        self._queue = Gauge("adapter_queue_size", "Rows that wait.", **more)

    def asked(self) -> float:
        """Count a request that begins; return when."""
        self._requests.inc()
        return time.monotonic()

    def answered(self, since: float, error: str = "") -> None:
        """Count how a request ended."""
        self._duration.observe(time.monotonic() - since)
        if error:
            self._failure.labels(err=error).inc()
        else:
            self._success.inc()

    def rows(self, task: str, count: int) -> None:
        """Count inputs that were answered."""
        self._rows.labels(task=task).inc(count)

    def retried(self) -> None:
        """Count a request that goes to another process, for the first one has died."""
        self._retried.inc()

    def tokenized(self, seconds: float) -> None:
        """Count the tokenisation of the texts of a request."""
        self._tokenization.observe(seconds)

    def batch(self, batch: Batch) -> None:
        """Count a batch."""
        self._batch_rows.observe(batch.rows)
        self._batch_tokens.observe(batch.tokens)
        self._inference.observe(batch.inference_s)
        for seconds in batch.queued_s:
            self._queued.observe(seconds)

    def waiting(self, rows: int) -> None:
        """Set how many rows wait."""
        self._queue.set(rows)

    def so_far(self) -> list[Metric]:
        """Everything as it stands, to be sent to whoever sums it up."""
        return list(self._registry.collect())


def summed(parts: Iterable[Sequence[Metric]]) -> list[Metric]:
    """Add up the metrics of several processes, sample by sample."""
    metrics: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for part in parts:
        for metric in part:
            metrics.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            own = values.setdefault(metric.name, {})
            for sample in metric.samples:
                if not sample.name.endswith("_created"):
                    key = (sample.name, tuple(sorted(sample.labels.items())))
                    own[key] = own.get(key, 0.0) + sample.value
    for name, metric in metrics.items():
        for (sample_name, labels), value in values[name].items():
            metric.add_sample(sample_name, dict(labels), value)
    return list(metrics.values())


def kept(part: Sequence[Metric]) -> list[Metric]:
    """What of a process's metrics stays when it is gone."""
    return [metric for metric in part if metric.type in _KEPT]


def of_table(table: Table, replicas: Mapping[str, int]) -> list[Metric]:
    """What the table says: adapters that are resident, versions that answer, and whether the registry does.

    `replicas`: how many processes there are of each deployment.
    """
    resident = GaugeMetricFamily("adapter_resident_adapters", "Adapters that a process holds.", labels=["checkpoint"])
    version = GaugeMetricFamily("adapter_task_version", "The version that answers.", labels=["task", "alias"])
    processes = GaugeMetricFamily("adapter_bank_replicas", "Processes that answer.", labels=["deployment"])
    registry = GaugeMetricFamily("adapter_registry_up", "1 where the registry answers, else 0.")
    held: dict[str, set[tuple[str, int]]] = {}
    for name, standing in table.tasks.items():
        for one in standing.versions:
            if not one.reason:
                held.setdefault(one.checkpoint, set()).add((name, one.version))
                version.add_metric([name, one.alias], one.version)
    for checkpoint, keys in held.items():
        resident.add_metric([checkpoint], len(keys))
    for home, count in replicas.items():
        processes.add_metric([home], count)
    registry.add_metric([], 0.0 if table.registry else 1.0)
    return [resident, version, processes, registry]


def text(metrics: Sequence[Metric]) -> str:
    """Write metrics in Prometheus' text format."""

    class Collected:
        def collect(self) -> Iterator[Metric]:
            yield from metrics

    registry = CollectorRegistry()
    registry.register(Collected())
    return generate_latest(registry).decode()
