import gzip
from collections.abc import Mapping
from pathlib import Path

import pyarrow
import pytest

from pipeline.config import DataConfig, TaskConfig
from tests.reads import fields, notes, stopped

Tasks = Mapping[str, TaskConfig]

CSV = "text,label\nça « va »,x\n"
ROW = [{"text": "ça « va »", "label": "x"}]
GZIP = gzip.compress(CSV.encode(), mtime=0)


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8", []),
        ("utf-8-sig", []),
        ("utf-16", ["encoding utf-16."]),
        ("utf-16-le with mark", ["encoding utf-16."]),
        ("utf-16-be with mark", ["encoding utf-16."]),
        ("utf-32", ["encoding utf-32."]),
    ],
)
def test_an_encoding_is_known_by_its_byte_order_mark(
    tmp_path: Path, tasks: Tasks, encoding: str, note: list[str]
) -> None:
    name, _, mark = encoding.partition(" with ")
    (tmp_path / "train.csv").write_bytes((("\ufeff" if mark else "") + CSV).encode(name))
    assert fields(tmp_path / "train.csv", tasks["sentiment"]) == ROW
    assert notes(tmp_path / "train.csv", tasks["sentiment"]) == note


@pytest.mark.parametrize("name", ["train.csv", "train.jsonl", "train.json", "train.tsv"])
def test_an_8_bit_encoding_is_named_and_never_guessed(tmp_path: Path, tasks: Tasks, name: str) -> None:
    content = '{"text": "ça « va »", "label": "x"}\n' if "json" in name else CSV
    content = CSV.replace(",", "\t") if "tsv" in name else content
    (tmp_path / name).write_bytes(content.encode("cp1252"))
    line = 1 if "json" in name else 2
    message = stopped(tmp_path / name, tasks["sentiment"])
    assert message.startswith(f"{tmp_path}/{name}:{line}: is not UTF-8: byte ")
    assert "of the line is 0xe7. Save the file as UTF-8, or name its encoding, such as data.encoding=cp1252." in message
    data = DataConfig(source=str(tmp_path), encoding="cp1252")
    assert fields(tmp_path / name, tasks["sentiment"], data) == ROW
    assert notes(tmp_path / name, tasks["sentiment"], data) == ["encoding cp1252."]


def test_a_byte_order_mark_wins_over_the_encoding_that_is_named(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "train.csv").write_bytes(CSV.encode("utf-8-sig"))
    assert fields(tmp_path / "train.csv", tasks["sentiment"], DataConfig(source="x", encoding="cp1252")) == ROW


def test_what_the_named_encoding_cannot_read_is_told(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "train.csv").write_bytes(b"text,label\n\x81,x\n")
    data = DataConfig(source="x", encoding="cp1252")
    assert "train.csv:2: is not CP1252: byte 1 of the line is 0x81" in stopped(
        tmp_path / "train.csv", tasks["sentiment"], data
    )
    (tmp_path / "train.csv").write_bytes(CSV.encode("utf-16")[:-1])
    assert "is not UTF-16: truncated data at byte 47" in stopped(tmp_path / "train.csv", tasks["sentiment"])
    (tmp_path / "train.csv").write_bytes(CSV.encode("utf-16-le"))
    assert "looks like UTF-16 without a byte order mark" in stopped(tmp_path / "train.csv", tasks["sentiment"])
    data = DataConfig(source="x", encoding="utf-16-le")
    assert fields(tmp_path / "train.csv", tasks["sentiment"], data) == ROW


def test_byte_order_marks_inside_a_file_are_dropped_and_told(tmp_path: Path, tasks: Tasks) -> None:
    path = tmp_path / "train.conll"
    path.write_text("\ufeffAnna B-PER\n\n\ufeffBen B-PER\nleft O\n", "utf-8")
    assert [row["tokens"] for row in fields(path, tasks["ner"])] == [["Anna"], ["Ben", "left"]]
    assert notes(path, tasks["ner"]) == ["byte order marks inside the file dropped (1)."]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lines_may_end_in_carriage_returns_alone(tmp_path: Path, tasks: Tasks, encoding: str) -> None:
    (tmp_path / "train.csv").write_bytes("text,label\ra,x\rb,y\r".encode(encoding))
    found = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    assert fields(tmp_path / "train.csv", tasks["sentiment"]) == found
    assert "lines end in carriage returns." in notes(tmp_path / "train.csv", tasks["sentiment"])[0]


@pytest.mark.parametrize("suffix", ["gz", "zst", "GZ"])
def test_compressed_files_are_read_and_broken_ones_are_told(tmp_path: Path, tasks: Tasks, suffix: str) -> None:
    raw = CSV.encode()
    packed = pyarrow.compress(raw, "zstd", asbytes=True) if suffix == "zst" else gzip.compress(raw)
    path = tmp_path / f"train.csv.{suffix}"
    path.write_bytes(packed)
    assert fields(path, tasks["sentiment"]) == ROW
    path.write_bytes(packed[:-6])
    assert f"train.csv.{suffix}: cannot be read: " in stopped(path, tasks["sentiment"])


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("train.csv", GZIP, "compressed by gzip"),
        ("train.jsonl", b"\x28\xb5\x2f\xfd\x04\x00", "compressed by zstd"),
        ("train.csv", b"PK\x03\x04\x14\x00", "a ZIP archive, as .xlsx is too"),
        ("train.txt.bz2.csv", b"BZh91AY", "compressed by bzip2"),
        ("train.json", b"PAR1\x15\x04", "Parquet"),
        ("train.csv.zst", GZIP, "compressed by gzip"),
        ("train.parquet", GZIP, "compressed by gzip"),
        ("train.csv.gz", CSV.encode(), "not compressed by gzip"),
        ("train.parquet", CSV.encode(), "no Parquet"),
        (
            "train.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n",
            "a pointer of Git LFS to the file",
        ),
        ("train.parquet", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS to the file"),
        ("train.csv", b"\n<!DOCTYPE HTML>\n<title>Not found", "a page of HTML"),
    ],
)
def test_what_a_file_is_though_its_name_says_otherwise_is_told(
    tmp_path: Path, tasks: Tasks, name: str, content: bytes, what: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for encoding in (None, "cp1252"):
        message = stopped(path, tasks["sentiment"], DataConfig(encoding=encoding))
        assert message.startswith(f"{path}: is {what}, and its name ends in .{name.split('.')[-1]}. ")
        assert "encoding=" not in message


def test_a_link_to_nothing_is_told_once_with_its_reason(tmp_path: Path, tasks: Tasks) -> None:
    (tmp_path / "train.csv").symlink_to("gone.csv")
    message = stopped(tmp_path / "train.csv", tasks["sentiment"])
    assert message.endswith("train.csv: cannot be read: No such file or directory. Write the file again.")


def test_an_encoding_that_is_named_and_none_of_the_files_is_told(tmp_path: Path, tasks: Tasks) -> None:
    data = DataConfig(encoding="cp1252")
    (tmp_path / "a.csv").write_text(CSV, "utf-8")
    (tmp_path / "b.csv").write_text(CSV, "cp1252")
    (tmp_path / "c.csv").write_text("text,label\na,x\n", "utf-8")
    told = [notes(tmp_path / name, tasks["sentiment"], data) for name in ("a.csv", "b.csv", "c.csv")]
    looks = "what is not ASCII is all valid UTF-8, which it probably is: leave data.encoding out"
    assert told == [[f"encoding cp1252; {looks}."], ["encoding cp1252."], ["encoding cp1252."]]
