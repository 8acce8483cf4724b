"""Metrics: counted in each process, summed over them, written for Prometheus."""

import pickle

from pipeline.serving.figures import Figures, kept, of_table, summed, text
from pipeline.serving.queue import Batch
from pipeline.serving.state import Table
from tests.unit.serving.clients import standing


def counted(waiting: int) -> Figures:
    figures = Figures()
    figures.answered(figures.asked())
    figures.answered(figures.asked(), "queue_full")
    figures.rows("ner", 3)
    figures.retried()
    figures.tokenized(0.002)
    figures.batch(Batch(rows=3, tokens=48, queued_s=[0.001, 0.002, 0.003], inference_s=0.02))
    figures.waiting(waiting)
    return figures


def test_the_metrics_of_all_processes_are_added_up() -> None:
    parts = [pickle.loads(pickle.dumps(counted(waiting).so_far())) for waiting in (2, 5)]
    lines = text(summed(parts)).splitlines()
    for line in (
        "adapter_request_count_total 4.0",
        "adapter_request_success_total 2.0",
        'adapter_request_failure_total{err="queue_full"} 2.0',
        "adapter_request_retried_total 2.0",
        'adapter_rows_total{task="ner"} 6.0',
        "adapter_request_duration_count 4.0",
        'adapter_request_tokenization_duration_bucket{le="0.0025"} 2.0',
        "adapter_request_queue_duration_count 6.0",
        'adapter_request_inference_duration_bucket{le="0.01"} 0.0',
        'adapter_request_inference_duration_bucket{le="0.025"} 2.0',
        'adapter_batch_next_size_bucket{le="4.0"} 2.0',
        "adapter_batch_next_tokens_sum 96.0",
        "adapter_queue_size 7.0",
    ):
        assert line in lines
    assert "# TYPE adapter_request_duration histogram" in lines


def test_what_a_process_has_counted_outlives_it_and_its_queue_does_not() -> None:
    lines = text(summed([kept(counted(9).so_far()), counted(1).so_far()])).splitlines()
    assert "adapter_request_count_total 4.0" in lines
    assert "adapter_queue_size 1.0" in lines


def test_the_table_tells_versions_adapters_processes_and_whether_the_registry_answers() -> None:
    table = Table(tasks={"ner": standing("ner", challenger="is being loaded")}, registry="away")
    lines = text(of_table(table, {"home": 2})).splitlines()
    assert 'adapter_task_version{alias="champion",task="ner"} 3.0' in lines
    assert 'adapter_task_version{alias="previous",task="ner"} 2.0' in lines
    assert not any('alias="challenger"' in line for line in lines)
    assert 'adapter_resident_adapters{checkpoint="tiny"} 2.0' in lines
    assert 'adapter_bank_replicas{deployment="home"} 2.0' in lines
    assert "adapter_registry_up 0.0" in lines
