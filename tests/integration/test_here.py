"""A search on Ray and the same one in this process, on a tiny BERT: the same to the bit."""

from pathlib import Path

import pytest

from pipeline.cluster import experiment
from pipeline.config import ClusterConfig, SearchConfig
from pipeline.core.adapters.checkpoint import load_checkpoint
from pipeline.core.engine.events import JobTested, SweepEvent
from pipeline.steps import here
from tests.conftest import TinyBert
from tests.tiny import outcome, tiny_checkpoint, tiny_job, weights_of
from tests.unit.steps.test_here import HERE, SEARCHES

pytestmark = pytest.mark.ray

RAY = ClusterConfig(num_cpus=2, object_store_bytes=100 * 2**20)
"""Two trials side by side: what comes out does not depend on the order in which they report."""


@pytest.mark.parametrize("search", [SEARCHES["optuna halving"]], ids=["optuna halving"])
def test_a_search_on_ray_and_one_in_this_process_end_the_same_to_the_bit(
    search: SearchConfig, tiny_bert: TinyBert, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(*tiny_bert(), tmp_path / "checkpoint")
    resident, jobs = load_checkpoint(checkpoint), [tiny_job(name, checkpoint) for name in ("films", "books")]
    told: dict[str, list[SweepEvent]] = {"ray": [], "here": []}
    for name, run, cluster in (("ray", experiment.run, RAY), ("here", here.run, HERE)):
        ended = run(jobs, resident, search=search, cluster=cluster, folder=tmp_path / name, sink=told[name].append)
        assert [won.trial.job for won in ended.winners] == ["films/d", "books/d"]
    assert outcome(told["here"]) == outcome(told["ray"])
    assert weights_of(tmp_path / "here").keys() == weights_of(tmp_path / "ray").keys()
    tests = [{one.trial.key: one.answers for one in events if isinstance(one, JobTested)} for events in told.values()]
    assert tests[0] == tests[1]
