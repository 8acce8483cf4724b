"""How far a command is in many rows."""

from collections.abc import Iterator

import pytest

from pipeline.reports.counter import counted


def test_without_a_terminal_a_line_is_said_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    times: Iterator[float] = iter([0.0, 10.0, 31.0, 31.0, 40.0, 62.0, 62.0])
    assert list(counted("abcde"[:4], 1200, "answered", clock=lambda: next(times))) == ["a", "b", "c", "d"]
    assert capsys.readouterr() == ("", "2 of 1,200 rows answered\n4 of 1,200 rows answered\n")


def test_a_number_that_is_not_known_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    times: Iterator[float] = iter([0.0, 31.0, 31.0])
    assert list(counted("a", None, "answered", clock=lambda: next(times))) == ["a"]
    assert capsys.readouterr().err == "1 rows answered\n"
