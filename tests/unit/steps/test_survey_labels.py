"""Labels that come in with new rows, and such as go."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config import ChallengerConfig, RetrainConfig, TaskConfig
from pipeline.config.overrides import read_config
from pipeline.core.data.ledger import Ledger, Slice
from pipeline.core.engine.trials import Job
from pipeline.core.tasks.kinds import restore
from pipeline.steps.survey import challenger_job, fresh_labels
from tests.conftest import TinyBert
from tests.unit.steps.test_survey import COLD, OLD, news_of, rows_of

LISTED = ["good", "bad", "fair"]
FAIR = [{"text": f"a so so film {number}", "label": "fair"} for number in range(12)]


@pytest.mark.parametrize("listed", [None, LISTED])
@pytest.mark.parametrize("outputs", [COLD.labels, LISTED])
def test_a_label_is_new_with_its_first_row(listed: list[str] | None, outputs: list[str]) -> None:
    task, ledger = restore(dataclasses.replace(COLD.task, labels=listed), outputs), Ledger(trained=rows_of(*OLD))
    known, new = rows_of({"text": "fine", "label": "good"}), rows_of(*FAIR)
    assert fresh_labels(task, known, ledger) == set()
    assert fresh_labels(task, [*known, *new], ledger) == {"fair"}
    assert fresh_labels(task, new, Ledger(trained=(*rows_of(*OLD), new[0]))) == set()
    assert fresh_labels(task, new, Ledger(trained=rows_of(*OLD), former=(new[0],))) == set()


def listed_job(tiny_bert: TinyBert, outputs: list[str], start: str, *values: dict[str, str]) -> Job:
    """A challenger's first job in a task that lists three labels, of a champion that was taught two."""
    config = read_config("retrain", RetrainConfig, ["tasks=[ner]", f"challenger.start={start}", "challenger.replay=1"])
    record = dataclasses.replace(COLD, labels=outputs)
    task = restore(dataclasses.replace(COLD.task, labels=LISTED), outputs)
    found, data = news_of(*values)
    here: Any = SimpleNamespace(
        name="mood/default",
        registered_name="mood",
        bundle=SimpleNamespace(record=record, tensors=dict),
        ledger=Ledger(trained=rows_of(*OLD)),
        news=found,
        fresh=frozenset(fresh_labels(task, found.train, Ledger(trained=rows_of(*OLD)))),
        notes=(),
    )
    return challenger_job(config, task, here, data, tiny_bert()[1])[0]


@pytest.mark.parametrize("outputs", [COLD.labels, LISTED])
def test_a_label_that_is_listed_is_learnt_as_a_new_one_with_its_first_row(
    tiny_bert: TinyBert, outputs: list[str]
) -> None:
    plain = [{"text": f"a may film {number}", "label": ("good", "bad")[number % 2]} for number in range(12)]
    for values, rate in ((plain, ChallengerConfig().rate), (FAIR, ChallengerConfig().new_label_rate)):
        job = listed_job(tiny_bert, outputs, "warm", *values)
        assert job.start is not None and job.start.rate == rate
        assert job.settings.engine.learning_rate == pytest.approx(0.002 * rate)
    assert listed_job(tiny_bert, outputs, "still", *FAIR).task.fresh == ("fair",)


def test_a_pass_goes_on_where_edits_have_taken_the_last_rows_of_a_label(tiny_bert: TinyBert) -> None:
    """The frozen slices have it still, and the champion an output for it."""
    config = read_config("retrain", RetrainConfig, ["tasks=[ner]"])
    config = dataclasses.replace(config, challenger=dataclasses.replace(config.challenger, start="warm", replay=1.0))
    old, slice_rows = rows_of(*OLD), rows_of(*({"text": f"a dull song {n}", "label": "bad"} for n in range(9)))
    edited = [{"text": str(row.fields["text"]), "label": "good"} for row in old if row.fields["label"] == "bad"]
    found, data = news_of(*edited)
    found = dataclasses.replace(
        found, evaluation=(), replaced=tuple(row for row in old if row.fields["label"] == "bad")
    )
    here: Any = SimpleNamespace(
        name="mood/default",
        registered_name="mood",
        bundle=SimpleNamespace(record=COLD, tensors=dict),
        ledger=Ledger(trained=old, slices=(Slice(name="one", rows=slice_rows),)),
        news=found,
        fresh=frozenset(),
        notes=(),
    )
    job, _ = challenger_job(config, restore(COLD.task, COLD.labels), here, data, tiny_bert()[1])
    assert list(job.task.labels) == ["good", "bad"]
    assert [row.fields["label"] for row in job.dataset.test.rows] == ["bad"] * 9


@pytest.mark.parametrize(
    ("kind", "labels", "outputs"),
    [
        ("classification", ["good", "bad"], {"bad"}),
        ("multi_label", ["good", "bad"], {"bad"}),
        ("tagging", ["O", "B-good", "I-good", "B-bad", "I-bad"], {"B-bad", "I-bad"}),
    ],
)
def test_the_outputs_of_a_label_are_those_that_its_kind_has(kind: Any, labels: list[str], outputs: set[str]) -> None:
    assert restore(TaskConfig(name="mood", kind=kind), labels).outputs_of({"bad", "other"}) == outputs
