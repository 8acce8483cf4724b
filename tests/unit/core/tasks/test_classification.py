"""Classification: bad rows, labels, class weights, truncation, scores, learning."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from pipeline.config import TaskConfig
from pipeline.core.tasks.classification import Classification
from pipeline.core.tasks.kinds import restore, task_for
from pipeline.core.tasks.task import Encoded
from pipeline.errors import DataError

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


def test_a_label_that_was_cut_off_train_whole_is_not_said_to_stand_in_a_file_of_its_own(
    make_dataset: MakeDataset,
) -> None:
    dataset = make_dataset(CONFIG, TRAIN, test=[*TRAIN, {"text": "a plot", "label": "neutral"}])
    cut = replace(dataset, test=replace(dataset.test, cut_from="train"))
    with pytest.raises(DataError, match=r"'neutral' is a label that only the rows have which were cut off train for"):
        task_for(CONFIG, cut)


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


def test_of_many_bad_rows_20_are_named_and_the_rest_counted(make_dataset: MakeDataset) -> None:
    bad = [{"text": "", "label": "positive"}] * 25
    with pytest.raises(DataError) as caught:
        task_for(CONFIG, make_dataset(CONFIG, bad, validation=TRAIN, test=TRAIN))
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[19].startswith("train.jsonl:20:")
    assert lines[20] == "... and 5 more"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_label_that_train_lacks_names_label_line_and_remedy(make_dataset: MakeDataset, split: str) -> None:
    other = {split: [*TRAIN, {"text": "fine", "label": "mixed"}, {"text": "so so", "label": "mixed"}]}
    with pytest.raises(DataError) as caught:
        task_for(CONFIG, make_dataset(CONFIG, TRAIN, **other))
    (fault,) = caught.value.faults
    assert (fault.where, fault.value) == (f"{split}.jsonl:6", "mixed")
    assert fault.remedy == f"Add training rows with it, or remove it from {split}"


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


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_right_answers_have_the_counts_that_are_said_of_them_without_a_model(make_rows: MakeRows, metric: str) -> None:
    task = restore(replace(CONFIG, metric=metric), ["negative", "neutral", "positive"])
    rows = make_rows(CONFIG, [*TRAIN, {"text": "a plot", "label": "other"}])
    scores = task.score(rows, [{"label": row.fields["label"]} for row in rows])
    counts, statistic, labels = task.right_counts(rows)
    assert scores.primary == statistic(counts.sum(0)) == (1 if metric == "accuracy" else pytest.approx(1))
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
    with pytest.raises(DataError, match="'negative' is no label of train, but stands in validation"):
        task_for(CONFIG, make_dataset(CONFIG, [*rows[:1], {"text": "so", "label": "mixed"}], validation=rows))
