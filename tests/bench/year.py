"""A year of retraining on real data, a period a pass: `python -m tests.bench.year <data folder> [series ...]`.

The first period trains a champion by `jobs.sweep`; each later one is added to the data folder, and `jobs.retrain` finds
what is new, that of rejected passes too. Variants of how a challenger is made run with the gate wide open, so that what
each forgets is seen; the last one runs behind the gate. Then the champion that is left is scored on the evaluation rows
of all periods, those of rejected ones too. Standard output is markdown, progress goes to standard error.
"""

import dataclasses
import hashlib
import multiprocessing
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from pipeline.config import DataConfig, RetrainConfig
from pipeline.config.overrides import read_config
from pipeline.core.adapters.checkpoint import load_checkpoint, open_checkpoint
from pipeline.core.bank.predictor import Scorer
from pipeline.core.data.load import load, resolve
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.tasks.kinds import restore, task_for
from pipeline.tracking.lookup import fetch
from pipeline.tracking.store import open_store
from tests.commands.workplace import Workplace

ONE = ("challenger.ladder=[]", "gate.growth=keep", "gate.max_leaked=1")
"""One attempt a pass, judged by the past: what is measured is how a challenger is made."""
OPEN = ("gate.margin=1", "gate.min_rows=1", "gate.gap=null")
RATES = ("challenger.rate=0.3", "challenger.new_label_rate=0.3")
_NOTHING: dict[str, Any] = {"decision": "nothing", "reason": "nothing was trained", "new": 0, "replayed": 0}
_NOTHING |= dict.fromkeys(("before", "after", "on_new"))
"""The row of a pass that has left nothing behind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One task and its periods."""

    task: str
    periods: Sequence[str]
    """Domains of the data folder, in order."""
    rows: Mapping[str, int]
    """Split -> rows of each period, chosen by hash; all where it is not named."""
    first: Sequence[str]
    """Settings of the sweep."""
    variants: dict[str, Sequence[str]]
    """Name -> settings of every pass."""


WARM = {
    f"warm, replay {share}": ("engine.epochs=3", f"challenger.replay={share}", *RATES, *OPEN)
    for share in ("0", "0.1", "0.5")
}
COLD = {"cold, replay 0.5": ("engine.epochs=5", "challenger.start=cold", "challenger.replay=0.5", *OPEN)}
INTENT = ["banking", "credit_cards", "work", "travel", "utility", "home", "kitchen_and_dining", "auto_and_commute"]
SERIES = [
    Series(
        task="intent",
        periods=INTENT,
        rows={"train": 300, "validation": 150, "test": 300},
        first=("engine.epochs=10",),
        variants={
            **WARM,
            **COLD,
            "gate, replay 0.5": ("engine.epochs=3", "challenger.replay=0.5", *RATES),
            "gate, replay 0.5, whole rate": ("engine.epochs=3", "challenger.replay=0.5"),
            "gate of 5 points, replay 0.5, whole rate": (
                "engine.epochs=3",
                "challenger.replay=0.5",
                "gate.margin=0.05",
            ),
        },
    ),
    Series(
        task="ner",
        periods=["tweets_a", "tweets_b", "tweets_f", "tweets_g", "tweets_h"],
        rows={"train": 500},
        first=("engine.epochs=5",),
        variants={
            **WARM,
            **COLD,
            "gate, replay 0.5": ("engine.epochs=3", "challenger.replay=0.5", *RATES, "gate.min_rows=80"),
            "gate of 5 points, replay 0.5": (
                "engine.epochs=3",
                "challenger.replay=0.5",
                *RATES,
                "gate.min_rows=80",
                "gate.margin=0.05",
            ),
        },
    ),
    Series(
        task="medqa",
        periods=[f"headqa_{year}" for year in range(2013, 2018)],
        rows={},
        first=("engine.epochs=3",),
        variants={"gate, replay 0.5": ("engine.epochs=1", "challenger.replay=0.5", *RATES)},
    ),
]
progress = Console(stderr=True)


class Year:
    """One series in a folder of its own; each variant begins with the same first champion."""

    def __init__(self, series: Series, data: Path, folder: Path) -> None:
        self.series, self.place = series, Workplace(folder)
        self.first = folder / "first"
        self.sources = []
        self.alone = []
        """The same without the periods before."""
        lines: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
        for number, period in enumerate(series.periods):
            for split, so_far in lines.items():
                new = (data / series.task / period / f"{split}.jsonl").read_text("utf-8").splitlines(keepends=True)
                new = sorted(new, key=lambda line: hashlib.sha256(line.encode()).hexdigest())[: series.rows.get(split)]
                so_far += new
                _write(self.place.data / f"{number}" / series.task / f"{split}.jsonl", so_far)
                _write(self.place.data / f"alone-{number}" / series.task / f"{split}.jsonl", new)
            self.sources.append(self.place.data / f"{number}")
            self.alone.append(self.place.data / f"alone-{number}")
        self.words = [f"tasks=[{series.task}]", "search.trials=1", "search.space.engine.learning_rate=null"]
        self.words.append("search.space.method.width=null")

    def command(self, name: str, period: int, words: Sequence[str]) -> float:
        """Run a command on a period's data; return its seconds."""
        given = [*self.words, f"data.source={self.sources[period]}", *words]
        start = time.perf_counter()
        done = self.place.run(name, *given, environment={"RAY_worker_niceness": "0"})
        if done.code:
            raise SystemExit(f"{name} {' '.join(given)}:\n{done.out}{done.err}")
        return time.perf_counter() - start

    def on_all(self) -> list[float]:
        """Scores of the champion that is left on the evaluation rows of every period."""
        # In a new process: MLflow keeps a database open under its address, here that of the variant before.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            return process.submit(scores, self.series.task, self.place.cwd, self.alone).result()

    def run(self) -> None:
        """Run all variants and print what came of them."""
        seconds = self.command("sweep", 0, self.series.first)
        progress.print(f"{self.series.task}: {self.series.periods[0]} in {seconds:.0f} s")
        shutil.copytree(self.place.cwd, self.first)
        print(f"\n## {self.series.task}")
        summary = ["| variant | promoted | ACC | BWT | forgetting | all periods | rows | time |"]
        summary.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for name, words in self.series.variants.items():
            shutil.rmtree(self.place.cwd)
            shutil.copytree(self.first, self.place.cwd)
            passes = []
            for number, period in enumerate(self.series.periods[1:], start=1):
                before = self.place.newest("passes")
                took = self.command("retrain", number, ["drift.max_rows=200", *ONE, *words])
                (row,) = [_NOTHING] if (found := self.place.newest("passes")) == before else found
                passes.append(row | {"period": period, "took": took})
                progress.print(f"{self.series.task}, {name}, {period}: {row['decision']} in {took:.0f} s")
            summary.append(self._summary(name, passes))
            progress.print(summary[-1], markup=False, soft_wrap=True)
            print(f"\n### {self.series.task}, {name}\n", *self._details(passes), sep="\n", flush=True)
        print(f"\n### {self.series.task}, all of them\n", *summary, sep="\n", flush=True)

    def _summary(self, name: str, passes: list[dict[str, Any]]) -> str:
        promoted = sum(row["decision"] == "promoted" for row in passes)
        last = (self._champions() or [{}])[-1]
        figures = [last.get(key) for key in ("average_accuracy", "backward_transfer", "forgetting")]
        shown = " | ".join("-" if value is None else f"{100 * value:.1f}" for value in figures)
        rows = sum(row["new"] + row["replayed"] for row in passes)
        took = fmean(row["took"] for row in passes)
        count = f"{promoted} of {len(passes)}"
        return f"| {name} | {count} | {shown} | {100 * fmean(self.on_all()):.1f} | {rows} | {took:.0f} s a pass |"

    def _champions(self) -> list[dict[str, Any]]:
        """The rows of the last matrix, but that of a version which was rejected."""
        found = self.place.newest("continual")
        return [one for one in found if "rejected" not in one["after"]]

    def _details(self, passes: list[dict[str, Any]]) -> Iterator[str]:
        yield "| period | new rows | replayed | past before | after | new before | after | time | verdict |"
        yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
        for row in passes:
            scores = [row["before"], row["after"], *(row["on_new"] or (None, None))]
            shown = " | ".join("-" if score is None else f"{100 * score:.1f}" for score in scores)
            counts = f"{row['new']} | {row['replayed']}"
            why = re.sub(r" \d{8}-\d{6}-[0-9a-f]{4}", "", row["reason"])  # ids of passes
            yield f"| {row['period']} | {counts} | {shown} | {row['took']:.0f} s | {row['decision']}: {why} |"
        found = self._champions()
        if len(found) > 1:
            yield "\nThe champion after each period (row) on the slices (column), in the order of the periods:\n"
            yield "| after |" + " ".join(f" {number} |" for number in range(1, len(found) + 1))
            yield "| --- |" + " ---: |" * len(found)
            for number, one in enumerate(found, start=1):
                known = list(one["scores"].values())[: len(found)]
                cells = ["" if score is None else f"{100 * score:.1f}" for score in known]
                yield f"| {number} | " + " | ".join(cells) + " |"


def _write(file: Path, lines: Sequence[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(lines), "utf-8")


def scores(name: str, cwd: Path, alone: Sequence[Path]) -> list[float]:
    """Score a task's champion on the evaluation rows of data folders.

    Args:
        name: Of the task.
        cwd: Where its store is.
        alone: The folders.
    """
    sources = [DataConfig(source=str(source)) for source in alone]
    config = read_config("retrain", RetrainConfig, [f"tasks=[{name}]"])
    ((task, domain),) = resolve(config.tasks, config.task, sources[0])
    sets = [load(task, domain, source, kind=restore(task)) for source in sources]
    seen = sorted({label for one in sets for row in one.train.rows for label in restore(task).labels_of(row)})
    grown = task if task.kind == "multiple_choice" else dataclasses.replace(task, labels=seen)
    resident = load_checkpoint(open_checkpoint(config.checkpoint))
    tracking = dataclasses.replace(config.tracking, uri=f"sqlite:///{cwd}/mlflow.db")
    bundle = read_bundle(fetch(open_store(tracking, create=False), name))
    return [Scorer(resident, task_for(grown, one))(bundle, one.test.rows).primary for one in sets]


def main() -> None:
    data, names = Path(sys.argv[1]).absolute(), sys.argv[2:]
    with tempfile.TemporaryDirectory(prefix="year-") as folder:
        for series in SERIES:
            if not names or series.task in names:
                Year(series, data, Path(folder) / series.task).run()


if __name__ == "__main__":
    main()
