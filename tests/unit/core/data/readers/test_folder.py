import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from pipeline.config import DataConfig, TaskConfig
from pipeline.core.data.load import domains, load
from pipeline.core.data.readers.folder import open_folder, split_files
from pipeline.core.data.rows import Row
from pipeline.core.tasks.kinds import restore
from pipeline.errors import ConfigError, DataError
from tests.reads import rows

Tasks = Mapping[str, TaskConfig]


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
    for name in ("train.jsonl", "train_old.csv", "test.xlsx", "dev.jsonl.bz2", "rest.csv", "LICENSE.txt", "value.csv"):
        (tmp_path / name).write_text("")
    notes = [note.replace(f"{tmp_path}/", "") for note in open_folder(tmp_path, tasks["sentiment"]).notes]
    names = "splits are train, validation, test, dev, val, valid."
    formats = (
        "formats are jsonl, ndjson, json, csv, tsv, parquet, conll, conllu, bio, iob, iob2, txt, also with .gz or .zst."
    )
    assert notes == [
        f"Warning: dev.jsonl.bz2 was not read: {formats}",
        f"rest.csv was not read: {names}",
        f"Warning: test.xlsx was not read: {formats}",
        f"Warning: train_old.csv was not read: {names}",
        f"value.csv was not read: {names}",
    ]


def test_shards_that_are_not_read_are_told_and_what_is_for_people_is_not(tmp_path: Path, tasks: Tasks) -> None:
    write(tmp_path / "train/1.csv", "a")
    for name in ("2.xlsx", "3.csv.zip", "README.md", "LICENSE", ".crc", "_SUCCESS"):
        write(tmp_path / "train" / name)
    (note,) = open_folder(tmp_path, tasks["sentiment"]).notes
    said = f"Warning: {tmp_path}/train has files that were not read (2.xlsx, 3.csv.zip): formats are jsonl, "
    assert note.startswith(said)


@pytest.mark.parametrize(("name", "said"), [("a.xlsx", "train/a.xlsx is in no format"), (None, "train/ holds nothing")])
def test_a_folder_of_a_split_in_which_nothing_is_read_is_named(
    tmp_path: Path, tasks: Tasks, name: str | None, said: str
) -> None:
    (tmp_path / "sentiment/train").mkdir(parents=True)
    if name is not None:
        write(tmp_path / "sentiment/train" / name)
    with pytest.raises(DataError, match=f"has no task `sentiment`: sentiment/{said}.* Write it as one of jsonl"):
        domains(tasks["sentiment"], DataConfig(source=str(tmp_path)))


def test_a_data_folder_without_any_task_is_no_choice_of_none(tmp_path: Path, tasks: Tasks) -> None:
    with pytest.raises(DataError, match=r"Put a train file into \S+/sentiment/, or give DATA=<dir> or DATA=hub"):
        domains(tasks["sentiment"], DataConfig(source=str(tmp_path)))


def test_sentences_of_one_word_are_told(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "train.csv").write_text("tokens,tags\nAnna,B-PER\nleft,O\n")
    (note,) = [one for one in open_folder(tmp_path, tasks["ner"]).notes if "token" in one]
    assert "each of its rows has one token" in note and note.startswith("Warning: ")
    (tmp_path / "train.csv").write_text("tokens,tags\nAnna left,B-PER O\nleft,O\n")
    assert not [one for one in open_folder(tmp_path, tasks["ner"]).notes if "one token" in one]


def test_words_of_a_sentence_are_no_rows(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "train.csv").write_text("tokens,tags\nAnna,B-PER\nLee,I-PER\nleft,O\n")
    with pytest.raises(DataError, match=r"has one token in each row, and tags that go on .* sentences as \.conll"):
        open_folder(tmp_path, tasks["ner"])


def test_importing_the_data_layer_loads_neither_pyarrow_nor_datasets() -> None:
    heavy = "pyarrow", "datasets", "torch"
    code = f"import sys, pipeline.core.data.load; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# names, shards, folders


def write(path: Path, *texts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text,label\n" + "".join(f"{text},x\n" for text in texts))


def texts(folder: Path, task: TaskConfig) -> dict[str, list[str]]:
    """Split -> the texts of its rows, in order."""
    return {
        name: [row.fields["text"] for row in split.rows if isinstance(row, Row)]
        for name, split in open_folder(folder, task).splits.items()
    }


@pytest.mark.parametrize("name", ["validation.csv", "dev.csv", "val.CSV", "Valid.csv", "dev-00000-of-00001.csv"])
def test_validation_has_several_names(tmp_path: Path, tasks: Tasks, name: str) -> None:
    write(tmp_path / "Train.csv", "a")
    write(tmp_path / name, "b")
    assert texts(tmp_path, tasks["sentiment"]) == {"train": ["a"], "validation": ["b"]}


def test_a_split_under_two_names_is_a_fault(tmp_path: Path, tasks: Tasks) -> None:
    write(tmp_path / "train.csv", "a")
    write(tmp_path / "dev.csv", "b")
    write(tmp_path / "valid/part-0.csv", "c")
    with pytest.raises(DataError, match=r"has two files for one split: dev\.csv and valid/\. Keep one validation file"):
        open_folder(tmp_path, tasks["sentiment"])


def test_shards_are_one_split_in_the_order_of_their_numbers(tmp_path: Path, tasks: Tasks) -> None:
    for number in (2, 0, 1):
        write(tmp_path / f"train-0000{number}-of-00003.csv", f"t{number}")
    for number in (10, 2, 1):
        write(tmp_path / "test" / f"part-{number}.csv", f"e{number}")
    write(tmp_path / "test" / "_SUCCESS.csv")
    found = {"test": ["e1", "e2", "e10"], "train": ["t0", "t1", "t2"]}
    assert texts(tmp_path, tasks["sentiment"]) == found
    assert len(split_files(tmp_path)["test"]) == 3
    (first, *_) = open_folder(tmp_path, tasks["sentiment"]).splits["train"].rows
    assert isinstance(first, Row) and first.origin == f"{tmp_path}/train-00000-of-00003.csv:2"


def test_a_shard_that_is_missing_is_named(tmp_path: Path, tasks: Tasks) -> None:
    for number in (0, 2, 3):
        write(tmp_path / f"train-0000{number}-of-00005.csv", "a")
    rule = r"has 3 of the 5 shards that train-00000-of-00005\.csv is one of: 1, 4 are missing"
    with pytest.raises(DataError, match=rule):
        open_folder(tmp_path, tasks["sentiment"])


@pytest.mark.parametrize(
    ("one", "two"), [("rows.csv", "rows.jsonl"), ("a-00000-of-00001.csv", "a-00000-of-00001.csv.gz")]
)
def test_a_shard_in_two_formats_is_not_read_twice(tmp_path: Path, tasks: Tasks, one: str, two: str) -> None:
    (tmp_path / "train").mkdir()
    for name in (one, two, "other.csv"):
        (tmp_path / "train" / name).write_text("text,label\nA good film.,positive\n", encoding="utf-8")
    rule = rf"train: has one file in two formats, whose rows would be read twice: {re.escape(one)} and {re.escape(two)}"
    with pytest.raises(DataError, match=rule + r"\. Keep one of the two"):
        open_folder(tmp_path, tasks["sentiment"])


def test_a_domain_may_be_called_like_a_split(tmp_path: Path, tasks: Tasks) -> None:
    write(tmp_path / "sentiment/test/train.csv", "a")
    assert domains(tasks["sentiment"], DataConfig(source=str(tmp_path))) == ["test"]
    write(tmp_path / "ner/train/part.csv", "a")
    assert domains(tasks["ner"], DataConfig(source=str(tmp_path))) == ["news"]


def test_a_folder_of_files_without_a_split_says_what_lies_there(tmp_path: Path, tasks: Tasks) -> None:
    write(tmp_path / "sentiment/reviews.csv", "a")
    with pytest.raises(DataError, match=r"has no task `sentiment`: .*\(there: reviews\.csv\)\. Call the file"):
        domains(tasks["sentiment"], DataConfig(source=str(tmp_path)))
    write(tmp_path / "train.csv", "a")
    with pytest.raises(DataError, match=r"has no task `ner`.*Put train\.csv into "):
        domains(tasks["ner"], DataConfig(source=str(tmp_path)))


def test_what_was_found_out_is_noted_once_for_alike_shards(tmp_path: Path, tasks: Tasks) -> None:
    for number in (0, 1):
        (tmp_path / f"train-{number}-of-2.csv").write_text(f"text;label\na{number};x\n")
    told = open_folder(tmp_path, tasks["sentiment"]).notes
    assert told == (f"{tmp_path}/train-0-of-2.csv and 1 more: cells separated by semicolons.",)


def test_all_splits_have_the_columns_and_the_tag_scheme_of_train(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "train.conll").write_text("1\tRome\tI-LOC\tO\n2\tis\tO\tO\n")
    (tmp_path / "test.conll").write_text("1\tthe\tO\tO\n2\tday\tO\tB-DAY\n")
    source = open_folder(tmp_path, tasks["ner"])
    (tested,) = source.splits["test"].rows
    (learnt,) = source.splits["train"].rows
    assert isinstance(tested, Row) and isinstance(learnt, Row)
    assert (tested.fields["tags"], learnt.fields["tags"]) == (["O", "O"], ["B-LOC", "O"])
    assert source.notes[-1] == f"{tmp_path}: IOB1 tags, written as BIO."
    (tmp_path / "train.conll").write_text("1\tRome\tB-LOC\tO\n2\tis\tO\tO\n")
    (tmp_path / "test.conll").write_text("1\tthe\tI-LOC\tO\n2\tday\tO\tO\n")
    (tested,) = open_folder(tmp_path, tasks["ner"]).splits["test"].rows
    assert isinstance(tested, Row) and tested.fields["tags"] == ["I-LOC", "O"], "damaged, and not another scheme"


def test_columns_of_a_command_must_be_fields_that_the_task_reads(tmp_path: Path, tasks: Tasks) -> None:
    write(tmp_path / "sentiment/train.csv", "a")
    data = DataConfig(source=str(tmp_path), columns={"text_pair": "b", "tokens": "c"})
    with pytest.raises(ConfigError) as caught:
        load(tasks["sentiment"], "films", data, kind=restore(tasks["sentiment"]))
    assert [fault.where for fault in caught.value.faults] == ["data.columns.tokens", "data.columns.text_pair"]


def test_what_is_wrong_with_a_whole_file_is_never_skipped(tmp_path: Path, tasks: Tasks) -> None:
    folder = tmp_path / "sentiment/train"
    folder.mkdir(parents=True)
    (folder / "part-0.csv").write_text("text,label\n" + "".join(f"text {i},{'xy'[i % 2]}\n" for i in range(60)))
    (folder / "part-1.csv").write_text('text,label\n"not closed,x\n')
    data = DataConfig(source=str(tmp_path), bad_rows="skip")
    with pytest.raises(DataError, match=r"part-1\.csv:2: is not valid CSV"):
        load(tasks["sentiment"], "films", data, kind=restore(tasks["sentiment"]))


def test_a_split_that_is_no_file_is_told(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": "x"}')
    (tmp_path / "validation.csv").mkdir()
    (tmp_path / "dev").mkdir()
    source = open_folder(tmp_path, tasks["sentiment"])
    assert source.notes == (f"Warning: {tmp_path}/validation.csv was not read: it is no file.",)
    (tmp_path / "test.jsonl").symlink_to("gone.jsonl")
    (bad,) = open_folder(tmp_path, tasks["sentiment"]).splits["test"].rows
    assert "test.jsonl: cannot be read: No such file or directory" in str(bad)


def test_a_train_file_in_a_format_that_is_not_read_is_named(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "sentiment").mkdir()
    (tmp_path / "sentiment" / "train.xlsx").write_text("")
    rule = r"sentiment/train\.xlsx is in no format that is read\. Write it as one of jsonl, ndjson"
    with pytest.raises(DataError, match=rule):
        domains(tasks["sentiment"], DataConfig(source=str(tmp_path)))


@pytest.mark.parametrize(("name", "content"), [("test.csv", "text\na\n"), ("test.jsonl", '{"text": "a"}\n')])
def test_a_test_file_without_targets_may_be_removed(tmp_path: Path, tasks: Tasks, name: str, content: str) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a"}')
    (tmp_path / name).write_text(content)
    source = open_folder(tmp_path, tasks["sentiment"])
    (train,), (test,) = (source.splits[split].rows for split in ("train", "test"))
    assert "remove the file" not in str(train)
    assert str(test).endswith("; or remove the file, if nobody knows the targets: test is then cut off train.")
