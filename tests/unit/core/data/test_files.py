import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from pipeline.config import TaskConfig
from pipeline.core.data.readers import open_folder, read
from pipeline.core.data.rows import Row
from pipeline.errors import DataError, Fault

Tasks = Mapping[str, TaskConfig]


def rows(path: Path, task: TaskConfig) -> list[Row]:
    records = list(read(path, task))
    assert all(isinstance(record, Row) for record in records), records
    return [record for record in records if isinstance(record, Row)]


def faults(path: Path, task: TaskConfig) -> list[Fault]:
    return [record for record in read(path, task) if isinstance(record, Fault)]


def fields(path: Path, task: TaskConfig) -> list[dict[str, Any]]:
    return [dict(row.fields) for row in rows(path, task)]


def lines(path: Path, records: list[Row]) -> list[int]:
    return [int(row.origin.removeprefix(f"{path}:")) for row in records]


# jsonl


def test_jsonl_keeps_order_and_names_lines_past_blank_ones(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"text": "a", "label": "x"}\r\n\n  \n{"text": "b\xe2\x80\xa8c", "label": "y"}')
    found = rows(path, tasks["sentiment"])
    assert [row.fields["text"] for row in found] == ["a", "b\u2028c"]
    assert lines(path, found) == [1, 4]


def test_jsonl_may_begin_with_a_byte_order_mark(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n', encoding="utf-8-sig")
    assert fields(path, tasks["sentiment"]) == [{"text": "a", "label": "x"}]


def test_invalid_json_names_file_and_line_and_reading_goes_on(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": "b",\n[1]\n{"text": "c", "label": "x"}\nnull\n')
    found = faults(path, tasks["sentiment"])
    assert [fault.where for fault in found] == [f"{path}:{line}" for line in (2, 3, 5)]
    assert "is not valid JSON" in found[0].rule
    assert found[0].rule.endswith("(character 14)"), "the parser's own line number would mislead"
    assert found[1].rule == "is no JSON object"
    assert len(list(read(path, tasks["sentiment"]))) == 5


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"text":' * 100_000, '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}"]
)
def test_a_line_of_brackets_is_a_fault_of_its_line(tmp_path: Path, tasks: Tasks, line: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(f'{{"text": "a", "label": "x"}}\n{line}\n{{"text": "b", "label": "x"}}\n', "utf-8")
    first, bad, last = read(path, tasks["sentiment"])
    assert isinstance(first, Row) and isinstance(last, Row)
    assert isinstance(bad, Fault) and bad.where == f"{path}:2" and "is not valid JSON: " in bad.rule
    path = tmp_path / "train.csv"
    path.write_text(f"question,options,answer\nq,{'[' * 100_000},0\n", "utf-8")
    (bad,) = read(path, tasks["medqa"])
    assert isinstance(bad, Fault) and "is not valid JSON in column `options`: " in bad.rule


@pytest.mark.parametrize("depth", [100, 900, 990, 5000])
def test_a_value_that_lies_deep_is_a_fault_and_no_crash(tmp_path: Path, tasks: Tasks, depth: int) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"label": "x", "text": ' + "[" * depth + "]" * depth + "}\n", "utf-8")
    (bad,) = read(path, tasks["sentiment"])
    assert isinstance(bad, Fault) and bad.where == f"{path}:1"


def test_number_too_long_for_python_is_invalid_json_and_no_crash(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "label": ' + "1" * 5000 + "}\n")
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:1"


def test_missing_field_names_line_field_what_is_there_and_the_mapping(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"sentence": "b", "label": "x"}\n')
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:2"
    assert "`text`" in fault.rule
    assert "sentence, label" in fault.rule
    assert "conf/task/sentiment.yaml" in fault.remedy
    assert "fields: {text:" in fault.remedy


def test_bytes_that_are_not_utf8_name_their_line(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"text": "a", "label": "x"}\n{"text": "caf\xe9", "label": "x"}\n')
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:2"
    assert "UTF-8" in fault.rule


def test_fields_are_mapped_from_the_names_in_the_file(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"question": "q", "context": "c", "verdict": "yes", "id": 3}\n')
    assert fields(path, tasks["pair"]) == [{"text": "q", "text_pair": "c", "label": "yes", "id": 3}]


def test_wrong_type_names_file_and_line(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('\n{"text": 3, "label": "x"}\n')
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:2"


# csv


def test_a_csv_cell_may_hold_a_whole_article(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(f"text,label\n{'word ' * 40_000},good\n", "utf-8")
    (row,) = read(tmp_path / "train.csv", TaskConfig(name="t", kind="classification"))
    assert isinstance(row, Row) and len(row.fields["text"]) == 200_000


def test_csv_takes_multi_line_cells_and_counts_their_lines(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(b'id,text,label\r\n1,"two\r\nlines, ""quoted""",x\r\n\r\n2,b,y\r\n')
    found = rows(path, tasks["sentiment"])
    assert found[0].fields == {"text": 'two\r\nlines, "quoted"', "label": "x", "id": "1"}
    assert lines(path, found) == [2, 5]


def test_csv_parses_lists_numbers_and_objects(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "medqa.csv"
    path.write_text('question,options,answer\nWhich?,"[""a"", ""b, c""]",1\n')
    assert fields(path, tasks["medqa"]) == [{"question": "Which?", "options": ["a", "b, c"], "answer": 1}]
    path = tmp_path / "covidqa.csv"
    path.write_text('question,context,answers\nq,c d,"{""text"": [""d""], ""answer_start"": [2]}"\n')
    assert fields(path, tasks["covidqa"])[0]["answers"] == {"text": ["d"], "answer_start": [2]}


def test_csv_label_that_looks_like_a_number_stays_text(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text,label\n12,01\n")
    assert fields(path, tasks["sentiment"]) == [{"text": "12", "label": "01"}]


def test_csv_cell_that_is_not_json_names_line_and_column(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text('question,options,answer\n"one\nquestion","[""a""]",0\nWhich?,a;b,\n')
    found = faults(path, tasks["medqa"])
    assert [fault.where for fault in found] == [f"{path}:4"] * 2
    assert "`options`" in found[0].rule
    assert "`answer`" in found[1].rule


def test_csv_tokens_are_json_or_separated_by_spaces(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text('tokens,tags\n[ in  Rome ],O O B-LOC O\n"[""New York"", ""!""]","[""B-LOC"", ""O""]"\n')
    assert fields(path, tasks["ner"]) == [
        {"tokens": ["[", "in", "Rome", "]"], "tags": ["O", "O", "B-LOC", "O"]},
        {"tokens": ["New York", "!"], "tags": ["B-LOC", "O"]},
    ]


def test_broken_json_tokens_in_csv_are_not_taken_for_words(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text('tokens,tags\n"[""a"", ""b""",O O\n')
    (fault,) = faults(path, tasks["ner"])
    assert "`tokens`" in fault.rule


def test_csv_missing_column_is_said_once_with_the_header(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text;label\na;x\nb;y\n")
    found = faults(path, tasks["sentiment"])
    assert [fault.where for fault in found] == [f"{path}:1"] * 2
    assert "text;label" in found[0].rule


@pytest.mark.parametrize("line", ["a", "a,b,x"])
def test_csv_line_with_another_number_of_cells_is_a_fault(tmp_path: Path, tasks: Tasks, line: str) -> None:
    path = tmp_path / "train.csv"
    path.write_text(f"text,label\n{line}\nb,y\n")
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:2"
    assert "2" in fault.rule


def test_csv_quote_that_is_never_closed_names_the_line_where_it_opens(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text('text,label\na,x\n"b,y\nc,y\n')
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:3"
    assert "CSV" in fault.rule


def test_csv_that_is_not_utf8_names_its_line(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(b"text,label\na,x\ncaf\xe9,y\n")
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:3"


# parquet


def test_parquet_reads_lists_and_structs_and_counts_rows(tmp_path: Path, tasks: Tasks) -> None:
    answers = {"text": ["b"], "answer_start": [2]}
    table = {"id": [5, 6], "question": ["q", "r"], "context": ["a b", "a b"], "answers": [answers, answers]}
    path = tmp_path / "train.parquet"
    parquet.write_table(pyarrow.table(table | {"unused": [0.5, 0.5]}), path)
    found = rows(path, tasks["covidqa"])
    assert found[1].fields == {"question": "r", "context": "a b", "answers": answers, "id": 6}
    assert lines(path, found) == [1, 2]


def test_parquet_rows_are_counted_across_batches(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.parquet"
    table = pyarrow.table({"text": ["t"] * 10, "label": ["x"] * 9 + [None]})
    parquet.write_table(table, path, row_group_size=3)
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == f"{path}:10"


def test_parquet_missing_column_is_said_once(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.parquet"
    parquet.write_table(pyarrow.table({"sentence": ["a", "b"], "label": ["x", "y"]}), path)
    (fault,) = faults(path, tasks["sentiment"])
    assert "`text`" in fault.rule
    assert "sentence" in fault.rule


@pytest.mark.parametrize("content", [b"", b"PAR1 this is no parquet PAR1"])
def test_broken_parquet_names_the_file(tmp_path: Path, tasks: Tasks, content: bytes) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes(content)
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.where == str(path)
    assert "Parquet" in fault.rule


# conll


def test_conll_splits_sentences_at_blank_lines_and_names_their_first_line(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.conll"
    path.write_text(
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\n"
        "Peter\tB-PER\nNew York\tB-LOC\n\u00a0\tO\n-DOCSTART- O\nEnd O"
    )
    found = rows(path, tasks["ner"])
    assert [dict(row.fields) for row in found] == [
        {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
        {"tokens": ["Peter", "New York", "\u00a0"], "tags": ["B-PER", "B-LOC", "O"]},
        {"tokens": ["End"], "tags": ["O"]},
    ]
    assert lines(path, found) == [3, 7, 11]


@pytest.mark.parametrize("line", ["Rome", "Rome\t"])
def test_conll_line_without_a_tag_names_file_and_line(tmp_path: Path, tasks: Tasks, line: str) -> None:
    path = tmp_path / "train.conll"
    path.write_text(f"in O\n{line}\n")
    (fault,) = faults(path, tasks["ner"])
    assert fault.where == f"{path}:2"
    assert fault.value == line


def test_conll_is_for_tagging_alone(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.conll"
    path.write_text("in O\n")
    (fault,) = faults(path, tasks["sentiment"])
    assert "tagging" in fault.rule


def test_conll_follows_the_mapping_of_fields(tmp_path: Path) -> None:
    task = TaskConfig(name="ner", kind="tagging", columns={"tokens": "words", "tags": "ner"})
    path = tmp_path / "train.conll"
    path.write_text("in O\n")
    assert fields(path, task) == [{"tokens": ["in"], "tags": ["O"]}]


# all formats


def test_the_four_formats_give_the_same_rows(tmp_path: Path, tasks: Tasks) -> None:
    sentence = {"tokens": ["in", "Rome"], "tags": ["O", "B-LOC"]}
    (tmp_path / "a.jsonl").write_text(str(sentence).replace("'", '"'))
    (tmp_path / "a.csv").write_text("tokens,tags\nin Rome,O B-LOC\n")
    (tmp_path / "a.conll").write_text("in O\nRome B-LOC\n")
    parquet.write_table(pyarrow.Table.from_pylist([sentence]), tmp_path / "a.parquet")
    digests = {rows(path, tasks["ner"])[0].digest for path in tmp_path.iterdir()}
    assert len(digests) == 1


def test_folder_gives_each_split_its_file(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": "x"}')
    (tmp_path / "test.csv").write_text("text,label\nb,y\n")
    source = open_folder(tmp_path, tasks["sentiment"])
    assert {name: split.where for name, split in source.splits.items()} == {
        "train": str(tmp_path / "train.jsonl"),
        "test": str(tmp_path / "test.csv"),
    }
    assert source.notes == ()


def test_two_files_for_one_split_are_an_error_that_names_both(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "train.jsonl").write_text("")
    (tmp_path / "train.csv").write_text("")
    with pytest.raises(DataError, match=r"train\.csv and train\.jsonl"):
        open_folder(tmp_path, tasks["sentiment"])


def test_folder_without_train_says_what_is_there_and_what_is_needed(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "test.jsonl").write_text("")
    with pytest.raises(DataError, match=r"has test\.jsonl and no train file.* Add train\.jsonl") as caught:
        open_folder(tmp_path, tasks["sentiment"])
    assert caught.value.faults[0].where == str(tmp_path)


def test_file_that_looks_like_a_split_and_is_not_read_is_noted(tmp_path: Path, tasks: Tasks) -> None:
    for name in ("train.jsonl", "dev.jsonl", "test.tsv", "LICENSE.txt"):
        (tmp_path / name).write_text("")
    notes = open_folder(tmp_path, tasks["sentiment"]).notes
    assert len(notes) == 2
    assert "dev.jsonl was not read: splits are train, validation, test" in notes[0]
    assert "test.tsv was not read: formats are jsonl, csv, parquet, conll" in notes[1]


def test_importing_the_data_layer_loads_neither_pyarrow_nor_datasets() -> None:
    heavy = "pyarrow", "datasets", "torch"
    code = f"import sys, pipeline.core.data.load; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
