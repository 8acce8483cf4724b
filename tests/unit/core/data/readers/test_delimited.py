from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.config import TaskConfig
from pipeline.config.task import Column
from pipeline.core.data.readers import read
from pipeline.core.data.rows import Row
from pipeline.errors import DataError
from tests.reads import asked, faults, fields, lines, notes, rows, stopped

Tasks = Mapping[str, TaskConfig]


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
    path.write_text(" Text ;star\na;x\nb;y\n")
    found = faults(path, tasks["sentiment"])
    assert [fault.where for fault in found] == [f"{path}:1"] * 2
    assert "has no field `text` (it has: Text, star)" in found[0].rule
    assert "columns: {text: Text}" in found[0].remedy


@pytest.mark.parametrize("name", ["train.csv", "train.tsv"])
def test_a_header_that_is_one_cell_is_said_once_with_its_delimiter(tmp_path: Path, tasks: Tasks, name: str) -> None:
    path = tmp_path / name
    path.write_text("text~label\na~x\nb~y\n")
    (fault,) = faults(path, tasks["sentiment"])
    assert (fault.where, fault.value) == (f"{path}:1", "text~label")
    apart = "cells are separated by commas, semicolons, tabs or bars, not by `~`"
    assert fault.rule == f"is one cell, where text and label are read: {apart}"
    assert fault.remedy == "Put `sep=~` on a line before the header, or write the file with one of those"
    path.write_text("sep=~\ntext~label\na~x\n")
    assert fields(path, tasks["sentiment"]) == [{"text": "a", "label": "x"}]


def test_a_header_of_one_cell_whose_delimiter_cannot_be_told_is_said_once(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text label\na x\n")
    (fault,) = faults(path, tasks["sentiment"])
    assert fault.value == "text label"
    assert fault.remedy == "Put `sep=<delimiter>` on a line before the header, or write the file with one of those"


def test_bars_separate_cells_as_they_are(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text|label\na|x\n")
    assert fields(path, tasks["sentiment"]) == [{"text": "a", "label": "x"}]


def test_to_be_answered_a_file_of_one_column_of_another_name_lacks_it(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "new.csv"
    path.write_text("my-text\na\n")
    with pytest.raises(
        DataError, match=r"has no field `text` \(it has: my-text\).*; if this line is a row, put one with"
    ):
        asked(path, tasks["sentiment"])
    path.write_text("text~label\na~x\n")
    with pytest.raises(DataError, match=r"'text~label' is one cell, where text is read: .* Put `sep=~`"):
        asked(path, tasks["sentiment"])


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


# delimiters, headers, quotes


@pytest.mark.parametrize("name", ["train.csv", "train.tsv"])
@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("text,label\na; b,x\n", ["cells separated by commas."]),
        ("text;label\na; b;x\n", ["cells separated by semicolons."]),
        ("label|text\nx|a; b\n", ["cells separated by bars."]),
        ("\ntext\tlabel\na; b\tx\n", ["cells separated by tabs."]),
        ("sep=;\r\n label ;text \r\nx;a; b\r\n".replace("a; b", '"a; b"'), ["cells separated by semicolons."]),
    ],
)
def test_the_delimiter_is_found_and_told(
    tmp_path: Path, tasks: Tasks, name: str, content: str, note: list[str]
) -> None:
    content = content.replace("\na; b;x", '\n"a; b";x')
    (tmp_path / name).write_text(content, "utf-8")
    assert fields(tmp_path / name, tasks["sentiment"]) == [{"text": "a; b", "label": "x"}]
    usual = "cells separated by commas." if name.endswith("csv") else "cells separated by tabs."
    assert notes(tmp_path / name, tasks["sentiment"]) == ([] if note == [usual] else note)


def test_two_columns_of_one_name_are_a_fault_where_one_of_them_is_meant(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text,label, label \na,x,y\n")
    (bad,) = faults(path, tasks["sentiment"])
    assert (bad.where, bad.value) == (f"{path}:1", "label")
    assert bad.rule == "has 2 columns of this name, and one of them is meant"
    path.write_text("text,label,,\na,x,,\n")
    assert fields(path, tasks["sentiment"]) == [{"text": "a", "label": "x"}]


@pytest.mark.parametrize("again", ["text,label", "label,text", ' text ,"label"'])
def test_a_header_in_the_middle_is_a_fault_with_its_line(tmp_path: Path, tasks: Tasks, again: str) -> None:
    path = tmp_path / "train.csv"
    path.write_text(f"text,label\na,x\n{again}\nb,y\n")
    (bad,) = faults(path, tasks["sentiment"])
    assert bad.where == f"{path}:3"
    assert bad.rule == "is a header again, as where two files were pasted together"


def test_a_file_of_one_column_needs_no_quotes(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "new.csv"
    path.write_text('text\nfine, really; yes\n"quoted, too"\n')
    assert asked(path, tasks["sentiment"]) == [{"text": "fine, really; yes"}, {"text": "quoted, too"}]
    path.write_text('text\n"Fine", she said\nwell\n')
    assert asked(path, tasks["sentiment"]) == [{"text": '"Fine", she said'}, {"text": "well"}]


def test_quotation_marks_in_a_file_with_tabs_stand_as_they_are_where_they_hold_nothing(
    tmp_path: Path, tasks: Tasks
) -> None:
    path = tmp_path / "train.tsv"
    path.write_text('text\tlabel\n"Never" again\tx\n"unclosed\ty\nthere"\tx\n')
    found = [{"text": '"Never" again', "label": "x"}, {"text": '"unclosed', "label": "y"}]
    assert fields(path, tasks["sentiment"]) == [*found, {"text": 'there"', "label": "x"}]
    assert notes(path, tasks["sentiment"]) == ["quotation marks taken as they stand."]
    path.write_text('text\tlabel\n"tab\tand\nline"\tx\n"all ""closed"""\ty\n')
    quoted = [{"text": "tab\tand\nline", "label": "x"}, {"text": 'all "closed"', "label": "y"}]
    assert fields(path, tasks["sentiment"]) == quoted


def test_blank_and_tab_alone_separate_tokens(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text("tokens,tags\n10\u00a0000\u2009m  long,B-QTY O\n", "utf-8")
    assert fields(path, tasks["ner"]) == [{"tokens": ["10\u00a0000\u2009m", "long"], "tags": ["B-QTY", "O"]}]


def test_lists_and_objects_as_python_prints_them_are_read_and_arrays_are_not(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text("tokens,tags\n\"['New York', '!']\",\"['B-LOC', 'O']\"\n")
    assert fields(path, tasks["ner"]) == [{"tokens": ["New York", "!"], "tags": ["B-LOC", "O"]}]
    path.write_text("tokens,tags\n\"['New York' '!']\",\"['B-LOC' 'O']\"\n")  # as numpy prints them
    assert [bad.where for bad in faults(path, tasks["ner"])] == [f"{path}:2"] * 2
    path.write_text("question,context,answers\nq,c d,\"{'text': ['d'], 'answer_start': [2]}\"\n")
    assert fields(path, tasks["covidqa"])[0]["answers"] == {"text": ["d"], "answer_start": [2]}


def test_options_in_columns_with_a_letter_a_key_or_a_number_for_the_answer(tmp_path: Path) -> None:
    columns: dict[str, Column] = {"options": ["opa", "opb", "opc"], "answer": "cop"}
    task = TaskConfig(name="t", kind="multiple_choice", columns=columns)
    path = tmp_path / "train.csv"
    path.write_text("question;opa;opb;opc;cop\nq;x;y;z;B\nr;x;y;;b\ns;x;y;z;opc\nt;1;2;3;0\nu;x;y;z;2.0\n")
    assert [(row["options"], row["answer"]) for row in fields(path, task)] == [
        (["x", "y", "z"], 1),
        (["x", "y"], 1),
        (["x", "y", "z"], 2),
        (["1", "2", "3"], 0),
        (["x", "y", "z"], 2),
    ]


def test_prediction_asks_for_no_target_and_reads_none(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "new.csv"
    path.write_text('id,question,options,answer\n7,q,"[""a"", ""b""]",nonsense\n8,r,"[""a"",",\n')
    good, bad = asked(path, tasks["medqa"])
    assert good == {"id": "7", "question": "q", "options": ["a", "b"]}
    assert "new.csv:3: '[\"a\",' is not valid JSON in column `options`" in bad["faults"]
    path.write_text("text\nAnna left Rome.\n")
    assert asked(path, tasks["ner"]) == [{"tokens": "Anna left Rome."}]


def test_a_line_of_blanks_is_blank(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text,label\na,x\n  \t\n,\nb,y\n")
    assert [fault.where for fault in faults(path, tasks["sentiment"])] == []
    assert [row["text"] for row in fields(path, tasks["sentiment"])] == ["a", "", "b"]


def test_a_blank_line_between_the_rows_of_one_column_is_an_empty_cell_of_what_is_asked(
    tmp_path: Path, tasks: Tasks
) -> None:
    path = tmp_path / "new.csv"
    path.write_text("\ntext\ngood one\n\nbad one\n\n\n")
    good, empty, bad = asked(path, tasks["sentiment"])
    assert (good, bad) == ({"text": "good one"}, {"text": "bad one"})
    assert f"{path}:4: is a blank line, which in a file of one column is a row without a text" in empty["faults"]
    path.write_text("text,id\ngood one,1\n\nbad one,2\n")
    assert [row["text"] for row in asked(path, tasks["sentiment"])] == ["good one", "bad one"]


def test_a_table_with_a_token_a_line_is_told_where_that_belongs(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text("sentence,Word,tag\n1,Anna,B-PER\n1,left,O\n")
    said = stopped(path, tasks["ner"])
    assert f"{path}:1: looks like a table with a token a line (it has: sentence, Word, tag). Write it as .conll" in said


def test_quotation_marks_behind_blanks_hold_cells_together(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text('text, label\n"a, b", "x"\nc, "y"\n')
    assert fields(path, tasks["sentiment"]) == [{"text": "a, b", "label": "x"}, {"text": "c", "label": "y"}]
    assert notes(path, tasks["sentiment"]) == ["blanks before quotation marks dropped."]
    path.write_text('label,text\nx,"she said, ""no"""\ny, no\n')
    assert [row["text"] for row in fields(path, tasks["sentiment"])] == ['she said, "no"', " no"]
    assert notes(path, tasks["sentiment"]) == []


def test_json_in_a_csv_file_is_named(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    (fault,) = faults(path, tasks["sentiment"])
    assert str(fault) == f"{path}:1: is JSON, and its name ends in .csv. Call it train.jsonl."


def test_a_first_line_that_has_none_of_the_columns_may_be_a_row(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.csv"
    path.write_text("fine,x\nbad,y\n")
    first, _ = faults(path, tasks["sentiment"])
    assert first.remedy.endswith("; if this line is a row, put one with the names of the columns before it")


def test_labels_may_be_a_tuple_as_python_prints_it(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text,labels\na,\"('x', 'y')\"\nb,\"('x',)\"\nc,()\nd,(x)\n")
    read_as = [row["labels"] for row in fields(path, TaskConfig(name="t", kind="multi_label"))]
    assert read_as == [["x", "y"], ["x"], [], ["(x)"]]
