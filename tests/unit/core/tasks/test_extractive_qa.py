"""Extractive QA: bad rows, windows, targets, spans, scores, learning."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from pipeline.config import TaskConfig
from pipeline.core.tasks.extractive_qa import ExtractiveQA
from pipeline.core.tasks.kinds import task_for
from pipeline.errors import DataError

if TYPE_CHECKING:
    from tests.conftest import TinyBert
    from tests.unit.core.tasks.conftest import AnswerAll, Learn, MakeDataset, MakeRows, Values

CONFIG = TaskConfig(name="covidqa", kind="extractive_qa", max_length=64, stride=8, max_answer_length=5)
WINDOWED = replace(CONFIG, max_length=16, stride=3)


def row(context: str, answer: str, question: str = "where is it") -> dict[str, Any]:
    answers = {"text": [answer], "answer_start": [context.index(answer)]}
    return {"question": question, "context": context, "answers": answers}


ROWS: list[Values] = [
    row("anna went to Paris in the wind .", "Paris"),
    row("the film was in berlin , and not in france", "berlin"),
    row("oslo is the capital of norway", "oslo"),
    row("a great book from Rome", "Rome"),
]


def faults(make_dataset: MakeDataset, *bad: Values) -> list[str]:
    with pytest.raises(DataError) as caught:
        task_for(CONFIG, make_dataset(CONFIG, [*ROWS, *bad], validation=ROWS, test=ROWS))
    return [str(fault) for fault in caught.value.faults]


def test_a_span_that_is_not_in_the_context_names_file_line_and_where_it_is(make_dataset: MakeDataset) -> None:
    context = "anna went to Paris"
    shifted, absent, negative = (
        {"question": "where", "context": context, "answers": {"text": [text], "answer_start": [start]}}
        for text, start in (("Paris", 12), ("paris", 13), ("Paris", -5))
    )
    messages = faults(make_dataset, shifted, absent, negative)
    assert messages[0].startswith("train.jsonl:5: 'Paris' is not in the context at answer_start 12, where ' Pari'")
    assert messages[0].endswith("Set answer_start to 13.")
    assert messages[1].startswith("train.jsonl:6: 'paris' is not in the context at answer_start 13")
    assert messages[1].endswith("Copy the answer from the context.")
    assert messages[2].startswith("train.jsonl:7: 'Paris' is not in the context at answer_start -5")


def test_other_bad_rows_are_faults(make_dataset: MakeDataset) -> None:
    uneven: Values = {"question": "q", "context": "c", "answers": {"text": ["c"], "answer_start": []}}
    blank: Values = {"question": "q", "context": "c c", "answers": {"text": [" "], "answer_start": [1]}}
    empty: Values = {"question": "", "context": "c", "answers": {"text": ["c"], "answer_start": [0]}}
    messages = faults(make_dataset, uneven, blank, empty)
    assert "train.jsonl:5: has 1 answer texts and 0 answer_starts" in messages[0]
    assert "is an empty answer" in messages[1]
    assert "train.jsonl:7: has an empty question" in messages[2]


def test_windows_overlap_by_the_stride_and_cover_the_context(tiny_bert: TinyBert, make_rows: MakeRows) -> None:
    words = "abcdefghijklmnopqrstuvwxyz"
    context = " ".join(words)
    rows = make_rows(WINDOWED, [ROWS[0], row(context, "q")])
    encoded = ExtractiveQA(WINDOWED).encode(rows, tiny_bert()[1])
    windows = [one for one in encoded.examples if one["row"] == 1]
    assert len(windows) > 2 and max(one["length"] for one in windows) == 16
    seen = [[context[start:end] for start, end in one["offsets"]] for one in windows]
    for before, after in pairwise(seen):
        assert before[-3:] == after[:3]
    assert {word for window in seen for word in window} == set(words)
    assert encoded.num_rows == 2 and encoded.num_truncated == 0


def test_windows_with_the_answer_point_at_it_and_the_others_at_the_first_token(
    tiny_bert: TinyBert, make_rows: MakeRows
) -> None:
    context = " ".join("abcdefghijklmnopqrstuvwxyz")
    rows = make_rows(WINDOWED, [row(context, "p q")])
    windows = ExtractiveQA(WINDOWED).encode(rows, tiny_bert()[1]).examples
    found = 0
    for window in windows:
        start, end = window["span"]
        texts = [context[a:b] for a, b in window["offsets"]]
        if "p" in texts and "q" in texts:
            found += 1
            inside = slice(start - window["first"], end - window["first"] + 1)
            assert texts[inside] == ["p", "q"]
        else:
            assert (start, end) == (0, 0)
    assert 0 < found < len(windows)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Paris", "Paris"),
        ("ari", "Paris"),
        (".", "."),
        ("Paris.", "Paris."),
        (" Paris. ", "Paris."),
        (" anna", "anna"),  # the first token
        ("rome ", "rome"),  # the last
        (" anna went to Paris. rome ", "anna went to Paris. rome"),
    ],
)
def test_the_target_is_the_sub_tokens_that_the_answer_touches(
    tiny_bert: TinyBert, make_rows: MakeRows, answer: str, text: str
) -> None:
    context = " anna went to Paris. rome "
    (window,) = ExtractiveQA(CONFIG).encode(make_rows(CONFIG, [row(context, answer)]), tiny_bert()[1]).examples
    start, end = (place - window["first"] for place in window["span"])
    assert context[window["offsets"][start, 0] : window["offsets"][end, 1]] == text


def test_a_long_question_is_cut_and_counted(tiny_bert: TinyBert, make_rows: MakeRows) -> None:
    rows = make_rows(WINDOWED, [{**ROWS[0], "question": "who is it " * 30}, ROWS[1]])
    encoded = ExtractiveQA(WINDOWED).encode(rows, tiny_bert()[1])
    assert encoded.num_truncated == 1
    assert max(one["length"] for one in encoded.examples) <= 16
    assert encoded.examples[0]["first"] == 1 + 4 + 1


@pytest.mark.parametrize(("max_length", "stride"), [(8, 3), (9, 3), (16, 7), (64, 31), (1000, 499)])
def test_every_allowed_length_and_stride_can_be_encoded(
    tiny_bert: TinyBert, make_rows: MakeRows, max_length: int, stride: int
) -> None:
    config = replace(CONFIG, max_length=max_length, stride=stride)
    rows = make_rows(config, [{**row("zzz yyy " * 30, "zzz"), "question": "xxx www " * 20}])
    encoded = ExtractiveQA(config).encode(rows, tiny_bert()[1])
    assert max(one["length"] for one in encoded.examples) <= min(max_length, 64)


def test_the_loss_is_the_mean_of_start_and_end_over_first_token_and_context(
    tiny_bert: TinyBert, make_rows: MakeRows, learn: Learn
) -> None:
    task = ExtractiveQA(CONFIG)
    rows = make_rows(CONFIG, ROWS)
    model = learn(task, rows, steps=0)
    examples = task.encode(rows, tiny_bert()[1]).examples
    batch = task.collate(examples, 0)
    loss, number = task.loss(model, batch)
    parts = []
    for example, logits in zip(examples, task.outputs(model, batch), strict=True):
        assert len(logits) == 1 + len(example["offsets"])
        target = torch.tensor([place - example["first"] + 1 for place in example["span"]])
        parts.append(torch.nn.functional.cross_entropy(torch.tensor(logits).T, target))
    assert number == 4
    torch.testing.assert_close(loss.detach(), torch.stack(parts).mean())


@pytest.mark.parametrize("config", [CONFIG, WINDOWED], ids=["one window", "windows"])
def test_it_learns_and_answers_with_the_text_as_it_stands_in_the_context(
    config: TaskConfig, make_rows: MakeRows, learn: Learn, answer_all: AnswerAll
) -> None:
    values = [row(f"{'the a of ' * 6}{one['context']}", one["answers"]["text"][0]) for one in ROWS]
    rows = make_rows(config, [*ROWS, *values])
    task = ExtractiveQA(config)
    model = learn(task, rows, steps=80)
    answers = answer_all(task, model, rows, batch_size=3)
    assert [answer["answer"] for answer in answers] == ["Paris", "berlin", "oslo", "Rome"] * 2
    for answer, one in zip(answers, [*ROWS, *values], strict=True):
        start, end = answer["start"], answer["end"]
        assert start == one["answers"]["answer_start"][0] and one["context"][start:end] == answer["answer"]
        assert 0 < answer["score"] <= 1
    scores = task.score(rows, answers)
    assert scores.metrics == {"f1": 1.0, "exact_match": 1.0} and scores.primary == 1.0
    assert 0 < scores.baseline < 0.4


def one_window(task: ExtractiveQA, tiny_bert: TinyBert, make_rows: MakeRows, logits: dict[int, Any]) -> Any:
    """The answer for `a b c d e f g h` with the given (start, end) logits; 0 is the first token, 1 is `a`."""
    rows = make_rows(CONFIG, [row("a b c d e f g h", "a")])
    array = np.full((9, 2), -9, dtype=np.float32)
    for place, pair in logits.items():
        array[place] = pair
    (answer,) = task.answers(rows, task.encode(rows, tiny_bert()[1]), [array])
    return answer["answer"]


def test_a_span_ends_behind_its_start_and_is_no_longer_than_allowed(tiny_bert: TinyBert, make_rows: MakeRows) -> None:
    task = ExtractiveQA(CONFIG)
    assert one_window(task, tiny_bert, make_rows, {3: (9, -9), 5: (-9, 9)}) == "c d e"
    assert one_window(task, tiny_bert, make_rows, {3: (9, -9), 1: (-9, 9), 4: (-9, 2)}) == "c d"
    assert one_window(task, tiny_bert, make_rows, {1: (9, -9), 6: (-9, 9), 5: (-9, 3)}) == "a b c d e"
    assert one_window(task, tiny_bert, make_rows, {8: (9, 9)}) == "h"
    assert one_window(task, tiny_bert, make_rows, {0: (9, 9), 2: (1, 1)}) == "b"


def test_a_span_whose_probability_rounds_to_zero_is_an_answer_all_the_same(
    tiny_bert: TinyBert, make_rows: MakeRows
) -> None:
    task = ExtractiveQA(CONFIG)  # the likeliest start lies behind the likeliest end, and no other comes near
    assert one_window(task, tiny_bert, make_rows, {6: (999, -99), 2: (-99, 999)}) == "a b"


def test_of_several_windows_the_one_that_is_surest_of_its_span_answers(
    tiny_bert: TinyBert, make_rows: MakeRows
) -> None:
    rows = make_rows(WINDOWED, [row(" ".join("abcdefghijklmnopqrst"), "a")])
    task = ExtractiveQA(WINDOWED)
    encoded = task.encode(rows, tiny_bert()[1])
    outputs = [np.zeros((1 + len(one["offsets"]), 2), dtype=np.float32) for one in encoded.examples]
    outputs[0][:2] = 9  # higher logits, but its first token takes half of the probability
    outputs[1][2] = 5
    (answer,) = task.answers(rows, encoded, outputs)
    start = int(encoded.examples[1]["offsets"][1, 0])
    assert answer["start"] == start and answer["answer"] == rows[0].fields["context"][start : start + 1]


def test_a_context_without_any_sub_token_has_an_empty_answer(
    make_rows: MakeRows, learn: Learn, answer_all: AnswerAll
) -> None:
    task = ExtractiveQA(CONFIG)
    model = learn(task, make_rows(CONFIG, ROWS), steps=0)
    item = task.parse_item({"question": "where", "context": "\u200d"})
    assert answer_all(task, model, [item]) == [{"answer": "", "score": 0.0, "start": 0, "end": 0}]


@pytest.mark.parametrize("metric", ["f1", "exact_match"])
def test_scores_are_those_of_the_best_gold_answer(make_rows: MakeRows, metric: str) -> None:
    config = replace(CONFIG, metric=metric)
    two = {**ROWS[1], "answers": {"text": ["the film was in berlin", "film was"], "answer_start": [0, 4]}}
    rows = make_rows(config, [ROWS[0], two] * 20)
    answers = [{"answer": "paris"}, {"answer": "the film"}] * 20
    scores = ExtractiveQA(config).score(rows, answers)
    assert scores.metrics["exact_match"] == 0.5
    assert scores.metrics["f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores.primary == scores.metrics[metric]
    assert scores.low < scores.primary < scores.high
    assert (scores.baseline > 0) == (metric == "f1")
