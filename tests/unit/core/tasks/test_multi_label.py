"""Any number of labels for a text: rows, loss, thresholds, answers and scores."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from pipeline.config import TaskConfig
from pipeline.core.data.rows import Row, make_row
from pipeline.core.tasks import metrics
from pipeline.core.tasks.figures import Labels
from pipeline.core.tasks.kinds import restore, task_for
from pipeline.core.tasks.model import LinearHead, TaskModel
from pipeline.core.tasks.multi_label import MultiLabel, best_thresholds
from pipeline.core.tasks.task import Encoded, Task
from pipeline.errors import DataError, Fault

if TYPE_CHECKING:
    from tests.conftest import TinyBert
    from tests.unit.core.tasks.conftest import AnswerAll, Learn, MakeDataset, MakeRows, Values

CONFIG = TaskConfig(name="topics", kind="multi_label")
PAIR = TaskConfig(name="topics", kind="multi_label", columns={"text_pair": "body"})
TRAIN: list[Values] = [
    {"text": "the parcel came late", "labels": ["delivery"]},
    {"text": "the box was torn and late", "labels": ["damage", "delivery"]},
    {"text": "all is well", "labels": []},
    {"text": "the lid was broken", "labels": ["damage"]},
]


@pytest.mark.parametrize(
    ("given", "separator", "labels"),
    [
        (["b", "a", "b"], "|", ["a", "b"]),
        ("delivery|damage", "|", ["damage", "delivery"]),
        (" delivery ; damage;", ";", ["damage", "delivery"]),
        ("delivery", "|", ["delivery"]),
        ("", "|", []),
        ([], "|", []),
        ([3, 12], "|", ["12", "3"]),
        (7, "|", ["7"]),
    ],
)
def test_labels_are_a_list_or_a_text_with_the_separator_between(given: Any, separator: str, labels: list[str]) -> None:
    (row,) = make_row({"text": "x", "labels": given}, replace(CONFIG, separator=separator), "a.csv:2")
    assert isinstance(row, Row) and row.fields["labels"] == labels


def test_equal_sets_of_labels_are_equal_rows(make_rows: MakeRows) -> None:
    first, second = make_rows(CONFIG, [{"text": "x", "labels": ["b", "a"]}, {"text": "x", "labels": "a|b"}])
    assert first.digest == second.digest


@pytest.mark.parametrize("given", [None, {"a": 1}, [["a"]], [1.5], True])
def test_what_is_no_list_of_labels_is_a_fault(given: Any) -> None:
    (bad,) = make_row({"text": "x", "labels": given}, CONFIG, "a.jsonl:1")
    assert isinstance(bad, Fault) and bad.rule == "is no list of strings: field `labels` must be one"


def test_the_separator_is_refused_where_it_means_nothing() -> None:
    (bad,) = TaskConfig(name="x", kind="classification", separator=";").faults("task.x")
    assert str(bad).startswith("task.x.separator: ';' means nothing in a task of classification. Remove it, or set")
    (bad,) = replace(CONFIG, separator=" ").faults("task.x")
    assert bad.rule == "must be more than blanks, which labels have"
    (bad,) = replace(CONFIG, class_weights=True).faults("task.x")
    assert bad.rule == "means nothing in a task of multi_label"


def test_labels_are_those_of_train_and_their_shares_those_of_the_rows(make_dataset: MakeDataset) -> None:
    task = task_for(CONFIG, make_dataset(CONFIG, TRAIN))
    assert (task.labels, task.shares) == (("damage", "delivery"), {"damage": 0.5, "delivery": 0.5})
    head = task.head(8, 0.0)
    assert isinstance(head, LinearHead)
    assert head.linear.bias.tolist() == [0.0, 0.0] == head.get_buffer("thresholds").tolist()
    rare = MultiLabel(CONFIG, ["a", "b", "c"], {"a": 0.2, "b": 1.0}).head(8, 0.0)
    ends = [math.log(0.25), math.log(9999), math.log(1e-4)]
    assert rare.linear.bias.tolist() == pytest.approx(ends, abs=1e-3)


@pytest.mark.parametrize(
    ("train", "test", "rule"),
    [
        ([{"text": "a", "labels": []}] * 2, None, "has no label, nor has any row of train"),
        (TRAIN[:1] * 2, None, "are the labels of every row of train: there is nothing to tell apart"),
        (
            TRAIN,
            [{"text": "a", "labels": ["new"]}],
            "is no label of train: 100.0% of the labels of test cannot be predicted, more than 5%",
        ),
        ([{"text": "a", "labels": ["x", " "]}], None, "has an empty label"),
        ([{"text": " ", "labels": ["x"]}], None, "has an empty text"),
    ],
)
def test_what_cannot_be_learned_is_a_fault(
    make_dataset: MakeDataset, train: list[Values], test: list[Values] | None, rule: str
) -> None:
    with pytest.raises(DataError) as caught:
        task_for(CONFIG, make_dataset(CONFIG, train, train[:1], test))
    assert caught.value.faults[0].rule == rule


def test_labels_of_the_config_may_lack_none_of_the_rows(make_dataset: MakeDataset) -> None:
    listed = replace(CONFIG, labels=["delivery", "price"])
    with pytest.raises(DataError, match="'damage' is no label of task topics"):
        task_for(listed, make_dataset(listed, TRAIN))


def test_rows_become_examples_with_the_numbers_of_their_labels(make_rows: MakeRows, tiny_bert: TinyBert) -> None:
    tokenizer = tiny_bert()[1]
    task = restore(CONFIG, ["damage", "delivery"])
    examples = task.encode(make_rows(CONFIG, TRAIN), tokenizer).examples
    assert [example["labels"] for example in examples] == [[1], [0, 1], [], [0]]
    batch = task.collate(examples, 0)
    assert batch["labels"].tolist() == [[0, 1], [1, 1], [0, 0], [1, 0]]
    assert "labels" not in task.collate(task.encode([task.parse_item("the box")], tokenizer).examples, 0)
    (pair,) = make_rows(PAIR, [{"text": "the box", "text_pair": "was torn", "labels": []}])
    (both,) = restore(PAIR, ["a"]).encode([pair], tokenizer).examples
    assert both["input_ids"].count(tokenizer.sep_token_id) == 2


def test_the_loss_is_the_mean_over_rows_and_labels(make_rows: MakeRows, tiny_bert: TinyBert) -> None:
    base, tokenizer = tiny_bert()
    task = restore(CONFIG, ["damage", "delivery"])
    head = task.head(base.config.hidden_size, 0.0)
    torch.nn.init.zeros_(head.linear.weight)  # type: ignore[union-attr, arg-type]
    head.linear.bias.data = torch.tensor([1.0, -2.0])  # type: ignore[union-attr]
    model = TaskModel(base, head, pooling="mean")
    loss, number = task.loss(model, task.collate(task.encode(make_rows(CONFIG, TRAIN[:2]), tokenizer).examples, 0))
    # -log of 1 - s(1), s(-2); s(1), s(-2)
    assert number == 4 and loss.item() == pytest.approx((1.3133 + 2.1269 + 0.3133 + 2.1269) / 4, abs=1e-4)


def test_what_is_learned_is_answered_with_probabilities(
    make_rows: MakeRows, learn: Learn, answer_all: AnswerAll, make_dataset: MakeDataset
) -> None:
    task = task_for(CONFIG, make_dataset(CONFIG, TRAIN))
    rows = make_rows(CONFIG, TRAIN)
    answers = answer_all(task, learn(task, rows), rows)
    assert [answer["labels"] for answer in answers] == [row.fields["labels"] for row in rows]
    for answer in answers:
        assert list(answer["scores"]) == ["damage", "delivery"]
        assert {label for label, chance in answer["scores"].items() if chance > 0.5} == {*answer["labels"]}


def outputs_of(logits: list[list[float]]) -> list[Any]:
    return [np.array([row, [0.0] * len(row)], np.float32) for row in logits]


def test_thresholds_are_chosen_on_rows_kept_in_the_head_and_put_into_the_bias_for_others(
    make_rows: MakeRows, tiny_bert: TinyBert
) -> None:
    base, _ = tiny_bert()
    task: Task = restore(CONFIG, ["damage", "delivery"])
    model = TaskModel(base, task.head(base.config.hidden_size, 0.0), pooling="mean")
    rows = make_rows(CONFIG, [{"text": "x", "labels": ["damage"]}, {"text": "y", "labels": ["delivery"]}])
    outputs = task.tuned(model, rows, Encoded(examples=[], num_rows=2), outputs_of([[-1.0, -3.0], [-4.0, -2.0]]))
    assert [output.tolist() for output in outputs] == [[[-1, -3], [-2.5, -2.5]], [[-4, -2], [-2.5, -2.5]]]
    answers = task.answers(rows, None, outputs)  # type: ignore[arg-type]
    assert [answer["labels"] for answer in answers] == [["damage"], ["delivery"]]
    assert answers[0]["scores"]["damage"] == pytest.approx(0.2689, abs=1e-4)
    state = model.head.state_dict()
    assert state["thresholds"].tolist() == [-2.5, -2.5]
    exported = task.exported(state)
    assert sorted(exported) == ["linear.bias", "linear.weight"]
    assert exported["linear.bias"].tolist() == [2.5, 2.5]


def test_a_threshold_of_its_own_needs_ten_rows_and_lowers_no_score() -> None:
    rng = np.random.default_rng(0)
    gold = rng.random((300, 3)) < [0.5, 0.2, 0.02]
    logits = (gold * 1.5 + rng.normal(size=gold.shape) + [0.0, 2.0, -1.0]).astype(np.float32)

    def f1(gold: Any, said: Any) -> float:
        return float(2 * (gold & said).sum() / (gold.sum() + said.sum()))

    chosen = best_thresholds(logits, gold, each=False)
    shared = best_thresholds(logits[:9], gold[:9], each=False)
    assert len(set(shared.tolist())) == 1
    assert gold[:, 2].sum() < 10 and chosen[2] not in (chosen[0], chosen[1])
    assert f1(gold, logits > chosen) > max(f1(gold, logits > one) for one in np.linspace(-4, 4, 200)) + 0.02
    by_label = best_thresholds(logits, gold, each=True)
    for label in (0, 1):
        best = max(f1(gold[:, label], logits[:, label] > one) for one in np.linspace(-3, 5, 400))
        assert f1(gold[:, label], logits[:, label] > by_label[label]) >= best - 1e-9


def test_where_no_answer_is_right_none_is_given() -> None:
    logits, gold = np.zeros((12, 2), np.float32), np.zeros((12, 2), np.bool_)
    assert not (logits > best_thresholds(logits, gold, each=False)).any()


SAID = [["delivery"], ["delivery"], [], ["damage", "price"]]


@pytest.mark.parametrize("metric", ["micro_f1", "macro_f1"])
def test_scores_are_sklearns(make_rows: MakeRows, metric: str) -> None:
    config = replace(CONFIG, metric=metric)
    task, rows = restore(config, ["damage", "delivery"]), make_rows(config, TRAIN)
    scores = task.score(rows, [{"labels": labels} for labels in SAID])
    assert scores.metrics == pytest.approx({"micro_f1": 0.75, "macro_f1": 5 / 9, "subset_accuracy": 0.5})
    gold = np.array([[0, 1, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0]])
    said = np.array([[0, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]])
    for average in ("micro", "macro"):
        theirs = f1_score(gold, said, average=average, zero_division=0)
        assert scores.metrics[f"{average}_f1"] == pytest.approx(theirs)
    assert scores.primary == pytest.approx(metrics.value_of(scores.statistic, scores.counts)) == scores.metrics[metric]
    assert scores.labels == (("damage", "delivery") if metric == "macro_f1" else ())
    assert scores.found == {"damage": (1, 2), "delivery": (2, 2)}
    own = f1_score(gold[:, :2], said[:, :2], average="macro") if metric == "macro_f1" else scores.primary
    assert scores.on_own_labels().primary == pytest.approx(own)  # no row has the price
    counts, statistic, labels = task.right_counts(rows)
    assert (statistic, labels) == (scores.statistic, scores.labels)
    assert metrics.carriers(counts, statistic).any(1).tolist() == [True, True, False, True]


def test_the_baseline_is_what_most_rows_have_or_the_commonest_label(make_rows: MakeRows) -> None:
    rows = make_rows(CONFIG, TRAIN)
    nothing: list[dict[str, Any]] = [{"labels": []}] * 4
    most = MultiLabel(CONFIG, ["damage", "delivery"], {"damage": 0.6, "delivery": 0.7})
    assert most.score(rows, nothing).baseline == pytest.approx(2 * 4 / (8 + 4))
    few = MultiLabel(CONFIG, ["damage", "delivery"], {"damage": 0.2, "delivery": 0.3})
    assert few.score(rows, nothing).baseline == pytest.approx(2 * 2 / (4 + 4))
    assert restore(CONFIG, ["damage", "delivery"]).score(rows, nothing).baseline == pytest.approx(0.5)
    assert few.score(rows[2:3], nothing[:1]).primary == 0.0


def test_each_label_is_shown_with_what_was_found_of_it() -> None:
    (shown,) = restore(CONFIG, ["damage", "delivery"]).figures(
        [one["labels"] for one in TRAIN], [{"labels": labels} for labels in SAID]
    )
    assert isinstance(shown, Labels) and shown.name == "labels"
    assert shown.records() == [
        {"label": "damage", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2.0},
        {"label": "delivery", "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 2.0},
    ]


def test_a_new_label_grows_behind_and_keeps_thresholds(make_rows: MakeRows) -> None:
    rows = make_rows(CONFIG, [{"text": "x", "labels": ["damage", "a new one"]}])
    task = restore(CONFIG, ["delivery", "damage"])
    assert task.grown(rows) == ["delivery", "damage", "a new one"]
    assert task.labels_of(rows[0]) == ("a new one", "damage")


def test_labels_that_hold_another_mark_may_be_several(make_dataset: MakeDataset) -> None:
    rows = [{"text": str(one), "labels": labels} for one, labels in enumerate(["late, torn", "torn", "on/off", "wet"])]
    dataset = make_dataset(CONFIG, rows)
    task = task_for(CONFIG, dataset)
    assert list(task.notes(dataset)) == [
        "Warning: 'late, torn' is one label here, and 'torn' is one too. If `,` separates labels, set "
        "`separator: ','` in topics.yaml."
    ]
    config = replace(CONFIG, separator=",")
    dataset = make_dataset(config, rows)
    assert list(task_for(config, dataset).notes(dataset)) == []


@pytest.mark.parametrize("given", [[1, 0, 1], "1|0|0", ["0", "1", "0"], [True, False, False], [0, 0], [1.0, 0.0, 1.0]])
def test_a_zero_or_one_for_each_label_is_no_list_of_labels(given: Any) -> None:
    (bad,) = make_row({"text": "x", "labels": given}, CONFIG, "a.csv:2")
    assert isinstance(bad, Fault) and bad.rule == "holds a 0 or 1 for each label, and not which labels these are"


def test_a_one_or_a_zero_may_be_a_label(make_rows: MakeRows) -> None:
    rows = make_rows(CONFIG, [{"text": "x", "labels": labels} for labels in ([0, 1], ["1"], "0|1", [1, 1, 2])])
    assert [row.fields["labels"] for row in rows] == [["0", "1"], ["1"], ["0", "1"], ["1", "2"]]


def test_beside_labels_that_stay_as_they_are_only_new_ones_get_another_threshold(
    make_rows: MakeRows, tiny_bert: TinyBert
) -> None:
    base, _ = tiny_bert()
    task: Task = restore(CONFIG, ["damage", "delivery"])
    task.fresh = ("delivery",)
    head = task.head(base.config.hidden_size, 0.0)
    head.get_buffer("thresholds").copy_(torch.tensor([0.5, 0.0]))
    model = TaskModel(base, head, pooling="mean")
    rows = make_rows(CONFIG, [{"text": "x", "labels": ["damage"]}, {"text": "y", "labels": ["delivery"]}])
    outputs = task.tuned(model, rows, Encoded(examples=[], num_rows=2), outputs_of([[-1.0, -3.0], [-4.0, -2.0]]))
    assert [output.tolist() for output in outputs] == [[[-1, -3], [0.5, -2.5]], [[-4, -2], [0.5, -2.5]]]
    assert head.get_buffer("thresholds").tolist() == [0.5, -2.5]
