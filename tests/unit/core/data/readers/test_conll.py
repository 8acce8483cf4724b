from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.config import DataConfig, TaskConfig
from pipeline.core.data.readers import read_values
from tests.reads import asked, faults, fields, lines, notes, rows, stopped

Tasks = Mapping[str, TaskConfig]


def test_conll_splits_sentences_at_blank_lines_and_names_their_first_line(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.conll"
    path.write_text(
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\n"
        "Peter\tNNP\tB-NP\tB-PER\nNew York\tNNP\tB-NP\tB-LOC\n\u00a0\tNNP\tO\tO\n-DOCSTART- O\nEnd NN O O"
    )
    found = rows(path, tasks["ner"])
    assert [dict(row.fields) for row in found] == [
        {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
        {"tokens": ["Peter", "New York", "\u00a0"], "tags": ["B-PER", "B-LOC", "O"]},
        {"tokens": ["End"], "tags": ["O"]},
    ]
    assert lines(path, found) == [3, 7, 11]
    assert notes(path, tasks["ner"]) == []


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


# columns


def read_as(path: Path, task: TaskConfig, content: str, data: DataConfig | None = None) -> tuple[list[str], list[str]]:
    """The first sentence's tokens and tags."""
    path.write_text(content, "utf-8")
    (first, *_) = fields(path, task, data)
    return first["tokens"], first["tags"]


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("Petra B-PER\nlacht O\n", []),
        ("1\tPetra\tB-PER\tO\n2\tlacht\tO\tO\n", ["tokens: column 2, tags: column 3 (there are tags in column 4 too"]),
        ("0 Petra B-PER\n1 lacht O\n", ["tokens: column 2, tags: column 3 of 3."]),
        ("Petra NNP B-NP B-PER\nlacht VBZ B-VP O\n", []),
        ("Petra\tNNP\tI-NP\tB-PER\t\nlacht\tVBZ\tI-VP\tO\t\n", ["tokens: column 1, tags: column 4 of 5."]),
        ("B-PER Petra\nO lacht\n", ["tokens: column 2, tags: column 1 of 2."]),
        ("12\t1\tPetra\tB-PER\t-\tmia\n12\t2\tlacht\tO\t-\tmia\n", ["tokens: column 3, tags: column 4 of 6."]),
        ("Petra\tB-PER\tx\nlacht\tO\ty\n", ["tokens: column 1, tags: column 2 of 3."]),
    ],
)
def test_columns_are_found_by_what_stands_in_them(tmp_path: Path, tasks: Tasks, content: str, note: list[str]) -> None:
    path = tmp_path / "train.conll"
    assert read_as(path, tasks["ner"], content) == (["Petra", "lacht"], ["B-PER", "O"])
    assert [told[: len(wanted)] for told, wanted in zip(notes(path, tasks["ner"]), note, strict=True)] == note


def test_columns_may_be_set_by_number_for_the_task_or_for_one_command(tmp_path: Path, tasks: Tasks) -> None:
    content = "1\tPetra\tB-PER\tO\n2\tlacht\tO\tB-X\n"
    path = tmp_path / "train.conll"
    task = TaskConfig(name="ner", kind="tagging", columns={"tags": 4})
    assert read_as(path, task, content) == (["Petra", "lacht"], ["O", "B-X"])
    data = DataConfig(source=str(tmp_path), columns={"tags": 3, "tokens": 2})
    assert read_as(path, task, content, data) == (["Petra", "lacht"], ["B-PER", "O"])
    task = TaskConfig(name="ner", kind="tagging", columns={"tags": 5})
    assert "has 4 columns, and columns says that `tags` is number 5" in stopped(path, task)


CONLLU = """\
# sent_id = 1
# text = vámonos al mar
1-2\tvámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tvamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
2.1\tya\tya\tADV\t_\t_\t_\t_\t_\t_
3\tMar\tmar\tNOUN\t_\t_\t1\tobl\t_\tNER=B-LOC|SpaceAfter=No

# text = sí
1\tsí\tsí\tINTJ\t_\t_\t0\troot\t_\tSpaceAfter=No
"""


@pytest.mark.parametrize("suffix", ["conllu", "conll", "txt"])
def test_conllu_has_comments_ranges_empty_nodes_and_its_tag_in_misc(tmp_path: Path, tasks: Tasks, suffix: str) -> None:
    path = tmp_path / f"train.{suffix}"
    assert read_as(path, tasks["ner"], CONLLU) == (["vamos", "nos", "Mar"], ["O", "O", "B-LOC"])
    assert fields(path, tasks["ner"])[1] == {"tokens": ["sí"], "tags": ["O"]}
    assert notes(path, tasks["ner"]) == ["tokens: column 2, tags: column 10 (NER) of 10."]


def test_conllu_without_entities_says_so_and_can_be_asked_about(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.conllu"
    path.write_text(CONLLU.replace("NER=B-LOC|", ""), "utf-8")
    assert "has no column with entity tags" in stopped(path, tasks["ner"])
    assert asked(path, tasks["ner"]) == [{"tokens": ["vamos", "nos", "Mar"]}, {"tokens": ["sí"]}]


def test_columns_of_conllu_plus_may_be_set_by_name(tmp_path: Path) -> None:
    task = TaskConfig(name="ner", kind="tagging", columns={"tags": "X:NE"})
    content = "# global.columns = ID FORM X:NE X:B\n1\ta\tO\tB-X\n2\tb\tB-PER\tB-Y\n"
    assert read_as(tmp_path / "train.conll", task, content) == (["a", "b"], ["O", "B-PER"])


@pytest.mark.parametrize("blank", [" ", "\t"])
def test_a_line_with_a_hash_is_a_comment_or_a_token_by_its_columns(tmp_path: Path, tasks: Tasks, blank: str) -> None:
    content = f"# text one\n# sent\n#tag{blank}B-TAG\nyes{blank}O\n#{blank}O\n"
    path = tmp_path / "train.conll"
    assert read_as(path, tasks["ner"], content) == (["#tag", "yes", "#"], ["B-TAG", "O", "O"])


def test_blank_and_tab_alone_separate_columns(tmp_path: Path, tasks: Tasks) -> None:
    content = "10\u00a0000 B-QTY\nm\u2009long  O\n"
    assert read_as(tmp_path / "a.conll", tasks["ner"], content) == (["10\u00a0000", "m\u2009long"], ["B-QTY", "O"])


def test_a_line_with_other_columns_spoils_its_sentence_alone(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.conll"
    path.write_text("in IN O\nRome NNP B-LOC\n\nNew York NNP B-LOC\n. . O\n\nhere RB O\n")
    (bad,) = faults(path, tasks["ner"])
    assert (bad.where, bad.rule) == (f"{path}:4", "has 4 columns where the file has 3")
    assert [number for number, values in read_values(path, tasks["ner"]) if isinstance(values, dict)] == [1, 7]


def test_a_slip_in_a_column_of_tags_leaves_it_one(tmp_path: Path, tasks: Tasks) -> None:
    words = "".join(f"{i}\tw{i}\t{'PER' if i == 7 else 'B-PER'}\tO\n" for i in range(1, 21))
    tokens, tags = read_as(tmp_path / "train.conll", tasks["ner"], words)
    assert (tokens[6], tags[5:8]) == ("w7", ["B-PER", "PER", "B-PER"])


def test_tokens_without_tags_are_asked_about_and_not_learnt(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "new.conll"
    path.write_text("in\nRome\n\nhere\n")
    assert asked(path, tasks["ner"]) == [{"tokens": ["in", "Rome"]}, {"tokens": ["here"]}]
    assert "one column: tokens without tags" in stopped(path, tasks["ner"])
