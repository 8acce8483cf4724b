"""Records into files of every format: what is read back, and what is left where the records end in an error."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from pyarrow.dataset import dataset

import pipeline.core.data.writers as writers
from pipeline.config.champions import ANSWER_SUFFIXES
from pipeline.core.data.writers import FORMATS, write_records

RECORDS: list[dict[str, Any]] = [
    {"tags": ["O"], "entities": []},
    {"row": 2, "error": 'bad, "x"'},
    {"tags": ["B-a"], "entities": [{"type": "a", "text": "x\ry\u2028z", "score": 0.5}], "truncated": True},
]


def test_the_formats_are_those_that_the_config_takes() -> None:
    assert tuple(FORMATS) == ANSWER_SUFFIXES


def test_jsonl_has_a_record_a_line(tmp_path: Path) -> None:
    write_records(tmp_path / "a.jsonl", iter(RECORDS))
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().split(b"\n")[:-1]] == RECORDS


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t")])
def test_a_table_has_the_columns_of_all_records_and_json_in_its_cells(
    tmp_path: Path, name: str, delimiter: str
) -> None:
    write_records(tmp_path / name, iter(RECORDS))
    with (tmp_path / name).open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file, delimiter=delimiter)) == [
            ["tags", "entities", "truncated", "row", "error"],
            ['["O"]', "[]", "", "", ""],
            ["", "", "", "2", 'bad, "x"'],
            ['["B-a"]', '[{"type": "a", "text": "x\\ry\u2028z", "score": 0.5}]', "true", "", ""],
        ]


def test_a_text_with_any_line_end_in_it_stays_one_cell(tmp_path: Path) -> None:
    texts = ["a\rb", "a\nb", 'a"b', "a,b", "", "  a "]
    write_records(tmp_path / "a.csv", [{"text": text, "score": 1} for text in texts])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["text", *texts]
    assert b'"a\rb"' in (tmp_path / "a.csv").read_bytes()


def test_parquet_keeps_what_is_nested_whatever_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "_TOGETHER", 1)
    write_records(tmp_path / "a.parquet", iter([*RECORDS, {"tags": [], "entities": [], "score": 1}, {"score": 0.5}]))
    columns = ("tags", "entities", "truncated", "score", "row", "error")
    rows = [tuple(row[name] for name in columns) for row in parquet.read_table(tmp_path / "a.parquet").to_pylist()]
    assert rows == [
        (["O"], [], None, None, None, None),
        (None, None, None, None, 2, 'bad, "x"'),
        (["B-a"], [{"type": "a", "text": "x\ry\u2028z", "score": 0.5}], True, None, None, None),
        ([], [], None, 1.0, None, None),
        (None, None, None, 0.5, None, None),
    ]


def test_parquet_of_two_days_is_read_together_whatever_was_found(tmp_path: Path) -> None:
    entity = {"type": "a", "text": "x", "start": 0, "end": 1, "start_char": 0, "end_char": 1, "score": 0.5}
    days: list[dict[str, Any]] = [
        {"tags": [], "entities": [], "labels": []},
        {"tags": ["B-a"], "entities": [entity], "labels": ["a"]},
    ]
    for number, day in enumerate(days):
        write_records(tmp_path / f"{number}.parquet", [day])
    assert dataset([tmp_path / f"{number}.parquet" for number in range(2)]).to_table().to_pylist() == days


@pytest.mark.parametrize("suffix", ANSWER_SUFFIXES)
def test_a_file_that_is_cut_off_is_not_there_and_the_one_before_stays(tmp_path: Path, suffix: str) -> None:
    def cut_off() -> Iterator[dict[str, int]]:
        yield {"a": 1}
        raise KeyboardInterrupt

    file = tmp_path / f"a{suffix}"
    for before in (None, b"before"):
        if before is not None:
            file.write_bytes(before)
        with pytest.raises(KeyboardInterrupt):
            write_records(file, cut_off())
        assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if before is None else [before])


def test_all_records_may_be_errors(tmp_path: Path) -> None:
    for suffix in ANSWER_SUFFIXES:
        write_records(tmp_path / f"a{suffix}", [{"row": 1, "error": "bad"}])
    assert (tmp_path / "a.csv").read_text() == "row,error\n1,bad\n"
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == [{"row": 1, "error": "bad"}]
