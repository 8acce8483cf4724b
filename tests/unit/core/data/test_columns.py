import datetime
import decimal
from typing import Any

import pytest

from pipeline.config import TaskConfig
from pipeline.core.data.columns import columns_of, is_in, named, pick, plain

QUESTIONS = TaskConfig(name="q", kind="multiple_choice")


def test_a_place_is_a_column_a_path_or_several() -> None:
    values = {"a.b": 1, "a": {"b": 2, "c": {"d": 3}}, "e": 4}
    assert [pick(values, place) for place in ("a.b", "a.c.d", "e.f", ["e", "a.b"])] == [1, 3, None, [4, 1]]
    tags = {"some": [{"name": "x"}, {"name": "y"}, {}], "none": [], "texts": ["x"]}
    assert [pick(tags, f"{one}.name") for one in tags] == [["x", "y", None], [], None]
    assert [is_in({"a", "e"}, path) for path in ("a.b", "e", "f.e")] == [True, True, False]


@pytest.mark.parametrize(
    ("options", "answer", "found"),
    [
        (["x", "y"], "B", (["x", "y"], 1)),
        (["x", "y"], "b", (["x", "y"], 1)),
        (["x", "y"], 1.0, (["x", "y"], 1)),
        (["x", "y"], "1", (["x", "y"], "1")),  # which could count from 0 or from 1
        ({"2": "y", "1": "x"}, "2", (["x", "y"], 1)),
        ({"B": "y", "A": "x", "C": None}, "A", (["x", "y"], 0)),
    ],
)
def test_options_are_listed_and_the_answer_is_a_position(options: Any, answer: Any, found: tuple[Any, Any]) -> None:
    values = {"question": "q", "options": options, "answer": answer}
    record = columns_of(QUESTIONS, {}).canonical(values)
    assert (record["options"], record["answer"]) == found


def test_names_of_columns_with_blanks_around_them_are_shown_as_such() -> None:
    (fault,) = columns_of(TaskConfig(name="t", kind="classification"), {}).missing([" text", "label"], "file:1")
    assert "(it has: ` text`, label)" in fault.rule
    assert fault.remedy.endswith("`columns: {text: text}`, or for one command by data.columns.text=text")


def test_numbers_are_named_and_what_json_lacks_becomes_text() -> None:
    assert [named(value, ["a", "b"]) for value in (0, 1, 2, -1, "b", None)] == ["a", "b", None, None, "b", None]
    dates = [datetime.date(2024, 2, 1), datetime.datetime(2024, 2, 1, 3), datetime.time(4)]
    assert [plain(one) for one in dates] == ["2024-02-01", "2024-02-01T03:00:00", "04:00:00"]
    numbers = [decimal.Decimal("7"), decimal.Decimal("7.50"), decimal.Decimal("NaN"), b"\xc3\xa9", b"\xff"]
    assert [plain(one) for one in numbers] == [7, "7.50", "NaN", "é", b"\xff"]


def test_characters_that_are_not_seen_in_names_of_columns_are_shown() -> None:
    columns = columns_of(TaskConfig(name="t", kind="classification"), {})
    (fault,) = columns.missing(["\u200btext", "label"], "file:1")
    assert "(it has: `\\u200btext`, label)" in fault.rule


@pytest.mark.parametrize(
    ("options", "answer", "found"),
    [
        ({"1": "x", "2": "y"}, 1, 0),  # a key, since there are keys
        ({"1": "x", "2": "y"}, 2.0, 1),
        ({"A": "x", "B": "y"}, 1, 1),
        (["x", "y"], "x", "x"),  # no letter of an option, of which there are two
        (["B", "A"], "A", "A"),  # the letter of one and the text of the other
        (["A", "B"], "A", 0),
    ],
)
def test_an_answer_is_a_key_before_it_is_a_position_and_no_letter_where_it_may_be_a_text(
    options: Any, answer: Any, found: Any
) -> None:
    values = {"question": "q", "options": options, "answer": answer}
    assert columns_of(QUESTIONS, {}).canonical(values)["answer"] == found


def test_long_names_of_columns_are_shortened() -> None:
    (fault,) = columns_of(TaskConfig(name="t", kind="classification"), {}).missing(["x" * 500, "label"], "file:1")
    assert f"(it has: {'x' * 57}..., label)" in fault.rule


def test_a_part_of_a_text_that_is_not_there_is_empty_as_in_a_csv_file() -> None:
    columns = columns_of(TaskConfig(name="t", kind="classification"), {"text": ["title", "body"]})
    for body in (None, ""):
        assert columns.canonical({"title": "a", "body": body, "label": "x"})["text"] == "a "
