"""Multiple choice: bad rows, four and five options mixed, joint and dual scoring, scores, learning."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from pipeline.config import TaskConfig
from pipeline.core.tasks.kinds import task_for
from pipeline.core.tasks.multiple_choice import MultipleChoice, SimilarityHead
from pipeline.errors import DataError

if TYPE_CHECKING:
    from tests.conftest import TinyBert
    from tests.unit.core.tasks.conftest import AnswerAll, Learn, MakeDataset, MakeRows, Values

WRITTEN = TaskConfig(name="w", kind="generation", prompt="{question}{options}", completion="{answer}")
JOINT = TaskConfig(name="medqa", kind="multiple_choice")
DUAL = replace(JOINT, scoring="dual")
BOTH = pytest.mark.parametrize("config", [JOINT, DUAL], ids=["joint", "dual"])

# The answer is the option that is good, whatever the question.
ROWS: list[Values] = [
    {"question": "what is it", "options": ["bad film", "dull film", "good film", "awful film"], "answer": 2},
    {"question": "which one", "options": ["good song", "bad song", "dull song", "hot song", "wet song"], "answer": 0},
    {"question": "who was it in the end", "options": ["poor book", "good book"], "answer": 1},
    {"question": "where", "options": ["bad food", "cold food", "wet food", "dry food", "good food"], "answer": 4},
]


def test_a_first_option_that_is_never_right_is_noted(make_dataset: MakeDataset) -> None:
    said = "In none of 12 rows is the first option the answer (position 0). Are positions counted from 1?"
    for config in (JOINT, WRITTEN):
        rows = [{"question": "q", "options": ["a", "b", "c"], "answer": one} for one in (1, 2, 1, 2)]
        dataset = make_dataset(config, rows)
        assert list(task_for(config, dataset).notes(dataset)) == [said]
        dataset = make_dataset(config, rows, test=[*rows, rows[0] | {"answer": 0}])
        assert list(task_for(config, dataset).notes(dataset)) == []


@pytest.mark.parametrize("answer", [-1, 2, 7])
def test_an_answer_out_of_range_names_file_line_and_range(make_dataset: MakeDataset, answer: int) -> None:
    bad = {"question": "who", "options": ["anna", "ben"], "answer": answer}
    with pytest.raises(DataError) as caught:
        task_for(JOINT, make_dataset(JOINT, [*ROWS, bad], validation=ROWS, test=ROWS))
    (fault,) = caught.value.faults
    assert (fault.where, fault.value) == ("train.jsonl:5", str(answer))
    assert "from 0 to 1" in fault.rule and fault.remedy == "Count the options from 0"


def test_other_bad_rows_are_faults(make_dataset: MakeDataset) -> None:
    bad: list[Values] = [
        {"question": " ", "options": ["anna", "ben"], "answer": 0},
        {"question": "who", "options": ["anna"], "answer": 0},
        {"question": "who", "options": ["anna", "", " "], "answer": 0},
    ]
    with pytest.raises(DataError) as caught:
        task_for(JOINT, make_dataset(JOINT, bad, validation=ROWS, test=ROWS))
    messages = [str(fault) for fault in caught.value.faults]
    assert "train.jsonl:1: has an empty question" in messages[0]
    assert "train.jsonl:2:" in messages[1] and "fewer than 2 options" in messages[1]
    assert "train.jsonl:3:" in messages[2] and "position 1" in messages[2] and "position 2" in messages[3]


@BOTH
def test_a_batch_of_mixed_numbers_of_options_scores_each_question_by_itself(
    config: TaskConfig, tiny_bert: TinyBert, make_rows: MakeRows, learn: Learn
) -> None:
    rows = make_rows(config, ROWS)
    task = MultipleChoice(config)
    model = learn(task, rows, steps=1)
    examples = task.encode(rows, tiny_bert()[1]).examples
    together = task.outputs(model, task.collate(examples, 0))
    assert [len(one) for one in together] == [4, 5, 2, 5]
    losses = []
    for example, logits, row in zip(examples, together, ROWS, strict=True):
        batch = task.collate([example], 0)
        np.testing.assert_allclose(task.outputs(model, batch)[0], logits, atol=1e-4)  # padding: order of sums
        loss, number = task.loss(model, batch)
        assert number == 1
        scores = torch.tensor(logits)
        expected = torch.nn.functional.cross_entropy(scores, torch.tensor(row["answer"]))
        torch.testing.assert_close(loss.detach(), expected, atol=1e-4, rtol=0)
        losses.append(float(loss.detach()))
    loss, number = task.loss(model, task.collate(examples, 0))
    assert number == 4 and float(loss.detach()) == pytest.approx(np.mean(losses), abs=1e-4)


@BOTH
def test_it_learns_with_finite_gradients_and_answers(
    config: TaskConfig, make_rows: MakeRows, learn: Learn, answer_all: AnswerAll
) -> None:
    rows = make_rows(config, ROWS)
    task = MultipleChoice(config)
    model = learn(task, rows, steps=60)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in model.head.parameters())
    answers = answer_all(task, model, rows, batch_size=3)
    assert [answer["answer"] for answer in answers] == [2, 0, 1, 4]
    assert answers[0]["option"] == "good film"
    assert [len(answer["scores"]) for answer in answers] == [4, 5, 2, 5]
    assert all(sum(answer["scores"]) == pytest.approx(1) for answer in answers)
    scores = task.score(rows, answers)
    assert scores.primary == scores.metrics["accuracy"] == 1.0


def test_the_baseline_is_drawing_at_random(make_rows: MakeRows) -> None:
    rows = make_rows(JOINT, ROWS * 10)
    answers = [{"answer": answer} for answer in [2, 0, 0, 0] * 10]
    scores = MultipleChoice(JOINT).score(rows, answers)
    assert scores.primary == 0.5 and scores.low < 0.5 < scores.high
    assert scores.baseline == pytest.approx((1 / 4 + 1 / 5 + 1 / 2 + 1 / 5) / 4)


def test_joint_reads_question_and_option_as_one_input(tiny_bert: TinyBert, make_rows: MakeRows) -> None:
    _, tokenizer = tiny_bert()
    example = MultipleChoice(JOINT).encode(make_rows(JOINT, ROWS), tokenizer).examples[2]
    tokens = tokenizer.convert_ids_to_tokens(example["inputs"][1]["input_ids"])
    assert " ".join(tokens) == "[CLS] who was i ##t in the e ##n ##d [SEP] good book [SEP]"
    assert set(example["inputs"][1]["token_type_ids"]) == {0, 1}


def test_dual_encodes_the_question_once(tiny_bert: TinyBert, make_rows: MakeRows) -> None:
    task = MultipleChoice(DUAL)
    batch = task.collate(task.encode(make_rows(DUAL, ROWS), tiny_bert()[1]).examples, 0)
    assert len(batch["asked_input_ids"]) == 4 and len(batch["input_ids"]) == 16
    assert batch["question_of"].tolist() == [0] * 4 + [1] * 5 + [2] * 2 + [3] * 5
    assert batch["is_option"].sum(1).tolist() == [4, 5, 2, 5]


def test_the_similarity_starts_as_20_times_the_cosine() -> None:
    questions, options = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    scores = SimilarityHead(32, dropout=0.0)(questions, options)
    torch.testing.assert_close(scores, 20 * torch.cosine_similarity(questions, options))


@BOTH
def test_a_row_with_any_text_cut_counts_as_truncated_once(
    config: TaskConfig, tiny_bert: TinyBert, make_rows: MakeRows
) -> None:
    values = [
        *ROWS,
        {"question": "book " * 80, "options": ["anna", "ben", "carl"], "answer": 0},
        {"question": "who", "options": ["anna " * 80, "ben " * 80], "answer": 0},
    ]
    encoded = MultipleChoice(config).encode(make_rows(config, values), tiny_bert()[1])
    assert encoded.num_truncated == 2 and encoded.num_rows == 6
    assert max(example["length"] for example in encoded.examples) == 64


@BOTH
def test_items_are_answered(config: TaskConfig, make_rows: MakeRows, learn: Learn, answer_all: AnswerAll) -> None:
    task = MultipleChoice(config)
    model = learn(task, make_rows(config, ROWS), steps=60)
    item = task.parse_item({"question": "which one", "options": ["bad book", "dull book", "good book"]})
    (answer,) = answer_all(task, model, [item])
    assert (answer["answer"], answer["option"]) == (2, "good book")
