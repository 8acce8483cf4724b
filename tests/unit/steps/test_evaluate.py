"""What is said of the rows that a version is scored on: which of them it has seen, and what it cannot know."""

from pipeline.config import TaskConfig
from pipeline.core.data.ledger import Ledger
from pipeline.core.data.rows import Row, make_row
from pipeline.core.tasks.kinds import restore
from pipeline.steps.evaluate import _scoring, _seen, _unknown

CONFIG = TaskConfig(name="mood", kind="classification")


def row(text: str, label: str) -> Row:
    (made,) = make_row({"text": text, "label": label}, CONFIG, "f:1")
    assert isinstance(made, Row)
    return made


def test_rows_are_seen_by_what_the_model_reads_of_them() -> None:
    ledger = Ledger(trained=(row("One", "a"), row("two", "a")), chosen=(row("three", "b"),), former=(row("old", "a"),))
    asked = [row("One", "a"), row("one ", "a"), row("TWO", "b"), row("Three", "b"), row("new", "a"), row("old", "a")]
    counts: dict[str, int] = {}
    (said,) = _seen(asked, ledger, counts, "label")
    assert counts == {"trained_on": 4, "chosen_by": 1}
    assert said.startswith(
        "The version was trained on 4 of the 6 rows (1 of them with another target), and chosen by 1"
    )


def test_rows_that_are_new_and_a_version_without_a_ledger_are_said_too() -> None:
    ledger = Ledger(trained=(row("one", "a"),))
    assert list(_seen([row("two", "a")], ledger, {}, "label")) == [
        "The version was trained on none of the rows, and not chosen by any."
    ]
    counts: dict[str, int] = {}
    (said,) = _seen([row("two", "a")], None, counts, "label")
    assert said.startswith("Nobody knows") and counts == {}


def test_labels_that_the_version_does_not_know_are_named() -> None:
    task = restore(CONFIG, ["a", "b"])
    asked = [row("1", "a"), row("2", "c"), row("3", "c"), row("4", "d")]
    assert list(_unknown(asked, task)) == ["The version does not know c (2 rows), d (1 row): counted as wrong."]
    assert list(_unknown(asked[:1], task)) == []


def test_the_baseline_is_the_majority_of_the_training_rows_where_they_are_known() -> None:
    restored = restore(CONFIG, ["a", "b"])
    asked, answers = [row("1", "a"), row("2", "b"), row("3", "b")], [{"label": "a"}] * 3
    ledger = Ledger(trained=(row("4", "a"), row("5", "a"), row("6", "b")))
    assert _scoring(restored, ledger).score(asked, answers).baseline == 1 / 3
    assert _scoring(restored, None).score(asked, answers).baseline == 2 / 3
    assert _scoring(restored, ledger, metric="macro_f1").score(asked, answers).primary == 0.25
