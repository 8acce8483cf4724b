import dataclasses
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from pipeline.reports.tables import (
    Cost,
    LeaderboardRow,
    MatrixRow,
    leaderboard_markdown,
    leaderboard_records,
    leaderboard_table,
    matrix_table,
    status_table,
)
from pipeline.rules.versions import Version

VERSION = Version(
    name="sentiment",
    version=3,
    alias="challenger",
    metric="accuracy",
    validation=0.91,
    test=0.9,
    low=0.85,
    high=0.95,
    baseline=0.51,
    checkpoint="minilm",
    method="houlsby",
    source="starter",
    created=datetime(2020, 1, 1, tzinfo=UTC),
)


def shown(table: Any, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_leaderboard_shows_everything_on_120_columns(row: LeaderboardRow) -> None:
    text = shown(leaderboard_table([row]))
    expected = "sentiment/films pfeiffer 24 1.2e-3 accuracy 0.910 0.900 .853-.963 0.510 0.52 % 512 kB 1:23 champion"
    assert expected in " ".join(text.split())


def test_a_checkpoint_that_answers_untrained_is_shown_beside_chance(row: LeaderboardRow) -> None:
    text = shown(leaderboard_table([dataclasses.replace(row, baseline=0.738, chance=0.25)]))
    assert ".853-.963 0.738 (0.250) 0.52 %" in " ".join(text.split())


@pytest.mark.parametrize("width", [120, 100, 80, 60])
def test_leaderboard_never_breaks_a_row(width: int, row: LeaderboardRow) -> None:
    rows = [row, dataclasses.replace(row, job="ner/social", alias="challenger")]
    lines = [line for line in shown(leaderboard_table(rows), width).splitlines() if line.strip()]
    assert len(lines) == 5  # title, header, rule, two rows
    assert max(len(line) for line in lines) <= width
    for must in ("job", "width", "lr", "valid.", "test", "alias"):
        assert must in lines[1]


def test_narrow_leaderboard_gives_up_the_least_important_columns_first(row: LeaderboardRow) -> None:
    header = shown(leaderboard_table([row]), 80).splitlines()[2]
    assert "95 %" in header
    assert "base" in header
    assert "method" not in header
    assert "size" not in header


def test_markdown_leaderboard_is_whole_and_escaped(row: LeaderboardRow) -> None:
    text = leaderboard_markdown([dataclasses.replace(row, job="a|b")])
    header, rule, line = text.splitlines()
    assert header.count("|") == rule.count("|") == 15
    assert "a\\|b" in line
    assert "512 kB" in line and "4.2 s" in line
    assert "layers" not in header
    header, *_, line = leaderboard_markdown([row, dataclasses.replace(row, layers="top-3")]).splitlines()
    assert "| layers |" in header and "| top-3 |" in line


def test_records_are_plain_and_unrounded(row: LeaderboardRow) -> None:
    [record] = leaderboard_records([row])
    assert json.loads(json.dumps(record))["learning_rate"] == 0.00123
    assert record["reason"] == "the first of sentiment"


def test_matrix_shows_rows_budget_and_cost() -> None:
    row = MatrixRow(
        job="sentiment/films",
        kind="classification",
        num_train=6920,
        num_validation=872,
        num_test=1821,
        trials=6,
        epochs=14,
        share=0.0052,
        cost=Cost(seconds=340, memory_bytes=812_000_000),
    )
    text = " ".join(shown(matrix_table([row])).split())
    assert "sentiment/films classification 6,920 872 1,821 6 14 0.52 % 5:40 812.0 MB" in text


def test_matrix_without_an_estimate_has_no_columns_for_it() -> None:
    row = MatrixRow(job="j", kind="tagging", num_train=1, num_validation=1, num_test=1, trials=1, epochs=1, share=0.01)
    assert " ".join(shown(matrix_table([row])).split()).endswith("1.00 %")
    assert "memory" not in shown(matrix_table([row]))


def test_status_shows_score_origin_and_age() -> None:
    text = " ".join(shown(status_table([VERSION])).split())
    assert "sentiment 3 challenger accuracy 0.910 0.900 .850-.950 0.510 houlsby minilm starter" in text
    assert "days" in text


def test_text_of_a_table_is_no_markup(row: LeaderboardRow) -> None:
    assert "[red]/x" in shown(leaderboard_table([dataclasses.replace(row, job="[red]/x")]))


def test_matrix_shows_what_is_fixed_beside_jobs_that_have_nothing_fixed() -> None:
    row = MatrixRow(
        job="ner", kind="tagging", num_train=1, num_validation=1, num_test=1, trials=1, epochs=5, share=0.01
    )
    assert "fixed" not in shown(matrix_table([row]))
    text = shown(matrix_table([row, dataclasses.replace(row, fixed="learning_rate 1e-05")]))
    assert "fixed" in text and "learning_rate 1e-05" in text
