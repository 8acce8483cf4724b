"""What a sweep would take, by a few steps of it."""

import dataclasses

import pytest

from pipeline.core.adapters.checkpoint import Resident
from pipeline.core.engine.trials import trial_of
from pipeline.steps.estimate import measure
from tests.conftest import TinyBert
from tests.tiny import tiny_checkpoint, tiny_job


@pytest.fixture
def resident(tiny_bert: TinyBert, tmp_path_factory: pytest.TempPathFactory) -> Resident:
    base, tokenizer = tiny_bert()
    checkpoint = tiny_checkpoint(base, tokenizer, tmp_path_factory.mktemp("checkpoint"))
    return Resident(checkpoint=checkpoint, tokenizer=tokenizer, base=base)


@pytest.mark.parametrize("batch_size", [8, 48, 64])
def test_a_job_takes_time_though_all_its_rows_are_one_batch(resident: Resident, batch_size: int) -> None:
    job = tiny_job("mood", resident.checkpoint)
    engine = dataclasses.replace(job.settings.engine, batch_size=batch_size)
    job = dataclasses.replace(job, settings=dataclasses.replace(job.settings, engine=engine))
    assert len(job.encoded["train"].examples) == 48
    seconds, memory = measure(resident, job, trial_of(job, 0, {}))
    assert seconds > 1e-4 and memory > 0
