"""The verdicts of a pass in tables, whatever stands in a reason."""

from dataclasses import replace

from pipeline.reports.tables import Column, markdown
from pipeline.reports.verdicts import PassRow, passes_markdown, verdict_markdown

ROW = PassRow(
    job="ner/a|b",
    champion=3,
    new=40,
    replayed=20,
    decision="rejected",
    reason="slice 1: worse by 2 | 3 rows\n(one-sided)",
    version=4,
)


def cells(line: str) -> list[str]:
    """The cells of a line as a Markdown reader cuts it."""
    inner = line.replace("\\|", "\0").strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\0", "|") for cell in inner.split("|")]


def test_bars_and_line_breaks_in_a_cell_do_not_break_a_markdown_table() -> None:
    columns = [Column(title="a|b", cells=["x | y", "\n"], right=True), Column(title="c", cells=["one\ntwo", "\\"])]
    lines = markdown(columns).splitlines()
    assert [cells(line) for line in lines] == [["a|b", "c"], ["---:", "---"], ["x | y", "one two"], ["", "\\"]]


def test_a_pass_is_one_line_a_task_in_markdown() -> None:
    lines = passes_markdown([ROW, ROW]).splitlines()
    assert [len(cells(line)) for line in lines] == [5] * 4
    reason = "slice 1: worse by 2 | 3 rows (one-sided)"
    assert cells(lines[2]) == ["ner/a|b", "v3", "40", "rejected v4", reason]


def test_a_verdict_says_which_attempt_it_was_and_why_those_before_were_not_enough() -> None:
    before = ["version 4 (warm, replay 0.1, 2 epochs): slice of the past: worse by 3 points"]
    text = verdict_markdown(replace(ROW, attempt="attempt 2 of 4: warm, replay 0.5, 2 epochs", tried=before), None, [])
    assert "20 replayed; attempt 2 of 4: warm, replay 0.5, 2 epochs." in text
    assert f"Before it:\n\n* {before[0]}\n" in text


def test_each_check_of_a_verdict_is_one_line_in_markdown() -> None:
    check = {"name": "slice a|b", "passed": False, "reason": "lost 3\nrows | of 9"}
    text = verdict_markdown(ROW, None, [check, {**check, "passed": True}])
    table = text[text.index("| check") :].splitlines()
    assert [cells(line) for line in table[2:]] == [
        ["slice a|b", "**no**", "lost 3 rows | of 9"],
        ["slice a|b", "yes", "lost 3 rows | of 9"],
    ]
