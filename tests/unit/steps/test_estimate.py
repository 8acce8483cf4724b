"""What a sweep would take, by a few steps of it; and what is said before it."""

import dataclasses
import io
import re

import pytest
from rich.console import Console

from pipeline.config import CompareConfig, MethodConfig, SweepConfig
from pipeline.config.overrides import read_config
from pipeline.core.adapters.checkpoint import Resident
from pipeline.core.engine.trials import trial_of
from pipeline.errors import PipelineError
from pipeline.steps.estimate import announce
from pipeline.steps.measure import measure, measure_together
from pipeline.steps.prepare import Prepared
from tests.processes import one_dies
from tests.tiny import tiny_job


@pytest.mark.parametrize("batch_size", [8, 48, 64])
def test_a_job_takes_time_though_all_its_rows_are_one_batch(resident: Resident, batch_size: int) -> None:
    job = tiny_job("mood", resident.checkpoint)
    engine = dataclasses.replace(job.settings.engine, batch_size=batch_size)
    job = dataclasses.replace(job, settings=dataclasses.replace(job.settings, engine=engine))
    assert len(job.encoded["train"].examples) == 48
    parts = resident.base, resident.checkpoint, resident.tokenizer.pad_token_id
    pace = measure(*parts, job, trial_of(job, 0, {}))
    assert min(pace.train_s, pace.eval_s) > 1e-8 and pace.memory_bytes > 0


def test_where_what_lies_below_the_head_is_kept_a_step_is_measured_without_it(resident: Resident) -> None:
    job = tiny_job("mood", resident.checkpoint)
    probe = dataclasses.replace(job.settings, method=MethodConfig(name="probe"))
    job = dataclasses.replace(job, settings=probe)
    passes: list[int] = []
    layer = resident.base.get_submodule("encoder.layer.0")
    counting = layer.register_forward_hook(lambda *_: passes.append(1))
    parts = resident.base, resident.checkpoint, resident.tokenizer.pad_token_id, job, trial_of(job, 0, {})
    found = {}
    for kept in (0, 2**30):
        passes.clear()
        found[kept] = measure(*parts, kept), len(passes)
    counting.remove()
    (whole, many), (entered, few) = found.values()
    assert whole.fill_s == 0 and whole.test_s == whole.eval_s and entered.fill_s > 1e-8
    assert few < many  # rows to keep, and one evaluation of the whole model as for the test; no step


def announced(resident: Resident, *words: str, command: str = "sweep") -> str:
    """What is said of a job of 18 test rows."""
    config = read_config(command, CompareConfig if command == "compare" else SweepConfig, ["tasks=[sentiment]", *words])
    jobs = [tiny_job("mood", resident.checkpoint)]
    parts = {"checkpoint": resident.checkpoint, "tokenizer": resident.tokenizer, "base": resident.base}
    out = io.StringIO()
    announce(config, Prepared(**parts, wanted=(), slots=1, jobs=jobs), Console(file=out, width=300))
    return out.getvalue()


@pytest.mark.parametrize(
    ("key", "few", "many"), [("method.reduction_factor", "16", "2"), ("method.layers", "top-1", "all")]
)
def test_the_share_is_that_of_the_trial_which_trains_the_most(
    resident: Resident, key: str, few: str, many: str
) -> None:
    def share(*values: str) -> float:
        said = announced(resident, f"search.space={{{key}: {{choice: [{', '.join(values)}]}}}}")
        return float(re.findall(r"([\d.]+) %", said)[0])

    assert share(few) < share(many) == share(few, many)


FEW = "mood/d: 18 test rows can show a loss of 25.6 points, not of 2, and are too few for gate.min_rows (100): "


@pytest.mark.parametrize("dryrun", ["true", "false"])
def test_what_too_few_test_rows_can_show_is_said_in_one_line_before_the_first_champion_is_trained(
    resident: Resident, dryrun: str
) -> None:
    said = announced(resident, f"dryrun={dryrun}", "cluster=here")
    (line,) = (line for line in said.splitlines() if "test rows" in line)
    assert line == f"{FEW}later passes will promote only what is shown to be better. Give about 930 test rows"
    assert ("Nothing was trained" in said) == (dryrun == "true")


def test_nothing_is_said_where_the_rows_are_enough_nor_in_a_comparison_which_registers_nothing(
    resident: Resident,
) -> None:
    assert "test rows" not in announced(resident, "gate.margin=0.3", "gate.min_rows=18")
    assert "test rows" not in announced(resident, command="compare")


def test_a_process_that_dies_is_told_while_the_other_waits_for_it(
    resident: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.steps.measure._work", one_dies)
    with pytest.raises(PipelineError, match=r"2 trials side by side could not be measured.*cluster.slots=1"):
        measure_together(resident, [], 2, 1, "cpu")


def test_what_there_is_no_room_for_is_not_measured_as_kept(resident: Resident) -> None:
    job = tiny_job("mood", resident.checkpoint)
    engine = dataclasses.replace(job.settings.engine, batch_size=1)  # so that few of the rows are measured
    settings = dataclasses.replace(job.settings, method=MethodConfig(name="pfeiffer", layers="top-1"), engine=engine)
    job = dataclasses.replace(job, settings=settings)
    parts = resident.base, resident.checkpoint, resident.tokenizer.pad_token_id, job, trial_of(job, 0, {})
    tokens = sum(one["length"] for name in ("train", "validation") for one in job.encoded[name].examples)
    enough = 2 * tokens * resident.base.config.hidden_size * 4 * 2
    assert measure(*parts, enough).fill_s > 0
    assert measure(*parts, enough * 3 // 8).fill_s == 0
