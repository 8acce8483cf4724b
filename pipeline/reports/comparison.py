"""Methods side by side: what each of them reaches on each job, and what it costs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median, stdev
from typing import Any

from pipeline.config import signed
from pipeline.reports import words
from pipeline.reports.results import TrialResult
from pipeline.reports.tables import Column, FittingTable, markdown


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonRow:
    """One method on one job: the winner of its search, trained on several seeds."""

    job: str
    method: str
    width: int | None
    """None: the method has none."""
    learning_rate: float
    metric: str
    validation: tuple[float, ...]
    """One score a seed."""
    test: tuple[float, ...]
    """One score a seed."""
    low: float
    high: float
    """95 % interval of one training's test score: the mean over seeds."""
    baseline: float
    num_trained: int
    """Parameters, the head's included."""
    share: float
    """Of the checkpoint's parameters."""
    epoch_s: float
    """Seconds of training in an epoch, on one slot: the median over epochs and seeds."""
    best_s: float
    """Seconds of training until the best validation score: the median over seeds."""
    peak_bytes: int
    """Most memory of the process in training, the checkpoint included: the largest of all seeds."""
    bundle_bytes: int


def mean_and_spread(scores: Sequence[float]) -> str:
    """Mean and standard deviation: 0.872 ± 0.004; of one score no deviation."""
    spread = f" ± {stdev(scores):.3f}" if len(scores) > 1 else ""
    return f"{fmean(scores):.3f}{spread}"


def _shown(scores: Sequence[float], metric: str) -> str:
    return mean_and_spread([signed(metric, score) for score in scores])


def costs(trials: Sequence[TrialResult]) -> Mapping[str, Any]:
    """What the trainings of a setting took: `epoch_s`, `best_s` and `peak_bytes` of a row."""
    seconds = [s for trial in trials for s in trial.train_s.values()]
    until_best = [sum(s for epoch, s in t.train_s.items() if epoch <= t.best_epoch) for t in trials]
    return {
        "epoch_s": median(seconds),
        "best_s": median(until_best),
        "peak_bytes": max(trial.peak_bytes for trial in trials),
    }


def comparison_table(rows: Sequence[ComparisonRow]) -> FittingTable:
    """The methods on each job, the best first."""
    return FittingTable(_columns(_sorted(rows)), title="Comparison")


def comparison_markdown(rows: Sequence[ComparisonRow]) -> str:
    """The table for a Markdown file, whole."""
    return markdown(_columns(_sorted(rows)))


def comparison_records(rows: Sequence[ComparisonRow]) -> list[dict[str, Any]]:
    """The table as plain data, unrounded."""
    return [asdict(row) | {"test_mean": fmean(row.test), "validation_mean": fmean(row.validation)} for row in rows]


def _sorted(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    jobs = list(dict.fromkeys(row.job for row in rows))
    return sorted(rows, key=lambda row: (jobs.index(row.job), -fmean(row.test)))


def _standing(row: ComparisonRow, rows: Sequence[ComparisonRow]) -> str:
    """Whether a method is the best on its job, or may be: where its interval and that of the best overlap."""
    others = [one for one in rows if one.job == row.job]
    best = max(others, key=lambda one: fmean(one.test))
    if len(others) == 1 or row.high < best.low:
        return ""
    return "best" if row is best else "not told apart from the best"


def _columns(rows: Sequence[ComparisonRow]) -> list[Column]:
    return [
        Column(title="job", cells=[row.job for row in rows]),
        Column(title="method", cells=[row.method for row in rows]),
        Column(title="width", cells=[words.whole(row.width) for row in rows], right=True, rank=3),
        Column(title="lr", cells=[words.rate(row.learning_rate) for row in rows], right=True, rank=3),
        Column(title="metric", cells=[row.metric for row in rows], rank=5),
        Column(title="valid.", cells=[_shown(row.validation, row.metric) for row in rows], right=True, rank=4),
        Column(title="test", cells=[_shown(row.test, row.metric) for row in rows], right=True),
        Column(title="95 %", cells=[words.interval(row.low, row.high, row.metric) for row in rows], rank=5),
        Column(title="", cells=[_standing(row, rows) for row in rows]),
        Column(title="base", cells=[words.score(row.baseline, row.metric) for row in rows], right=True, rank=6),
        Column(title="share", cells=[words.share(row.share) for row in rows], right=True),
        Column(title="epoch", cells=[words.duration(row.epoch_s) for row in rows], right=True),
        Column(title="to best", cells=[words.duration(row.best_s) for row in rows], right=True, rank=2),
        Column(title="memory", cells=[words.size(row.peak_bytes) for row in rows], right=True, rank=1),
        Column(title="size", cells=[words.size(row.bundle_bytes) for row in rows], right=True, rank=1),
    ]
