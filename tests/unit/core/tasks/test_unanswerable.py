"""Extractive QA with questions that their context does not answer, as in SQuAD 2."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pipeline.config import TaskConfig
from pipeline.core.tasks.extractive_qa import ExtractiveQA
from pipeline.core.tasks.kinds import restore, task_for
from pipeline.errors import DataError

if TYPE_CHECKING:
    from tests.conftest import TinyBert
    from tests.unit.core.tasks.conftest import AnswerAll, Learn, MakeDataset, MakeRows, Values

CONFIG = TaskConfig(name="squad2", kind="extractive_qa", max_length=64, stride=8, max_answer_length=5)
KNOWING = replace(CONFIG, unanswerable=True)
WINDOWED = replace(KNOWING, max_length=16, stride=3)
NONE: dict[str, Any] = {"text": [], "answer_start": []}


def asked(context: str, answer: str | None, question: str = "where is it") -> Values:
    answers = NONE if answer is None else {"text": [answer], "answer_start": [context.index(answer)]}
    return {"question": question, "context": context, "answers": answers}


ANSWERED = [
    asked("anna went to Paris in the wind .", "Paris"),
    asked("oslo is the capital of norway", "oslo"),
]
UNANSWERED = [asked("the film was awful", None), asked("a great book and a song", None)]


@pytest.mark.parametrize(("rows", "known"), [(ANSWERED, False), ([*ANSWERED, *UNANSWERED], True)])
def test_a_task_knows_questions_without_an_answer_where_a_training_row_is_one(
    make_dataset: MakeDataset, rows: list[Values], known: bool
) -> None:
    assert task_for(CONFIG, make_dataset(CONFIG, rows)).config == replace(CONFIG, unanswerable=known)
    assert task_for(KNOWING, make_dataset(KNOWING, rows)).config == KNOWING


def test_rows_without_an_answer_that_train_lacks_are_one_fault_a_split(make_dataset: MakeDataset) -> None:
    rows = [*ANSWERED, *UNANSWERED]
    with pytest.raises(DataError) as caught:
        task_for(CONFIG, make_dataset(CONFIG, ANSWERED, validation=rows, test=rows))
    assert [fault.where for fault in caught.value.faults] == ["validation.jsonl:3", "test.jsonl:3"]
    assert "has no answer, like 2 of 4 rows of validation" in str(caught.value)
    task_for(KNOWING, make_dataset(KNOWING, ANSWERED, validation=rows, test=rows))


def test_few_of_them_are_counted_as_wrong_and_said(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(CONFIG, ANSWERED, test=[*ANSWERED * 10, UNANSWERED[0]])
    assert list(task_for(CONFIG, dataset).notes(dataset)) == [
        "1 of 21 questions of test have no answer, as none of train: they are counted as wrong."
    ]
    both = make_dataset(CONFIG, [*ANSWERED, *UNANSWERED], validation=ANSWERED)
    assert list(task_for(CONFIG, both).notes(both)) == [
        "2 of 4 questions of train have no answer, which is learnt.",
        "2 of 4 questions of test have no answer.",
    ]


def test_train_without_any_answer_is_a_fault(make_dataset: MakeDataset) -> None:
    with pytest.raises(DataError, match=r"train.jsonl:1: has no answer, nor has any other row of train") as caught:
        task_for(CONFIG, make_dataset(CONFIG, UNANSWERED))
    assert len(caught.value.faults) == 1


def test_every_window_of_a_question_without_an_answer_points_at_the_first_token(
    tiny_bert: TinyBert, make_rows: MakeRows
) -> None:
    rows = make_rows(WINDOWED, [asked(" ".join("abcdefghijklmnopqrst"), None)])
    windows = ExtractiveQA(WINDOWED).encode(rows, tiny_bert()[1]).examples
    assert len(windows) > 2 and all(window["span"] == [0, 0] for window in windows)


def one_window(task: ExtractiveQA, tiny_bert: TinyBert, make_rows: MakeRows, logits: dict[int, Any]) -> dict[str, Any]:
    """The answer for `a b c d` with the given (start, end) logits; 0 is the first token, 1 is `a`."""
    rows = make_rows(CONFIG, [asked("a b c d", "a")])
    array = np.full((5, 2), -99, dtype=np.float32)
    for place, pair in logits.items():
        array[place] = pair
    (answer,) = task.answers(rows, task.encode(rows, tiny_bert()[1]), [array])
    return answer


def test_there_is_no_answer_where_the_first_token_is_as_likely_as_the_likeliest_span(
    tiny_bert: TinyBert, make_rows: MakeRows
) -> None:
    task = ExtractiveQA(KNOWING)
    equal = one_window(task, tiny_bert, make_rows, {0: (1, 1), 2: (1, 1)})
    assert equal == {"answer": "", "score": pytest.approx(0.25), "start": 0, "end": 0, "no_answer": pytest.approx(0.25)}
    none = one_window(task, tiny_bert, make_rows, {0: (2, 2), 2: (1, 1)})
    assert none["answer"] == "" and none["score"] == none["no_answer"] == pytest.approx(0.534447)  # (e / (1 + e)) ** 2
    some = one_window(task, tiny_bert, make_rows, {0: (1, 1), 2: (2, 2)})
    assert (some["answer"], some["start"]) == ("b", 2)
    assert (some["score"], some["no_answer"]) == pytest.approx((0.534447, 0.072330), abs=1e-6)


def test_a_task_that_knows_none_answers_as_before(tiny_bert: TinyBert, make_rows: MakeRows) -> None:
    task = restore(CONFIG)
    assert isinstance(task, ExtractiveQA)
    given = one_window(task, tiny_bert, make_rows, {0: (2, 2), 2: (1, 1)})
    assert given == {"answer": "b", "score": pytest.approx(0.072330, abs=1e-6), "start": 2, "end": 3}


def test_windows_without_the_answer_do_not_speak_against_the_one_that_has_it(
    tiny_bert: TinyBert, make_rows: MakeRows
) -> None:
    rows = make_rows(WINDOWED, [asked(" ".join("abcdefghijklmnopqrst"), "a")])
    task = ExtractiveQA(WINDOWED)
    encoded = task.encode(rows, tiny_bert()[1])
    outputs = [np.zeros((1 + len(one["offsets"]), 2), dtype=np.float32) for one in encoded.examples]
    for output in outputs:
        output[0] = 9
    assert task.answers(rows, encoded, outputs)[0]["answer"] == ""
    outputs[1][2] = 12
    (answer,) = task.answers(rows, encoded, outputs)
    assert answer["answer"] and answer["no_answer"] < 0.01


def test_a_context_without_any_sub_token_has_no_answer_for_sure(
    make_rows: MakeRows, learn: Learn, answer_all: AnswerAll
) -> None:
    task = ExtractiveQA(KNOWING)
    model = learn(task, make_rows(KNOWING, ANSWERED), steps=0)
    item = task.parse_item({"question": "where", "context": "\u200d"})
    assert answer_all(task, model, [item]) == [{"answer": "", "score": 1.0, "start": 0, "end": 0, "no_answer": 1.0}]


def test_it_learns_which_questions_have_an_answer(make_rows: MakeRows, learn: Learn, answer_all: AnswerAll) -> None:
    rows = make_rows(CONFIG, [*ANSWERED, *UNANSWERED])
    task = ExtractiveQA.from_rows(CONFIG, rows)
    answers = answer_all(task, learn(task, rows, steps=80), rows)
    assert [answer["answer"] for answer in answers] == ["Paris", "oslo", "", ""]
    assert task.score(rows, answers).metrics == {
        "f1": 1.0,
        "exact_match": 1.0,
        "has_answer_f1": 1.0,
        "has_answer_exact_match": 1.0,
        "no_answer_accuracy": 1.0,
    }


def test_scores_are_those_of_all_rows_and_of_both_parts(make_rows: MakeRows) -> None:
    rows = make_rows(KNOWING, [*ANSWERED, *UNANSWERED])
    answers = [{"answer": "went to Paris"}, {"answer": ""}, {"answer": ""}, {"answer": "book"}]
    scores = ExtractiveQA(KNOWING).score(rows, answers)
    assert scores.metrics == pytest.approx(
        {
            "f1": (0.5 + 0 + 1 + 0) / 4,
            "exact_match": 1 / 4,
            "has_answer_f1": 0.25,
            "has_answer_exact_match": 0,
            "no_answer_accuracy": 0.5,
        }
    )
    assert scores.baseline == 0.5  # no answer at all; the whole context has less
    alone = ExtractiveQA(KNOWING).score(rows[2:], answers[2:]).metrics
    assert alone == {"f1": 0.5, "exact_match": 0.5, "no_answer_accuracy": 0.5}
