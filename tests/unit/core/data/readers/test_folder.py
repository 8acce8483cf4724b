import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from pipeline.config import TaskConfig
from pipeline.core.data.readers.folder import open_folder
from pipeline.errors import DataError
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


def test_importing_the_data_layer_loads_neither_pyarrow_nor_datasets() -> None:
    heavy = "pyarrow", "datasets", "torch"
    code = f"import sys, pipeline.core.data.load; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
