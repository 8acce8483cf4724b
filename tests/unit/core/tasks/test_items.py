"""What a user may ask about, for each kind."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config import TaskConfig
from pipeline.core.tasks.kinds import TASK_KINDS
from pipeline.errors import DataError

TEXT = TaskConfig(name="films", kind="classification", columns={"text": "sentence", "label": "label"})
PAIR = TaskConfig(
    name="pubmedqa", kind="classification", columns={"text": "question", "text_pair": "context", "label": "label"}
)
DEEP = TaskConfig(
    name="deep",
    kind="classification",
    columns={"text": "doc.title", "text_pair": ["doc.body", "tail"], "label": "label"},
)
LETTERS = TaskConfig(name="exam", kind="multiple_choice", columns={"question": "q.text", "options": ["A", "B", "C"]})
NER = TaskConfig(name="ner", kind="tagging")
CHOICE = TaskConfig(name="medqa", kind="multiple_choice")
QA = TaskConfig(name="covidqa", kind="extractive_qa")


def parse(config: TaskConfig, item: Any, where: str = "ITEM") -> dict[str, Any]:
    row = TASK_KINDS[config.kind](config).parse_item(item, where=where)
    assert row.origin == where and len(row.digest) == 16
    return dict(row.fields)


ANNA = "Anna's in New-York."


@pytest.mark.parametrize(
    ("config", "item", "fields"),
    [
        (TEXT, 'Say "it\'s", $5, [a]\n', {"text": 'Say "it\'s", $5, [a]\n'}),
        (TEXT, {"text": "good"}, {"text": "good"}),
        (TEXT, {"sentence": "good", "label": 3, "more": None}, {"text": "good"}),
        (TEXT, {"sentence": "good", "id": "a7"}, {"text": "good", "id": "a7"}),
        (PAIR, {"question": "is it", "context": "yes"}, {"text": "is it", "text_pair": "yes"}),
        (DEEP, {"doc": {"title": ["t", "u"], "body": "b"}, "tail": "d"}, {"text": "t u", "text_pair": "b d"}),
        (DEEP, {"text": "t", "text_pair": "p"}, {"text": "t", "text_pair": "p"}),
        (LETTERS, {"q": {"text": "q"}, "A": "a", "B": "b", "C": ""}, {"question": "q", "options": ["a", "b"]}),
        (CHOICE, {"question": "q", "options": {"B": "b", "A": "a"}}, {"question": "q", "options": ["a", "b"]}),
        (NER, ANNA, {"tokens": ["Anna", "'", "s", "in", "New", "-", "York", "."], "text": ANNA}),
        (NER, ["Anna's", "in", "Oslo"], {"tokens": ["Anna's", "in", "Oslo"]}),
        (NER, {"tokens": ["Anna"], "tags": ["x"]}, {"tokens": ["Anna"]}),
        (NER, {"tokens": "in Oslo"}, {"tokens": ["in", "Oslo"], "text": "in Oslo"}),
        (NER, {"text": "in Oslo", "id": "a7"}, {"tokens": ["in", "Oslo"], "text": "in Oslo", "id": "a7"}),
        (NER, {"text": "in Oslo", "tokens": ["in"]}, {"tokens": ["in"]}),
        (CHOICE, {"question": "q", "options": ["a", "b"]}, {"question": "q", "options": ["a", "b"]}),
        (QA, {"question": "q", "context": "c", "answers": None}, {"question": "q", "context": "c"}),
    ],
)
def test_an_item_becomes_a_row_without_target(config: TaskConfig, item: Any, fields: dict[str, Any]) -> None:
    assert parse(config, item) == fields


@pytest.mark.parametrize(
    ("config", "item", "message"),
    [
        (TEXT, "", "ITEM: has an empty text. Write a text"),
        (TEXT, {}, "ITEM: '{}' has no sentence. Give {\"sentence\": ...}."),
        (TEXT, 7, "ITEM: '7' is no text: field `text` must be a string"),
        (TEXT, {"sentence": [7]}, "field `text` must be a string. Give a string."),
        (PAIR, "is it", "ITEM: 'is it' must be an object with question and context."),
        (PAIR, {"question": "is it"}, 'has no context. Give {"question": ..., "context": ...}.'),
        (
            DEEP,
            {"tail": "d"},
            'has no doc.title and no doc.body. Give {"doc.title": ..., "doc.body": ..., "tail": ...}.',
        ),
        (NER, "  ", "ITEM: has no tokens. Give at least one token"),
        (NER, ["Anna", ""], "has an empty token at position 2"),
        (NER, ["Anna", 2], "is no list of strings"),
        (CHOICE, {"question": "q", "options": ["a"]}, "has fewer than 2 options. Give at least two options."),
        (CHOICE, {"question": "q", "options": ["a", " "]}, "has an empty option at position 1, from 0"),
        (CHOICE, {"question": "q", "options": "ab"}, "is no list of strings"),
        (CHOICE, ["a", "b"], "must be an object with question and options"),
        (QA, {"context": "c"}, "has no question"),
        (QA, {}, "has no question and no context"),
        (QA, {"question": "", "context": " "}, "has an empty context"),
    ],
)
def test_a_bad_item_is_refused_with_a_remedy(config: TaskConfig, item: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(config, item)
    assert message in str(caught.value)


def test_a_bad_item_of_a_file_is_named_by_its_line() -> None:
    with pytest.raises(DataError, match=r"^items.jsonl:3: has an empty text"):
        parse(TEXT, "", where="items.jsonl:3")
