"""Lines of a text file: decompressed, decoded, numbered. The encoding is that of a byte order mark, or named."""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from pipeline.errors import DataError, Fault, fault

COMPRESSIONS = ("gz", "zst")
"""Suffixes, behind that of the format."""
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16's, with which it begins
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_MARK = "\ufeff"
_UTF_8 = ("utf-8", "utf8")
_CONTENTS: Mapping[str, tuple[str, tuple[bytes, ...]]] = {
    "gz": ("compressed by gzip", (b"\x1f\x8b\x08",)),
    "zst": ("compressed by zstd", (b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18")),
    "bz2": ("compressed by bzip2", tuple(f"BZh{level}1AY".encode() for level in range(1, 10))),
    "xz": ("compressed by xz", (b"\xfd7zXZ",)),
    "zip": ("a ZIP archive, as .xlsx is too", (b"PK\x03\x04",)),
    "parquet": ("Parquet", (b"PAR1\x15",)),
}
"""Suffix -> what a file of that name is, and how it then begins."""
_INSTEAD: Mapping[str, tuple[str, str]] = {
    r"version https://git-lfs\.github\.com/spec/": ("a pointer of Git LFS to the file", "Fetch the file: git lfs pull"),
    r"(?i)\s*<!doctype html": (
        "a page of HTML",
        "Get the file itself: servers answer with a page what they do not find",
    ),
}
"""How text begins that stands in place of a file -> what it is, and what to do."""
_RETURNS = "lines end in carriage returns"
_CHUNK = 1 << 16


def lines(path: Path, encoding: str | None, facts: list[str]) -> Iterator[tuple[int, str]]:
    """Number and decode the lines of a file, with their line ends; byte order marks at their beginning are dropped.

    Args:
        path: The file, which may be compressed.
        encoding: Of a file without a byte order mark; None: UTF-8.
        facts: Takes in what is not plain UTF-8 with plain line ends.

    Raises:
        DataError: The file is not in that encoding, or cannot be decompressed.
    """
    try:
        if wrong := misnamed(path):
            raise DataError(wrong)
        with open_bytes(path) as file:
            start = file.peek(_CHUNK)[:_CHUNK]
            marked = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
            if marked is None and encoding is None and b"\0" in start[:2]:
                rule, remedy = (
                    "looks like UTF-16 without a byte order mark",
                    "Set data.encoding=utf-16-le, or utf-16-be",
                )
                raise DataError(fault(path, "", rule, remedy))
            named = marked or encoding or "utf-8"
            if named.lower().replace("_", "-") not in _UTF_8:
                facts.append(f"encoding {named}")
            marks = 0
            for number, line in _decoded(path, file, named, start, facts):
                if line.startswith(_MARK):
                    marks += number > 1
                    line = line.lstrip(_MARK)
                yield number, line
            if marks:
                facts.append(f"byte order marks inside the file dropped ({marks})")
    except (OSError, EOFError, zlib.error) as error:
        rule = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise DataError(fault(path, "", rule, "Write the file again")) from error


def format_of(path: Path) -> str:
    """The suffix that says what a file holds, in small letters: `csv` of `train.CSV.gz`; empty where it has none."""
    parts = path.name.lower().split(".")[1:]
    return next((part for part in reversed(parts) if part not in COMPRESSIONS), "")


def misnamed(path: Path) -> Fault | None:
    """Say what a file is where its last suffix says otherwise, and what begins like no text; None where all is well.

    Raises:
        OSError: It cannot be opened.
    """
    if not path.is_file():  # a pipe can be read once alone; a link to nothing is told by who opens it
        return None
    with path.open("rb") as file:
        start = file.read(64)
    named = path.suffix.lower()[1:]
    ends = f"its name ends in .{named}" if named else "its name has no suffix"
    for begin, (what, remedy) in _INSTEAD.items():
        if re.match(begin, start.decode("latin-1")):
            return fault(path, "", f"is {what}, and {ends}", remedy)
    holds = next((suffix for suffix, (_, begins) in _CONTENTS.items() if start.startswith(begins)), "")
    if not start or holds == named or (not holds and named not in _CONTENTS):
        return None
    what = _CONTENTS[holds or named][0]
    if not holds:
        what = "no Parquet" if named == "parquet" else f"not {what}"
    if holds in COMPRESSIONS:
        remedy = f"End its name in .{holds}" if named in COMPRESSIONS else f"Call it {path.name}.{holds}"
    elif holds == "parquet":
        remedy = f"Call it {path.name.split('.')[0]}.parquet"
    elif holds:
        remedy = "Unpack it, or write it as csv, jsonl or parquet"
    else:
        remedy = "Give it the suffix of what it holds" if named == "parquet" else f"Take .{named} off its name"
    return fault(path, "", f"is {what}, and {ends}", remedy)


def open_bytes(path: Path) -> io.BufferedReader:
    """Open a file, decompressed as its last suffix says."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return io.BufferedReader(cast(io.RawIOBase, gzip.open(path, "rb")), _CHUNK)
    if suffix == ".zst":
        import pyarrow

        return io.BufferedReader(cast(io.RawIOBase, pyarrow.input_stream(str(path), compression="zstd")), _CHUNK)
    return io.BufferedReader(io.FileIO(path), _CHUNK)


def _decoded(
    path: Path, file: io.BufferedReader, encoding: str, start: bytes, facts: list[str]
) -> Iterator[tuple[int, str]]:
    if "\n".encode(encoding) != b"\n":  # UTF-16 and others, whose bytes cannot be parted into lines
        yield from _decoded_whole(path, file.read(), encoding, facts)
        return
    parts: Iterator[bytes] = iter(file)
    if b"\r" in start and b"\n" not in start:
        facts.append(_RETURNS)
        parts = iter(file.read().splitlines(keepends=True))
    is_named = encoding.lower().replace("_", "-") not in _UTF_8
    alike: bool | None = None  # whether what is not ASCII is UTF-8 all the same
    for number, raw in enumerate(parts, start=1):
        if is_named and alike is not False and not raw.isascii():
            alike = _is_utf_8(raw)
        try:
            yield number, raw.decode(encoding)
        except UnicodeDecodeError as error:
            rule = f"is not {encoding.upper()}: byte {error.start + 1} of the line is 0x{raw[error.start]:02x}"
            remedy = "Save the file as UTF-8, or name its encoding, such as data.encoding=cp1252"
            raise DataError(fault(f"{path}:{number}", "", rule, remedy)) from error
    if alike:
        facts.append("what is not ASCII is all valid UTF-8, which it probably is: leave data.encoding out")


def _is_utf_8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decoded_whole(path: Path, content: bytes, encoding: str, facts: list[str]) -> Iterator[tuple[int, str]]:
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        rule, remedy = f"is not {encoding.upper()}: {error.reason} at byte {error.start + 1}", "Save the file as UTF-8"
        raise DataError(fault(path, "", rule, remedy)) from error
    if only_returns := "\r" in text and "\n" not in text:
        facts.append(_RETURNS)
    yield from enumerate(io.StringIO(text, newline="" if only_returns else "\n"), start=1)
