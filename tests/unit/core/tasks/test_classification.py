"""Classification: bad rows, labels, class weights, truncation, scores, learning."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from pipeline.config import TaskConfig
from pipeline.core.tasks import metrics
from pipeline.core.tasks.classification import Classification
from pipeline.core.tasks.kinds import restore, task_for
from pipeline.core.tasks.task import Encoded
from pipeline.errors import DataError
from pipeline.reports.plots import answers_figure

if TYPE_CHECKING:
    from tests.conftest import TinyBert
    from tests.unit.core.tasks.conftest import AnswerAll, Learn, MakeDataset, MakeRows, Values

CONFIG = TaskConfig(name="films", kind="classification")
PAIR = TaskConfig(
    name="pubmedqa",
    kind="classification",
    columns={"text": "question", "text_pair": "context", "label": "verdict"},
)
TRAIN: list[Values] = [
    {"text": "a good film", "label": "positive"},
    {"text": "the plot is great", "label": "positive"},
    {"text": "good food , great song", "label": "positive"},
    {"text": "the film was awful", "label": "negative"},
    {"text": "a bad , dull book", "label": "negative"},
]


def test_labels_are_those_of_the_training_rows_sorted(make_dataset: MakeDataset) -> None:
    assert task_for(CONFIG, make_dataset(CONFIG, TRAIN)).labels == ("negative", "positive")


def test_labels_are_in_the_order_of_the_config(make_dataset: MakeDataset) -> None:
    config = replace(CONFIG, labels=["positive", "neutral", "negative"])
    assert task_for(config, make_dataset(config, TRAIN)).labels == ("positive", "neutral", "negative")


def test_every_empty_text_is_named_by_file_and_line(make_dataset: MakeDataset) -> None:
    bad = [*TRAIN, {"text": " \n", "label": "positive"}]
    with pytest.raises(DataError) as caught:
        task_for(CONFIG, make_dataset(CONFIG, bad, validation=[{"text": "", "label": "x"}], test=TRAIN))
    assert [fault.where for fault in caught.value.faults] == ["train.jsonl:6", "validation.jsonl:1"]
    assert "empty text" in str(caught.value) and "Write a text, or remove the row" in str(caught.value)


def test_an_empty_second_text_or_label_is_a_fault(make_dataset: MakeDataset) -> None:
    row = {"text": "is it", "text_pair": "", "label": " "}
    with pytest.raises(DataError, match=r"train.jsonl:1: has an empty text_pair") as caught:
        task_for(PAIR, make_dataset(PAIR, [row]))
    assert len(caught.value.faults) == 6  # two a split


def test_of_many_bad_rows_the_first_is_named_and_the_rest_counted(make_dataset: MakeDataset) -> None:
    bad = [{"text": "", "label": "positive"}] * 25
    with pytest.raises(DataError) as caught:
        task_for(CONFIG, make_dataset(CONFIG, bad, validation=TRAIN, test=TRAIN))
    said = "train.jsonl:1: has an empty text (the first of 25). Write a text, or remove the row."
    assert (str(caught.value), len(caught.value.faults)) == (said, 25)


OTHERS = [{"text": "fine", "label": "mixed"}, {"text": "so so", "label": "mixed"}, {"text": "?", "label": "odd"}]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_labels_that_train_lacks_are_one_fault_above_a_share(make_dataset: MakeDataset, split: str) -> None:
    with pytest.raises(DataError) as caught:
        task_for(CONFIG, make_dataset(CONFIG, TRAIN, **{split: [*TRAIN, *OTHERS]}))
    assert str(caught.value) == (
        f"{split}.jsonl:6: 'mixed' is no label of train, nor is 1 other: 37.5% of the labels of {split} cannot be "
        f"predicted, more than 5%. Add training rows with it, remove it from {split}, or raise data.max_unseen."
    )


def test_labels_that_train_lacks_are_counted_as_wrong_and_said_with_their_share(
    tiny_bert: TinyBert, make_dataset: MakeDataset, learn: Learn, answer_all: AnswerAll
) -> None:
    dataset = replace(make_dataset(CONFIG, TRAIN, test=[*TRAIN, *OTHERS]), max_unseen=0.375)
    task = task_for(CONFIG, dataset)
    assert task.labels == ("negative", "positive")
    assert list(task.notes(dataset)) == [
        "'mixed', 'odd': no label of train, cannot be predicted and are counted as wrong, 37.5% of the labels of test."
    ]
    rows = dataset.test.rows
    answers = answer_all(task, learn(task, dataset.train.rows), rows)
    assert [answer["label"] for answer in answers[:5]] == ["positive"] * 3 + ["negative"] * 2
    scores = task.score(rows, answers)
    assert scores.metrics["accuracy"] == 5 / 8
    assert scores.found == {"mixed": (0, 2), "negative": (2, 2), "odd": (0, 1), "positive": (3, 3)}
    assert task.score(rows, answers).metrics["macro_f1"] < 0.5
    macro = replace(task.config, metric="macro_f1")
    by_label = Classification(macro, task.labels, task.shares).score(rows, answers)
    assert by_label.primary == scores.metrics["macro_f1"]
    assert by_label.labels == ("negative", "positive", "mixed", "odd")
    (figure,) = task.figures([row.fields["label"] for row in rows], answers)
    assert answers_figure(figure, job="t/d").axes


def test_a_label_that_a_former_version_learnt_with_blanks_is_the_label(make_rows: MakeRows) -> None:
    task = restore(CONFIG, ["positive", "positive "])
    rows = make_rows(CONFIG, [{"text": "good", "label": "positive "}, {"text": "great", "label": "positive"}])
    assert task.score(rows, [{"label": "positive "}, {"label": "positive "}]).metrics["accuracy"] == 1


def test_a_label_that_the_config_lists_and_train_lacks_is_a_fault_where_it_is_asked_for(
    make_dataset: MakeDataset,
) -> None:
    config = replace(CONFIG, labels=["positive", "negative", "mixed"])
    dataset = replace(make_dataset(config, TRAIN, test=[*TRAIN * 20, *OTHERS]), max_unseen=1.0)
    with pytest.raises(DataError) as caught:
        task_for(config, dataset)
    assert sorted(map(str, caught.value.faults)) == [
        "test.jsonl:101: 'mixed' is a label that task.films lists and no training row has: it cannot be learned. "
        "Add training rows with it, or take it out of labels and test.",
        "test.jsonl:103: 'odd' is no label of task films, which lists positive, negative, mixed. "
        "Mend the row, or add it to labels of task.films.",
    ]


@pytest.mark.parametrize("labels", [["1", "1.5"], ["3.8", "-2"], [".5", "1e-3"]])
def test_numbers_with_fractions_are_no_labels_unless_the_config_lists_them(
    make_dataset: MakeDataset, labels: list[str]
) -> None:
    rows = [{"text": label, "label": label} for label in labels]
    with pytest.raises(
        DataError, match=r"is a number with a fraction, and no label\. For a score set `kind: regression`"
    ):
        task_for(CONFIG, make_dataset(CONFIG, rows))
    listed = replace(CONFIG, labels=labels)
    assert task_for(listed, make_dataset(listed, rows)).labels == tuple(labels)
    assert task_for(CONFIG, make_dataset(CONFIG, [*rows, {"text": "v", "label": "v1.2"}])).labels[-1] == "v1.2"


def test_labels_that_may_be_meant_otherwise_are_noted(make_dataset: MakeDataset) -> None:
    labels = ["billing", "Billing", "billing ", "-", "?", "e\u0301", "3.0"]
    dataset = make_dataset(CONFIG, [{"text": str(one), "label": label} for one, label in enumerate(labels)])
    task = task_for(CONFIG, dataset)
    assert task.labels == ("-", "3", "?", "Billing", "billing", "\u00e9")
    assert list(task.notes(dataset)) == [
        "9 rows have a label that is written otherwise than it is learnt, without blanks around it, in Unicode's NFC, "
        "or without the .0 of a whole number: 'billing ' is learnt as 'billing' (first: train.jsonl:3).",
        "'Billing' (3), 'billing' (6) differ by case alone, and are labels of their own.",
        "'-' stands 3 times, and is a label like any other. If it means that there is none, set data.no_label=[-].",
        "'?' stands 3 times, and is a label like any other. If it means that there is none, set data.no_label=[?].",
    ]


def test_a_label_that_the_config_does_not_list_is_a_fault(make_dataset: MakeDataset) -> None:
    config = replace(CONFIG, labels=["positive", "neutral"])
    with pytest.raises(DataError, match=r"train.jsonl:4: 'negative' is no label of task films"):
        task_for(config, make_dataset(config, TRAIN))


def test_a_single_label_in_train_is_a_fault(make_dataset: MakeDataset) -> None:
    with pytest.raises(DataError, match=r"train.jsonl:1: 'positive' is the only label in train"):
        task_for(CONFIG, make_dataset(CONFIG, TRAIN[:3]))


def test_the_loss_is_the_mean_cross_entropy_and_counts_rows(
    tiny_bert: TinyBert, make_rows: MakeRows, learn: Learn
) -> None:
    rows = make_rows(CONFIG, TRAIN)
    task = Classification.from_rows(CONFIG, rows)
    model = learn(task, rows, steps=0)
    batch = task.collate(task.encode(rows, tiny_bert()[1]).examples, 0)
    loss, number = task.loss(model, batch)
    logits = torch.tensor(np.stack(task.outputs(model, batch)))
    gold = torch.tensor([1, 1, 1, 0, 0])
    assert number == 5
    torch.testing.assert_close(loss.detach(), torch.nn.functional.cross_entropy(logits, gold))


def test_the_head_begins_with_the_shares_of_the_labels_unless_they_weigh_the_same(make_rows: MakeRows) -> None:
    rows = make_rows(CONFIG, TRAIN)
    bias = Classification.from_rows(CONFIG, rows).head(32, 0.1).linear.bias
    torch.testing.assert_close(bias, torch.tensor([0.4, 0.6]).log())
    weighted = Classification.from_rows(replace(CONFIG, class_weights=True), rows)
    for task in (weighted, Classification(CONFIG, weighted.labels)):
        assert torch.equal(task.head(32, 0.1).linear.bias, torch.zeros(2))


def test_class_weights_are_inverse_shares_with_mean_1_over_the_rows(
    tiny_bert: TinyBert, make_rows: MakeRows, learn: Learn
) -> None:
    rows = make_rows(CONFIG, TRAIN)
    config = replace(CONFIG, class_weights=True, labels=["negative", "positive", "neutral"])
    task = Classification.from_rows(config, rows)
    weights = task.weights()
    assert weights.tolist() == pytest.approx([5 / 4, 5 / 6, 1])
    model = learn(task, rows, steps=0)
    batch = task.collate(task.encode(rows, tiny_bert()[1]).examples, 0)
    logits = torch.tensor(np.stack(task.outputs(model, batch)))
    gold = torch.tensor([1, 1, 1, 0, 0])
    expected = (torch.nn.functional.cross_entropy(logits, gold, reduction="none") * weights[gold]).mean()
    torch.testing.assert_close(task.loss(model, batch)[0].detach(), expected)


def test_it_learns_and_answers_with_probabilities(make_rows: MakeRows, learn: Learn, answer_all: AnswerAll) -> None:
    rows = make_rows(CONFIG, TRAIN)
    task = Classification.from_rows(CONFIG, rows)
    model = learn(task, rows)
    answers = answer_all(task, model, rows, batch_size=2)
    assert [answer["label"] for answer in answers] == [row["label"] for row in TRAIN]
    for answer in answers:
        assert set(answer) == {"label", "score", "scores"}
        assert answer["score"] == max(answer["scores"].values()) == answer["scores"][answer["label"]]
        assert sum(answer["scores"].values()) == pytest.approx(1)
    scores = task.score(rows, answers)
    assert (scores.primary, scores.high) == (1.0, 1.0)
    assert 0 < scores.low < 0.5  # of five rows
    assert scores.baseline == pytest.approx(3 / 5)


def test_scores_have_both_metrics_an_interval_and_the_training_majority_as_baseline(make_rows: MakeRows) -> None:
    task = Classification.from_rows(CONFIG, make_rows(CONFIG, TRAIN))
    texts = ["negative"] * 60 + ["positive"] * 40
    rows = make_rows(CONFIG, [{"text": "x", "label": label} for label in texts], "test.jsonl")
    answers = [{"label": "negative"}] * 50 + [{"label": "positive"}] * 50
    scores = task.score(rows, answers)
    assert scores.metrics == {"accuracy": 0.9, "macro_f1": pytest.approx(0.898989, abs=1e-6)}
    assert scores.primary == 0.9 and 0.8 < scores.low < 0.9 < scores.high < 1
    assert scores.baseline == 0.4  # positive is the majority of train, not of these rows


def test_macro_f1_has_an_interval_and_a_baseline_of_its_own(make_rows: MakeRows) -> None:
    config = replace(CONFIG, metric="macro_f1")
    task = Classification.from_rows(config, make_rows(config, TRAIN))
    rows = make_rows(config, [{"text": "x", "label": label} for label in ["negative"] * 60 + ["positive"] * 40])
    scores = task.score(rows, [{"label": "negative"}] * 50 + [{"label": "positive"}] * 50)
    assert scores.primary == scores.metrics["macro_f1"]
    assert scores.low < scores.primary < scores.high
    assert scores.baseline == pytest.approx((2 * 0.4 / 1.4) / 2)


@pytest.mark.parametrize(
    ("metric", "value", "baseline"),
    [
        ("matthews", 0.816497, 0),
        ("f1", 0.888889, 2 * 0.4 / 1.4),  # of always saying the second label
    ],
)
def test_metrics_of_benchmarks_stand_beside_the_two_where_they_select(
    make_rows: MakeRows, metric: str, value: float, baseline: float
) -> None:
    config = replace(CONFIG, metric=metric, labels=["negative", "positive"])
    task = Classification.from_rows(config, make_rows(config, TRAIN))
    rows = make_rows(config, [{"text": "x", "label": label} for label in ["negative"] * 60 + ["positive"] * 40])
    scores = task.score(rows, [{"label": "negative"}] * 50 + [{"label": "positive"}] * 50)
    assert scores.metrics == pytest.approx({"accuracy": 0.9, "macro_f1": 0.898989, metric: value}, abs=1e-6)
    assert scores.primary == scores.metrics[metric] and scores.low < scores.primary < scores.high
    assert scores.baseline == pytest.approx(baseline)


def test_matthews_has_as_many_counts_whatever_labels_rows_and_answers_have(make_rows: MakeRows) -> None:
    config = replace(CONFIG, metric="matthews")
    task = restore(config, ["negative", "positive"])
    rows = make_rows(config, [*TRAIN, {"text": "a plot", "label": "mixed"}])
    few = task.score(rows[:5], [{"label": "positive"}] * 5)
    many = task.score(rows, [{"label": "gone"}] * 6)
    assert few.counts.shape[1] == many.counts.shape[1] == 9


@pytest.mark.parametrize("labels", [None, ["a", "b", "c"]])
def test_f1_of_classification_needs_two_labels_that_are_listed(labels: list[str] | None) -> None:
    (fault,) = replace(CONFIG, metric="f1", labels=labels).faults("task.films")
    assert fault.where == "task.films.metric" and "second of two labels" in fault.rule


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "matthews", "f1"])
def test_right_answers_have_the_counts_that_are_said_of_them_without_a_model(make_rows: MakeRows, metric: str) -> None:
    task = restore(replace(CONFIG, metric=metric), ["negative", "neutral", "positive"])
    rows = make_rows(CONFIG, [*TRAIN, {"text": "a plot", "label": "other"}])
    scores = task.score(rows, [{"label": row.fields["label"]} for row in rows])
    counts, statistic, labels = task.right_counts(rows)
    assert scores.primary == metrics.value_of(statistic, counts) == pytest.approx(1)
    assert (counts == scores.counts).all() and statistic is scores.statistic and labels == scores.labels


def test_the_baseline_of_a_restored_task_is_the_majority_of_the_scored_rows(make_rows: MakeRows) -> None:
    rows = make_rows(CONFIG, TRAIN[2:])
    task = restore(CONFIG, ["negative", "positive"])
    assert task.score(rows, [{"label": "positive"}] * 3).baseline == pytest.approx(2 / 3)


def test_truncated_rows_are_counted_and_no_input_is_longer_than_the_limit(
    tiny_bert: TinyBert, make_rows: MakeRows
) -> None:
    values = [{"text": "good " * n, "label": "x"} for n in (1, 6, 7, 200)]
    rows = make_rows(CONFIG, values)
    task = Classification.from_rows(CONFIG, rows)
    short = Classification(replace(CONFIG, max_length=8), task.labels, task.shares)
    encoded = short.encode(rows, tiny_bert()[1])
    assert encoded.num_truncated == 2
    assert [one["length"] for one in encoded.examples] == [3, 8, 8, 8]
    longest = task.encode(rows, tiny_bert()[1])  # 128 asked for, 64 the model's own limit
    assert longest.num_truncated == 1 and max(one["length"] for one in longest.examples) == 64


def test_of_a_pair_the_context_is_cut_and_the_question_stays_whole(tiny_bert: TinyBert, make_rows: MakeRows) -> None:
    config = replace(PAIR, max_length=16)
    values = [{"text": "is the film good", "text_pair": "book " * 50, "label": "yes"}]
    rows = make_rows(config, values)
    _, tokenizer = tiny_bert()
    encoded = Classification.from_rows(config, rows).encode(rows, tokenizer)
    (example,) = encoded.examples
    assert encoded.num_truncated == 1 and example["length"] == 16
    expected = ["[CLS]", "is", "the", "film", "good", "[SEP]", *["book"] * 9, "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(example["input_ids"]) == expected
    assert example["token_type_ids"] == [0] * 6 + [1] * 10


def test_rows_without_a_label_or_with_an_unknown_one_are_answered(
    make_rows: MakeRows, learn: Learn, answer_all: AnswerAll
) -> None:
    rows = make_rows(CONFIG, TRAIN)
    task = Classification.from_rows(CONFIG, rows)
    model = learn(task, rows)
    strange = make_rows(CONFIG, [{"text": "a good film", "label": "unheard of"}])
    asked = [task.parse_item("a good film"), *strange]
    assert [answer["label"] for answer in answer_all(task, model, asked)] == ["positive", "positive"]


def test_answers_do_not_depend_on_the_batch(make_rows: MakeRows, learn: Learn, answer_all: AnswerAll) -> None:
    rows = make_rows(CONFIG, TRAIN)
    task = Classification.from_rows(CONFIG, rows)
    model = learn(task, rows, steps=5)
    one, all_ = (answer_all(task, model, rows, batch_size=size) for size in (1, 5))
    for alone, together in zip(one, all_, strict=True):
        assert alone["scores"] == pytest.approx(together["scores"], abs=1e-5)


def test_a_task_pickles(make_rows: MakeRows) -> None:
    task = Classification.from_rows(CONFIG, make_rows(CONFIG, TRAIN))
    again: Classification = pickle.loads(pickle.dumps(task))
    assert (again.config, again.labels, again.shares) == (task.config, task.labels, task.shares)


def test_encoded_examples_carry_their_row_and_length(tiny_bert: TinyBert, make_rows: MakeRows) -> None:
    rows = make_rows(CONFIG, TRAIN)
    encoded: Encoded = Classification.from_rows(CONFIG, rows).encode(rows, tiny_bert()[1])
    assert [one["row"] for one in encoded.examples] == [0, 1, 2, 3, 4]
    assert all(one["length"] == len(one["input_ids"]) for one in encoded.examples)
    assert (encoded.num_rows, encoded.num_truncated) == (5, 0)


def test_what_a_warm_start_has_learnt_may_be_missing_in_train(make_dataset: MakeDataset) -> None:
    rows = [{"text": "good", "label": "positive"}, {"text": "bad", "label": "negative"}]
    task_for(CONFIG, make_dataset(CONFIG, rows[:1], validation=rows), known=["negative"])
    with pytest.raises(DataError, match=r"'negative' is no label of train: 50\.0% of the labels of validation"):
        task_for(CONFIG, make_dataset(CONFIG, [*rows[:1], {"text": "so", "label": "mixed"}], validation=rows))


def test_labels_that_look_alike_are_noted(make_dataset: MakeDataset) -> None:
    labels = ["new york", "new  york", "wet", "wet\u200b", "None"]
    dataset = make_dataset(CONFIG, [{"text": str(one), "label": label} for one, label in enumerate(labels)])
    assert list(task_for(CONFIG, dataset).notes(dataset)) == [
        "'new  york' (3), 'new york' (3) differ by case, by blanks, or by characters that are not seen, alone, and are "
        "labels of their own.",
        "'wet' (3), 'wet\\u200b' (3) differ by case, by blanks, or by characters that are not seen, alone, and are "
        "labels of their own.",
        "'None' stands 3 times, and is a label like any other. If it means that there is none, set "
        "data.no_label=[None].",
    ]
