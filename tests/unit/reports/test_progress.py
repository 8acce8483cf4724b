import dataclasses
import io
import sys
from typing import Any

import pytest
from rich.console import Console

from pipeline.core.engine.events import TrialPaused, TrialStarted
from pipeline.reports.progress import JobPlan, Progress

PLANS = {
    "sentiment/films": JobPlan(trials=3, epochs=10, metric="accuracy"),
    "ner/news": JobPlan(trials=3, epochs=10, metric="f1"),
}


def progress_of(
    teller: Any, *, terminal: bool = False, plans: Any = PLANS, slots: int = 2, clock: Any = lambda: 0.0
) -> tuple[Progress, Any]:
    file = io.StringIO()
    console = Console(file=file, width=60, force_terminal=terminal)
    return Progress(console, teller.results, plans, slots=slots, clock=clock), file


def cells(progress: Progress, row: int) -> list[str]:
    return [str(column.cells[row]) for column in progress.table().columns]


def test_without_a_terminal_the_first_line_comes_before_any_event(teller: Any) -> None:
    progress, file = progress_of(teller)
    with progress:
        assert file.getvalue() == "2 jobs, 6 trials, 2 at once\n"


def test_without_a_terminal_every_finished_trial_is_one_line(teller: Any) -> None:
    progress, file = progress_of(teller)
    with progress:
        progress(teller.tell(TrialStarted(trial=teller.trial())))
        progress(teller.epoch(1, 0.9))
        progress(teller.end())
        progress(teller.fail(1))
    assert file.getvalue().splitlines()[1:] == [
        "sentiment/films  trial 1/3  done  accuracy 0.913 (epoch 4)  lr 1e-3 width 24  12.3 s",
        "sentiment/films  trial 2/3  failed  the loss is not a number at step 17  lr 2e-3 width 16  12.3 s",
    ]


def test_without_a_terminal_a_long_silence_ends_with_the_next_epoch(teller: Any) -> None:
    now = [0.0]
    progress, file = progress_of(teller, clock=lambda: now[0])
    with progress:
        for now[0], index in ((10.0, 0), (16.0, 1), (20.0, 2)):
            progress(teller.epoch(1, 0.8 + index / 100, index))
        now[0] = 40.0
        progress(teller.epoch(2, 0.7))
    assert file.getvalue().splitlines()[1:] == [
        "2 of 20 epochs  best: sentiment/films 0.810",
        "4 of 20 epochs  best: sentiment/films 0.820",
    ]


def told_of(job: str, event: Any) -> Any:
    """The same of another job."""
    return dataclasses.replace(event, trial=dataclasses.replace(event.trial, job=job))


HUNDRED = {f"mood/d{i:02d}": JobPlan(trials=1, epochs=2, metric="accuracy") for i in range(100)}


def test_of_a_hundred_jobs_a_line_names_the_newest_that_changed_and_counts(teller: Any) -> None:
    now = [0.0]
    progress, file = progress_of(teller, plans=HUNDRED, clock=lambda: now[0])
    with progress:
        for i in range(12):
            now[0] = 10.0 if i < 11 else 20.0
            progress(teller.tell(told_of(f"mood/d{i:02d}", teller.epoch(1, i / 100))))
        now[0] = 40.0
        progress(teller.tell(told_of("mood/d03", teller.epoch(2, 0.5))))
        now[0] = 60.0
        progress(teller.tell(told_of("mood/d04", teller.epoch(2, 0.01, best=False))))
    named = ", ".join(f"mood/d{i:02d} {i / 100:.3f}" for i in (11, 10, 9, 8, 7, 6, 5, 4))
    assert file.getvalue().splitlines() == [
        "100 jobs, 100 trials, 2 at once",
        f"12 of 200 epochs  0 of 100 jobs ended  best: {named} and 4 more",
        "13 of 200 epochs  0 of 100 jobs ended  best: mood/d03 0.500",
        "14 of 200 epochs  0 of 100 jobs ended",
    ]


@pytest.mark.parametrize("width", [60, 40])
@pytest.mark.parametrize("height", [8, 12, 24])
def test_of_a_hundred_jobs_the_table_shows_those_that_run_and_did_last_and_fits_the_terminal(
    height: int, width: int, teller: Any
) -> None:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True)
    progress = Progress(console, teller.results, HUNDRED, slots=2)
    for i in (70, 3, 50):
        progress(teller.tell(told_of(f"mood/d{i:02d}", TrialStarted(trial=teller.trial()))))
    progress(teller.tell(told_of("mood/d03", teller.end())))
    lines = console.render_lines(progress)
    assert len(lines) < height
    shown = "".join(segment.text for line in lines for segment in line)
    assert "mood/d50" in shown
    assert " more" in shown and "all" in shown
    names, *_, left = progress.table(3).columns
    assert names.cells == ["mood/d03", "mood/d50", "mood/d70", "97 more", "all"]
    assert left.cells == ["0 s", "-", "-", "-", "-"]
    assert [str(cell) for cell in progress.table(2).columns[0].cells] == ["mood/d50", "mood/d70", "98 more", "all"]


def test_when_every_job_has_an_epoch_the_line_has_the_time_left(teller: Any) -> None:
    now = [0.0]
    plans = {"sentiment/films": PLANS["sentiment/films"]}
    progress, file = progress_of(teller, plans=plans, clock=lambda: now[0])
    with progress:
        now[0] = 20.0
        progress(teller.epoch(1, 0.9))
    assert file.getvalue().splitlines()[1:] == ["1 of 10 epochs  best: sentiment/films 0.900  about 18 s left"]


def test_trial_that_failed_after_an_epoch_says_why(teller: Any) -> None:
    progress, file = progress_of(teller)
    with progress:
        progress(teller.end(status="failed", reason="out of memory"))
    assert "failed  accuracy 0.913 (epoch 4)  out of memory" in file.getvalue()


def test_table_counts_the_trials_of_each_job(teller: Any) -> None:
    progress, _ = progress_of(teller)
    teller.tell(TrialStarted(trial=teller.trial(0)))
    teller.epoch(1, 0.9, 1)
    teller.tell(TrialPaused(trial=teller.trial(1)))
    teller.fail(2)
    assert cells(progress, 0) == ["sentiment/films", "1", "1", "-", "-", "1", "0.900", "36 s"]
    assert cells(progress, 1) == ["ner/news", "-", "-", "-", "-", "-", "-", "-"]
    assert cells(progress, 2) == ["all", "1", "1", "-", "-", "1", "", "-"]


def test_time_left_is_the_remaining_epochs_over_what_runs(teller: Any) -> None:
    progress, _ = progress_of(teller)
    assert progress.seconds_left("sentiment/films") is None
    teller.epoch(1, 0.9, 0)
    teller.epoch(1, 0.9, 1)
    assert progress.seconds_left("sentiment/films") == 8 * 4.0 / 2
    assert progress.total_seconds_left() is None


def test_trials_that_are_trained_together_share_a_slot(teller: Any) -> None:
    plans = {"sentiment/films": JobPlan(trials=3, epochs=12, metric="accuracy")}
    progress, _ = progress_of(teller, plans=plans, slots=1)
    for index in range(3):
        progress(teller.tell(TrialStarted(trial=teller.trial(index))))
        progress(teller.epoch(1, 0.8, index))
    assert progress.seconds_left("sentiment/films") == progress.total_seconds_left() == 9 * 4.0


def test_total_is_shared_by_the_slots(teller: Any) -> None:
    progress, _ = progress_of(teller, plans={"sentiment/films": PLANS["sentiment/films"]}, slots=2)
    teller.epoch(1, 0.9)
    assert progress.total_seconds_left() == 9 * 4.0 / 2


def test_job_whose_trials_are_over_has_no_time_left(teller: Any) -> None:
    progress, _ = progress_of(teller)
    teller.epoch(1, 0.9)
    for index in range(3):
        teller.end(index)
    assert progress.seconds_left("sentiment/films") == 0.0


def test_more_epochs_than_planned_leave_no_negative_time(teller: Any) -> None:
    progress, _ = progress_of(teller)
    for epoch in range(1, 13):
        teller.epoch(epoch, 0.9)
    assert progress.seconds_left("sentiment/films") == 0.0


def test_on_a_terminal_a_failure_is_told_above_the_table(teller: Any) -> None:
    progress, file = progress_of(teller, terminal=True)
    with progress:
        progress(teller.fail(1))
    assert "trial 1/3  failed  the loss is not a number at step 17" in " ".join(file.getvalue().split("\n"))


def test_a_terminal_that_is_left_to_a_debugger_has_lines(teller: Any) -> None:
    file = io.StringIO()
    console = Console(file=file, width=60, force_terminal=True)
    with Progress(console, teller.results, PLANS, slots=1, live=False) as progress:
        progress(teller.end())
    assert "6 trials, 1 at once" in file.getvalue()
    assert "trial 1/3  done" in file.getvalue()
    assert "\x1b[?25l" not in file.getvalue()  # hides the cursor


def test_the_table_says_that_it_starts_until_the_first_trial_does(teller: Any) -> None:
    progress, _ = progress_of(teller)
    assert progress.table().title == "Starting Ray and loading the checkpoint ..."
    teller.tell(TrialStarted(trial=teller.trial()))
    assert progress.table().title is None


def test_on_a_terminal_the_table_takes_in_nothing_that_a_library_prints(teller: Any) -> None:
    progress, file = progress_of(teller, terminal=True)
    with progress:
        print("Token authentication is enabled")
        print("A warning", file=sys.stderr)
    assert "Token" not in file.getvalue() and "warning" not in file.getvalue()


@pytest.mark.parametrize("error", [None, ValueError])
def test_on_a_terminal_the_table_stays_at_the_end(error: type[Exception] | None, teller: Any) -> None:
    progress, file = progress_of(teller, terminal=True)
    try:
        with progress:
            progress(teller.end())
            if error is not None:
                raise error
    except ValueError:
        pass
    assert "sentiment/films" in file.getvalue()
    assert "trial 1/3" not in file.getvalue()
    assert file.getvalue().endswith("\x1b[?25h")  # the cursor is back
