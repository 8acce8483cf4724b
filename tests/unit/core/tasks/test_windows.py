"""Long texts in windows: where they are cut, which words are answered from which, and what tagging makes of them."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from pipeline.config import TaskConfig
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.tagging import Tagging
from pipeline.core.tasks.windows import windows

if TYPE_CHECKING:
    from tests.conftest import TinyBert
    from tests.unit.core.tasks.conftest import AnswerAll, Learn, MakeDataset, MakeRows

CONFIG = TaskConfig(name="ner", kind="tagging", max_length=8, stride=2)
LABELS = ["O", "B-loc", "I-loc", "B-per", "I-per"]
TAGS = {"anna": "B-per", "paris": "B-loc"}


def sentence(text: str) -> dict[str, Any]:
    return {"tokens": text.split(), "tags": [TAGS.get(word, "O") for word in text.split()]}


def cut(sizes: list[int], room: int, overlap: int) -> list[tuple[int, int, list[int]]]:
    """Start, end and words of each window of a text whose words have these sizes."""
    ends = np.cumsum(sizes).tolist()
    firsts = [end - size for end, size in zip(ends, sizes, strict=True)]
    found = windows(firsts, [end - 1 for end in ends], sum(sizes), room, overlap)
    return [(one.start, one.end, one.words) for one in found]


@pytest.mark.parametrize(
    ("sizes", "room", "overlap", "expected"),
    [
        ([1] * 6, 6, 2, [(0, 6, [0, 1, 2, 3, 4, 5])]),  # it fits
        ([1] * 10, 6, 2, [(0, 6, [0, 1, 2, 3, 4]), (4, 10, [5, 6, 7, 8, 9])]),  # of 4 and 5 the farther from an edge
        ([1] * 9, 3, 0, [(0, 3, [0, 1, 2]), (3, 6, [3, 4, 5]), (6, 9, [6, 7, 8])]),
        ([2, 3, 2, 1], 6, 3, [(0, 6, [0, 1]), (5, 8, [2, 3])]),  # the word that is cut is whole in the next
        ([1, 4, 1, 1], 4, 1, [(0, 4, [0]), (1, 5, [1]), (5, 7, [2, 3])]),  # also where it is longer than the overlap
        ([1, 9, 1], 4, 2, [(0, 4, [0]), (1, 5, [1]), (10, 11, [2])]),  # longer than a window: its beginning
        ([1, 9], 4, 2, [(0, 4, [0]), (1, 5, [1])]),
        ([30], 4, 2, [(0, 4, [0])]),
        ([], 4, 2, [(0, 0, [])]),
    ],
)
def test_windows_begin_with_words_and_answer_each_word_once(
    sizes: list[int], room: int, overlap: int, expected: list[tuple[int, int, list[int]]]
) -> None:
    assert cut(sizes, room, overlap) == expected


def test_every_word_that_fits_is_answered_from_a_window_that_holds_it_whole() -> None:
    stream = random.Random(0)
    for _ in range(400):
        room, count = stream.randint(1, 12), stream.randint(1, 30)
        sizes = [stream.choice([1, 1, 1, 2, 3, stream.randint(1, 20)]) for _ in range(count)]
        found = cut(sizes, room, stream.randint(0, room // 2))
        assert sorted(word for _, _, words in found for word in words) == list(range(count))
        for start, end, words in found:
            assert 0 < end - start <= room
            for word in words:
                first = sum(sizes[:word])
                assert start <= first < end
                assert first + sizes[word] <= end if sizes[word] <= room else start == first


def test_words_that_no_sub_token_stands_for_leave_the_text_one_window() -> None:
    assert [(one.start, one.end) for one in windows([], [], 9, 4, 2)] == [(0, 4)]


def test_a_long_row_is_answered_to_its_end(
    tiny_bert: TinyBert, make_rows: MakeRows, learn: Learn, answer_all: AnswerAll
) -> None:
    long, short = make_rows(CONFIG, [sentence("anna saw the film " * 6 + "anna"), sentence("anna saw paris")])
    task = Tagging(CONFIG, LABELS)
    model = learn(Tagging(replace(CONFIG, max_length=64), LABELS), [long, short])
    encoded = task.encode([long, short], tiny_bert()[1])
    assert max(example["length"] for example in encoded.examples) == 8
    assert (encoded.num_rows, encoded.num_truncated) == (2, 0)
    answers = answer_all(task, model, [long, short], batch_size=3)
    assert [answer["tags"] for answer in answers] == [long.fields["tags"], short.fields["tags"]]
    last = answers[0]["entities"][-1]
    assert (last["text"], last["start"], last["end"], last["start_char"], last["end_char"]) == (
        "anna",
        24,
        25,
        108,
        112,
    )
    assert task.score([long, short], answers).metrics == {"f1": 1.0, "precision": 1.0, "recall": 1.0}
    assert answer_all(task, model, [short]) == answer_all(task, model, [short, long], batch_size=1)[:1]


def test_each_word_has_the_logits_of_the_window_in_which_it_is_farthest_from_an_edge(
    tiny_bert: TinyBert, make_rows: MakeRows
) -> None:
    (row,) = make_rows(CONFIG, [sentence("a an the of in at and or is was")])
    first, second = Tagging(CONFIG, LABELS).encode([row], tiny_bert()[1]).examples
    read = tiny_bert()[1].convert_ids_to_tokens
    assert read(first["input_ids"]) == ["[CLS]", "a", "an", "the", "of", "in", "at", "[SEP]"]
    assert read(second["input_ids"]) == ["[CLS]", "in", "at", "and", "or", "is", "was", "[SEP]"]
    assert (first["words"], first["firsts"]) == ([0, 1, 2, 3, 4], [1, 2, 3, 4, 5])
    assert (second["words"], second["firsts"]) == ([5, 6, 7, 8, 9], [2, 3, 4, 5, 6])


def test_an_entity_goes_on_from_one_window_to_the_next(tiny_bert: TinyBert) -> None:
    task = restore(CONFIG, LABELS)
    row = task.parse_item("a an the of  in at, or is was")
    encoded = task.encode([row], tiny_bert()[1])
    inside = [np.eye(5, dtype=np.float32)[[0, 0, 0, 3, 4]] * 9, np.eye(5, dtype=np.float32)[[4, 0, 0, 0, 0]] * 9]
    (answer,) = task.answers([row], encoded, inside)
    assert answer["tags"] == ["O", "O", "O", "B-per", "I-per", "I-per", "O", "O", "O", "O"]
    (entity,) = answer["entities"]
    assert entity.pop("score") > 0.9
    assert entity == {"type": "per", "text": "of  in at", "start": 3, "end": 6, "start_char": 9, "end_char": 18}


def test_a_word_longer_than_a_window_is_answered_by_its_beginning_and_counted(
    tiny_bert: TinyBert, make_rows: MakeRows, answer_all: AnswerAll, learn: Learn
) -> None:
    rows = make_rows(CONFIG, [sentence("anna " + "x" * 40 + " paris"), sentence("xyxyxy anna xyxyxy paris")])
    task = Tagging(CONFIG, LABELS)
    encoded = task.encode(rows, tiny_bert()[1])
    assert encoded.truncated == {0}
    answers = answer_all(task, learn(Tagging(replace(CONFIG, max_length=64), LABELS), rows), rows)
    assert [answer["tags"] for answer in answers] == [["B-per", "O", "B-loc"], ["O", "B-per", "O", "B-loc"]]


def test_training_reads_the_beginning_of_a_long_row_and_counts_it(
    tiny_bert: TinyBert, make_dataset: MakeDataset
) -> None:
    rows = [sentence("anna saw paris " * 4), sentence("anna")]
    task = Tagging(CONFIG, LABELS)
    encoded = task.encoded(make_dataset(CONFIG, rows), tiny_bert()[1])
    first, second = encoded["train"].examples
    assert (first["words"], first["labels"], first["length"]) == ([0, 1, 2, 3, 4, 5], [3, 0, 1, 3, 0, 1], 8)
    assert second["words"] == [0] and encoded["train"].truncated == {0}
    for name in ("validation", "test"):
        assert [example["row"] for example in encoded[name].examples] == [0, 0, 0, 1]
        assert encoded[name].truncated == frozenset()


def test_what_the_model_reads_of_a_row_that_fits_is_what_it_trains_on(tiny_bert: TinyBert, make_rows: MakeRows) -> None:
    rows = make_rows(CONFIG, [sentence("anna saw xy ."), sentence("\u200d"), sentence("a an the of in at")])
    task, tokenizer = Tagging(CONFIG, LABELS), tiny_bert()[1]
    assert task.encode(rows, tokenizer) == task.encode_train(rows, tokenizer)
    assert torch.equal(
        *(task.collate(encode(rows, tokenizer).examples, 0)["firsts"] for encode in (task.encode, task.encode_train))
    )
