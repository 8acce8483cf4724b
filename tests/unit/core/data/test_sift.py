import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import DataConfig, TaskConfig
from pipeline.core.data.readers import read
from pipeline.core.data.rows import Dataset, Row, Split, SplitSource, make_row
from pipeline.core.data.sift import BadRows, Sifted, sift
from pipeline.core.tasks.kinds import restore
from pipeline.errors import Fault, fault

MOODS = TaskConfig(name="t", kind="classification")
KINDS: dict[str, tuple[TaskConfig, dict[str, Any], dict[str, Any], str]] = {
    "classification": (MOODS, {"text": "a", "label": "x"}, {"text": " "}, "has an empty text"),
    "tagging": (
        TaskConfig(name="t", kind="tagging"),
        {"tokens": ["a"], "tags": ["O"]},
        {"tags": ["X"]},
        "'X' (tag 1, of 'a') is no BIO tag: a tag is O, B-<type> or I-<type>",
    ),
    "multiple_choice": (
        TaskConfig(name="t", kind="multiple_choice"),
        {"question": "q", "options": ["a", "b"], "answer": 0},
        {"answer": 2},
        "'2' is out of range: the answer is a position in options, from 0 to 1",
    ),
    "extractive_qa": (
        TaskConfig(name="t", kind="extractive_qa"),
        {"question": "q", "context": "c", "answers": {"text": ["c"], "answer_start": [0]}},
        {"question": ""},
        "has an empty question",
    ),
    "generation": (
        TaskConfig(name="t", kind="generation"),
        {"text": "a", "target": "b"},
        {"target": 7},
        "'7' is no text: field `target` must be a string",
    ),
}
"""Kind -> its task, a good row, what makes it a bad one, and what is then said."""


def source(task: TaskConfig, rows: Sequence[dict[str, Any]]) -> SplitSource:
    def made() -> Iterator[Row | Fault]:
        for line, values in enumerate(rows, start=1):
            yield from make_row(values, task, f"f:{line}")

    return SplitSource("f", made())


def sifted(
    rows: Sequence[dict[str, Any]],
    bad_rows: BadRows = "skip",
    *,
    task: TaskConfig = MOODS,
    name: str = "train",
    **settings: Any,
) -> Sifted:
    return sift(name, source(task, rows), task, restore(task), DataConfig(**settings), bad_rows)


def texts(*labels: Any) -> list[dict[str, Any]]:
    return [{"text": f"text {number}", "label": label} for number, label in enumerate(labels)]


@pytest.mark.parametrize("kind", KINDS)
def test_bad_rows_are_left_out_and_told_or_refused(kind: str) -> None:
    task, good, change, said = KINDS[kind]
    rows = [*[good] * 19, good | change]
    left = sifted(rows, task=task)
    assert (len(left.rows), left.faults) == (19, [])
    assert left.notes == [f"1 row of train left out (data.bad_rows=skip): 1 like f:20: {said}."]
    refused = sifted(rows, "error", task=task)
    (one,) = refused.faults
    assert (str(one).startswith(f"f:20: {said}. "), refused.notes) == (True, [])
    assert one.remedy.endswith("; or leave such rows out with data.bad_rows=skip")


def test_rows_are_counted_by_reason_with_an_example_of_each() -> None:
    rows = [*texts(*"x" * 97), {"text": "", "label": "x"}, {"text": "a", "label": ""}, {"text": "\t", "label": None}]
    (note,) = sifted(rows).notes
    assert note == (
        "3 rows of train left out (data.bad_rows=skip): "
        "2 like f:98: has an empty text; 2 like f:99: has an empty label."
    )


def test_more_bad_rows_than_are_let_out_are_an_error_all_the_same() -> None:
    rows = [*texts(*"x" * 17), *texts("", "", "")]
    (*reasons, last) = sifted(rows).faults
    assert [one.where for one in reasons] == ["f:18", "f:19", "f:20"]
    assert str(last) == (
        "f: has 3 bad rows of 20, and data.max_bad_rows=0.05 lets no more out. Mend them, or raise data.max_bad_rows."
    )
    assert sifted(rows, max_bad_rows=0.15).faults == []
    assert [one.remedy.count("data.bad_rows") for one in sifted(rows, "error").faults] == [0, 0, 0]  # it would not help


def test_what_is_wrong_with_a_file_is_left_out_by_nothing() -> None:
    stop = dataclasses.replace(fault("f:51", "", "is not UTF-8", "Save it"), of_file=True)
    records = [*source(MOODS, texts(*"x" * 50)).rows, stop]
    found = sift("train", SplitSource("f", iter(records)), MOODS, restore(MOODS), DataConfig(max_bad_rows=1), "skip")
    assert (found.rows, found.faults) == ([], [stop])


@pytest.mark.parametrize("bad_rows", ["error", "skip"])
def test_labels_that_stand_for_none_are_left_out_with_their_number(bad_rows: BadRows) -> None:
    rows = texts("x", "-", "y", "-", "-1.0", "- ")
    found = sifted(rows, bad_rows, no_label=["-", "-1"])
    assert [row.fields["label"] for row in found.rows] == ["x", "y"]
    said = "4 rows of train left out, whose label stands for none (data.no_label): 3 with '-', 1 with '-1'."
    assert (found.notes, found.faults) == ([said], [])


@pytest.mark.parametrize(("said", "left"), [("", 1), ("null", 1), ("x", 0)])
def test_no_label_takes_missing_and_empty_ones_too(said: str, left: int) -> None:
    assert len(sifted(texts("y", None, "", float("nan"))[: 4 if left else 1], no_label=[said]).rows) == 1


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("tagging", "tags", ["-"]),
        ("tagging", "tags", None),
        ("multiple_choice", "answer", -1),
        ("multiple_choice", "answer", None),
        ("generation", "target", "-"),
        ("generation", "target", None),
        ("extractive_qa", "answers", None),
    ],
)
def test_no_label_is_for_every_kind(kind: str, field: str, value: Any) -> None:
    task, good, _, _ = KINDS[kind]
    found = sifted([good, good | {field: value}], task=task, no_label=["-", "-1", "null"])
    assert (len(found.rows), len(found.notes), found.faults) == (1, 1, [])


@pytest.mark.parametrize(
    ("kind", "field", "good", "value"),
    [
        # Of several labels an empty text is a target: none of them.
        *[("multi_label", "labels", ["x"], value) for value in (None, float("nan"), "n/a")],
        *[("regression", "score", 1.5, value) for value in (None, float("nan"), "n/a", "")],
    ],
)
def test_no_label_leaves_out_what_is_no_list_and_no_number(kind: Any, field: str, good: Any, value: Any) -> None:
    rows = [{"text": "a", field: good}, {"text": "b", field: value}]
    found = sifted(rows, task=TaskConfig(name="one", kind=kind), no_label=["null", "n/a"])
    assert (len(found.rows), len(found.notes), found.faults) == (1, 1, [])
    assert sifted([rows[0], rows[1] | {"text": None}], task=TaskConfig(name="one", kind=kind), no_label=["null"]).faults


@pytest.mark.parametrize(
    ("kind", "field", "values"),
    [
        ("tagging", "tags", (None, None)),
        ("tagging", "tags", (["-1"], -1)),
        ("multiple_choice", "answer", (-1, None)),
        ("extractive_qa", "answers", (None, "")),
        ("generation", "target", ("", None)),
    ],
)
def test_targets_of_every_kind_are_hidden_alike(kind: str, field: str, values: tuple[Any, ...]) -> None:
    task, good, _, _ = KINDS[kind]
    rows = [good | {field: value} for value in values]
    assert sifted(rows, "error", task=task, name="test").hidden
    assert not sifted([*rows, good], "error", task=task, name="test").hidden


@pytest.mark.parametrize("values", [([], None), ("", []), ([], [])])
def test_a_split_of_which_no_row_has_a_label_tells_none(values: tuple[Any, ...]) -> None:
    """As a csv for a competition has it, where an empty cell is no label."""
    task, rows = TaskConfig(name="t", kind="multi_label"), [{"text": "a", "labels": one} for one in values]
    assert sifted(rows, "error", task=task, name="test").hidden
    assert not sifted(rows, "error", task=task, name="train").hidden
    assert not sifted([*rows, {"text": "b", "labels": ["x"]}], "error", task=task, name="test").hidden


@pytest.mark.parametrize("labels", [(None, ""), ("-1", -1), ("", "")])
def test_a_split_whose_labels_are_all_hidden_is_as_good_as_not_there(labels: tuple[Any, ...]) -> None:
    found = sifted(texts(*labels), name="test")
    assert (found.hidden, found.notes) == (True, ["f was not read: label is hidden in all of its 2 rows."])
    assert not sifted(texts(*labels), name="train").hidden
    assert not sifted(texts(*labels, "x"), name="test").hidden


def test_a_bad_tag_of_conll_names_its_own_line(tmp_path: Path) -> None:
    task = KINDS["tagging"][0]
    path = tmp_path / "train.conll"
    path.write_text("# sent 1\nin O\nRome B-LOC\n\nPetra B-PER\n# x\nlacht X\n\nund O\nBob I-PER\n", "utf-8")
    records = list(read(path, task))
    faults = sift("train", SplitSource(str(path), records), task, restore(task), DataConfig(), "error").faults
    assert [(one.where, one.value) for one in faults] == [(f"{path}:7", "X"), (f"{path}:10", "I-PER")]


def test_an_entity_type_that_is_not_listed_names_the_line_of_its_tag(tmp_path: Path) -> None:
    task = dataclasses.replace(KINDS["tagging"][0], labels=["LOC"])
    path = tmp_path / "train.conll"
    path.write_text("in O\nRome B-LOC\nmit O\nPetra B-PER\n", "utf-8")
    (row,) = [one for one in read(path, task) if isinstance(one, Row)]
    split = Split("train", (row,), "", None)
    dataset = Dataset("t", "d", "s", split, split, split, {}, ())
    first = next(restore(task).split_faults(task, dataset))
    assert (first.where, first.value) == (f"{path}:4", "PER")
