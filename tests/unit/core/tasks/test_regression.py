"""A number for a text: rows, units, loss, answers and scores."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pipeline.config import TaskConfig
from pipeline.core.data.rows import Row, make_row
from pipeline.core.tasks import metrics
from pipeline.core.tasks.correlation import SPEARMAN
from pipeline.core.tasks.figures import Scatter
from pipeline.core.tasks.kinds import restore, task_for
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.regression import Regression
from pipeline.errors import DataError, Fault

if TYPE_CHECKING:
    from tests.conftest import TinyBert
    from tests.unit.core.tasks.conftest import AnswerAll, Learn, MakeDataset, MakeRows, Values

CONFIG = TaskConfig(name="stars", kind="regression")
PAIR = TaskConfig(name="sts", kind="regression", columns={"text_pair": "other"})
TRAIN: list[Values] = [
    {"text": "a dull book", "score": 101},
    {"text": "a good film", "score": 105.0},
    {"text": "it was all right", "score": "103"},
    {"text": "it was not good at all", "score": 99.0},
]


@pytest.mark.parametrize(("given", "score"), [(4, 4.0), (3.8, 3.8), ("3.8", 3.8), (" -1e2 ", -100.0), ("0", 0.0)])
def test_a_score_is_a_number_or_its_text(given: Any, score: float) -> None:
    (row,) = make_row({"text": "x", "score": given}, CONFIG, "a.csv:2")
    assert isinstance(row, Row) and row.fields["score"] == score and type(row.fields["score"]) is float


def test_a_whole_number_and_the_same_as_text_are_equal_rows(make_rows: MakeRows) -> None:
    first, second, third = make_rows(CONFIG, [{"text": "x", "score": one} for one in (4, 4.0, "4.0")])
    assert first.digest == second.digest == third.digest


@pytest.mark.parametrize(
    "given", [None, True, "", "good", "3,8", "1_000", float("nan"), float("inf"), "nan", "-inf", [3], 10**400]
)
def test_what_is_no_finite_number_is_a_fault(given: Any) -> None:
    (bad,) = make_row({"text": "x", "score": given}, CONFIG, "a.jsonl:1")
    assert isinstance(bad, Fault) and bad.where == "a.jsonl:1"
    assert (bad.rule, bad.remedy) == ("is no number: field `score` must be a finite one", "Give a number, such as 3.8")


def test_equal_scores_in_train_are_a_fault_with_a_remedy(make_dataset: MakeDataset) -> None:
    same: list[Values] = [{"text": "a", "score": 3}, {"text": "b", "score": 3.0}]
    with pytest.raises(DataError) as caught:
        task_for(CONFIG, make_dataset(CONFIG, same))
    (bad,) = caught.value.faults
    assert bad.rule == "is the score of every row of train: there is nothing to learn"
    assert bad.remedy == "Add training rows with other scores"


def test_labels_and_class_weights_are_refused() -> None:
    found = [*replace(CONFIG, labels=["a", "b"], class_weights=True, separator=";").faults("task.x")]
    assert [bad.where for bad in found] == ["task.x.separator", "task.x.labels", "task.x.class_weights"]


def test_the_unit_of_the_training_rows_is_kept_in_the_head(make_dataset: MakeDataset) -> None:
    task = task_for(CONFIG, make_dataset(CONFIG, TRAIN))
    assert isinstance(task, Regression) and task.unit is not None and [*task.unit] == pytest.approx([102, 5**0.5])
    state = task.head(8, 0.0).state_dict()
    assert state["mean"].tolist() == [102.0] and state["std"].tolist() == pytest.approx([2.23607])
    assert pickle.loads(pickle.dumps(task)).unit == task.unit


def fixed(task: Regression, tiny_bert: TinyBert, bias: float) -> TaskModel:
    """A model that says `bias` standard deviations above the mean, whatever the text."""
    base, _ = tiny_bert()
    head = task.head(base.config.hidden_size, 0.0)
    torch.nn.init.zeros_(head.linear.weight)
    torch.nn.init.constant_(head.linear.bias, bias)
    return TaskModel(base, head, pooling="mean")


def test_the_loss_is_in_units_of_train_and_the_answer_in_the_scores_own(
    make_rows: MakeRows, tiny_bert: TinyBert, answer_all: AnswerAll
) -> None:
    task = Regression(CONFIG, unit=(10.0, 2.0))
    model, rows = fixed(task, tiny_bert, 0.5), make_rows(CONFIG, [{"text": "x", "score": one} for one in (9, 15)])
    loss, number = task.loss(model, task.collate(task.encode(rows, tiny_bert()[1]).examples, 0))
    assert [loss.item(), number] == pytest.approx([(1.0**2 + 2.0**2) / 2, 2])
    assert answer_all(task, model, rows) == [{"score": 11.0}, {"score": 11.0}]
    exported = task.exported(model.head.state_dict())
    assert exported["linear.bias"].tolist() == [11.0] and sorted(exported) == ["linear.bias", "linear.weight"]
    assert restore(CONFIG).answers(rows, None, [torch.tensor([3.8]).numpy()]) == [{"score": 3.8}]  # type: ignore[arg-type]


def test_scores_far_from_zero_are_learned(
    make_rows: MakeRows, make_dataset: MakeDataset, learn: Learn, answer_all: AnswerAll
) -> None:
    task, rows = task_for(CONFIG, make_dataset(CONFIG, TRAIN)), make_rows(CONFIG, TRAIN)
    answers = answer_all(task, learn(task, rows, steps=150), rows)
    assert [one["score"] for one in answers] == pytest.approx([101, 105, 103, 99], abs=0.5)


def test_a_pair_is_one_input(make_rows: MakeRows, tiny_bert: TinyBert) -> None:
    tokenizer = tiny_bert()[1]
    (row,) = make_rows(PAIR, [{"text": "a film", "text_pair": "a good book", "score": 3}])
    (example,) = restore(PAIR).encode([row], tokenizer).examples
    assert example["input_ids"].count(tokenizer.sep_token_id) == 2 and example["score"] == 3.0
    assert "scores" not in restore(PAIR).collate(
        restore(PAIR).encode([restore(PAIR).parse_item({"text": "a", "other": "b"})], tokenizer).examples, 0
    )


SAID = [{"score": one} for one in (100.0, 104.0, 105.0, 101.0)]


@pytest.mark.parametrize(("metric", "value"), [("spearman", 0.6), ("pearson", 0.7593)])
def test_a_correlation_has_a_baseline_of_zero(make_rows: MakeRows, metric: str, value: float) -> None:
    config = replace(CONFIG, metric=metric)
    scores = restore(config).score(make_rows(config, TRAIN), SAID)
    assert [scores.primary, scores.baseline] == pytest.approx([value, 0.0], abs=1e-4)
    assert scores.metrics == pytest.approx({"spearman": 0.6, "pearson": 0.7593, "rmse": 10**0.5 / 2}, abs=1e-4)
    assert metrics.value_of(scores.statistic, scores.counts) == scores.primary
    assert scores.counts.tolist() == [[101, 100], [105, 104], [103, 105], [99, 101]]
    constant = restore(config).score(make_rows(config, TRAIN), [{"score": 3.0}] * 4)
    assert constant.primary == 0.0
    assert [constant.low, constant.high] == pytest.approx([-0.9222, 0.9222], abs=1e-3)


def test_an_error_is_negative_inside_and_the_gate_is_given_it_in_standard_deviations(make_rows: MakeRows) -> None:
    config = replace(CONFIG, metric="rmse")
    rows, trained = make_rows(config, TRAIN), Regression(config, unit=(100.0, 4.0))
    scores = trained.score(rows, SAID)
    assert [scores.primary, scores.metrics["rmse"]] == pytest.approx([-(2.5**0.5), 2.5**0.5])
    assert scores.baseline == pytest.approx(-3.0)  # of always saying 100: errors 1, 5, 3, 1
    assert metrics.value_of(scores.statistic, scores.counts) == pytest.approx(-(2.5**0.5) / 4)
    assert scores.low <= scores.primary <= scores.high <= 0
    assert restore(config).score(rows, SAID).baseline == pytest.approx(-(5**0.5))


def test_every_row_carries_a_correlation_also_one_of_zero(make_rows: MakeRows) -> None:
    assert metrics.carriers(metrics.value_counts([0.0, 0.0]) * 0, SPEARMAN).tolist() == [[True], [True]]
    counts, _, labels = restore(CONFIG).right_counts(make_rows(CONFIG, TRAIN))
    assert (len(counts), labels) == (4, ())


def test_answers_are_drawn_beside_the_true_scores() -> None:
    (shown,) = restore(CONFIG).figures([1.0, 2.0], [{"score": 1.5}, {"score": 2.0}])
    assert shown == Scatter(gold=[1.0, 2.0], said=[1.5, 2.0]) and (shown.name, shown.records()) == ("scatter", [])


def test_the_target_is_a_number_and_no_label(make_rows: MakeRows) -> None:
    task, (row, *_) = restore(CONFIG), make_rows(CONFIG, TRAIN)
    assert (task.number_of(row), task.labels_of(row), task.grown([row])) == (101.0, (), None)


def test_scores_too_large_to_be_learnt_are_refused(make_dataset: MakeDataset) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl:1: '1e\+300' is too large to be learnt"):
        task_for(CONFIG, make_dataset(CONFIG, [{"text": "a", "score": 1e300}, {"text": "b", "score": 1}]))
