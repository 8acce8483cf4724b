"""Where that stands what is asked: by the environment or standard input; nothing is loaded to find that out."""

import io
import os
import sys
from pathlib import Path

import pytest

from pipeline.config.champions import EvaluateConfig, FileDataConfig
from pipeline.errors import ConfigError, DataError
from pipeline.steps.asked import asked, check_out, with_file


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEXT", "ITEM", "FILE"):
        monkeypatch.delenv(name, raising=False)


def said(monkeypatch: pytest.MonkeyPatch, given: bytes) -> list[tuple[int, str]]:
    """What is read of standard input, errors by their message."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    return [(number, str(line)) for number, line in asked().lines or ()]


def test_a_line_of_standard_input_keeps_its_number_and_may_hold_any_other_line_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = "\ufeffone\u2028more\n\n \r\n  two  \r\nthree".encode()
    assert said(monkeypatch, given) == [(1, "one\u2028more"), (4, "two"), (5, "three")]


def test_a_line_that_is_no_utf_8_is_an_error_of_that_line_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, b"one\ncaf\xe9\nthree\n") == [
        (1, "one"),
        (2, "standard input:2: is not UTF-8 (byte 4 of the line). Send it as UTF-8."),
        (3, "three"),
    ]


@pytest.mark.parametrize("given", [b"", b" \n\n", "\ufeff".encode()])
def test_an_empty_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch, given: bytes) -> None:
    with pytest.raises(DataError, match=r"standard input: is empty\. Give TEXT="):
        said(monkeypatch, given)


def test_a_file_is_opened_and_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xff")
    monkeypatch.setenv("FILE", str(tmp_path / "a.csv"))
    assert asked().file == tmp_path / "a.csv"
    monkeypatch.setenv("FILE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\). Give a file in one of the formats"):
        asked()


def test_a_pipe_is_opened_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    monkeypatch.setenv("FILE", str(tmp_path / "rows.jsonl"))
    assert asked().file == tmp_path / "rows.jsonl"  # without a writer, opening it would wait


def test_answers_go_to_no_folder_and_not_over_what_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.touch()
    check_out(str(tmp_path / "new.csv"), file)
    with pytest.raises(ConfigError, match=r"OUT: '.*a\.csv' is the FILE that is read"):
        check_out(f"{tmp_path}/../{tmp_path.name}/a.csv", file)
    (tmp_path / "b.csv").mkdir()
    for place in ("b.csv", "gone/b.csv"):
        with pytest.raises(ConfigError, match=r"OUT: .* cannot be written"):
            check_out(str(tmp_path / place), None)


def test_rows_to_score_come_from_one_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.touch()
    coded = EvaluateConfig(task={}, job="ner", data=FileDataConfig(encoding="cp1252"))
    with pytest.raises(ConfigError, match=r"data\.encoding: 'cp1252' has no effect with DATA=starter"):
        with_file(coded)
    monkeypatch.setenv("FILE", str(file))
    assert with_file(coded).file == str(file)
    with pytest.raises(ConfigError, match="FILE and DATA: exclude each other"):
        with_file(EvaluateConfig(task={}, job="ner", data=FileDataConfig(source="hub")))
    with pytest.raises(ConfigError, match=r"FILE: 'gone' cannot be read"):
        with_file(EvaluateConfig(task={}, job="ner", file="gone"))
    assert with_file(EvaluateConfig(task={}, job="ner", file="gone"), is_here=False).file == "gone"
