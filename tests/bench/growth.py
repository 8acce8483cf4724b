"""Which periods get in and which stay out: `python -m tests.bench.growth <data folder> [series ...] [trouble ...]`.

The first period trains a champion by `jobs.sweep` (one trial, default settings); each later one is added to the data
folder, and `jobs.retrain` runs with nothing set. Then the same from that champion with trouble in each period; what is
not promoted is taken out of the data again, as a team would, while clean rows pile up. All series and all troubles
unless said; standard output is markdown.

* `clean`: the rows as they are.
* `wrong`: three in ten rows of all splits have a wrong label, or entities of wrong types.
* `slice`: the rows to judge by are all wrong, those to train on are right.
* `leaked`: the rows to judge by stand among those to train on too.
"""

import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.commands.workplace import Workplace

Row = dict[str, Any]
Period = dict[str, list[Row]]
SPLITS = ("train", "validation", "test")
TROUBLES = ("clean", "wrong", "slice", "leaked")
SHARE = 0.3
INTENT = ["banking", "credit_cards", "work", "travel", "utility", "home", "kitchen_and_dining", "auto_and_commute"]
FEW = {"train": 300, "validation": 150, "test": 300}
progress = Console(stderr=True)


def rows_of(folder: Path, split: str, most: int | None = None) -> list[Row]:
    """The rows of a split in an order that depends on what they are; no more than said."""
    lines = (folder / f"{split}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in sorted(lines, key=lambda one: hashlib.sha256(one.encode()).hexdigest())][:most]


def by_domain(folder: Path, domains: Sequence[str], most: Mapping[str, int]) -> list[Period]:
    return [{split: rows_of(folder / one, split, most.get(split)) for split in SPLITS} for one in domains]


def by_label(folder: Path, groups: Sequence[Sequence[str]]) -> list[Period]:
    """A period for each group of labels."""
    everything = {split: rows_of(folder, split) for split in SPLITS}
    return [{name: [row for row in rows if row["label"] in one] for name, rows in everything.items()} for one in groups]


def together(periods: Sequence[Period]) -> Period:
    return {split: [row for one in periods for row in one[split]] for split in SPLITS}


SERIES: Mapping[str, tuple[str, Callable[[Path], list[Period]]]] = {
    "intent": ("intent", lambda data: by_domain(data / "intent", INTENT, FEW)),
    "tweets": ("ner", lambda data: by_domain(data / "ner", [f"tweets_{one}" for one in "abfgh"], {"train": 500})),
    "question": (
        "question_type",
        lambda data: by_label(data / "question_type", [["DESC", "HUM"], ["NUM"], ["LOC"], ["ENTY"]]),
    ),
    "emotion": ("emotion", lambda data: by_label(data / "emotion", [["anger", "joy"], ["sadness"], ["optimism"]])),
    "assistant": (
        "intent",
        lambda data: [
            together(by_domain(data / "intent", INTENT[:3], {**FEW, "test": 125})),
            *by_domain(data / "intent", INTENT[3:6], {**FEW, "test": 75}),
        ],
    ),
    "entities": ("ner", lambda data: by_domain(data / "ner", ["social", "disease"], {"train": 1000, "test": 600})),
}
"""Name -> its task, and its periods in a data folder."""


def troubled(period: Period, trouble: str, before: Period) -> Period:
    """The period with a trouble; `before` is what there is without it."""
    draw = random.Random(5)
    if trouble == "wrong":
        return {split: mislabelled(rows, SHARE, before, draw) for split, rows in period.items()}
    if trouble == "slice":
        return {**period, "test": mislabelled(period["test"], 1, before, draw)}
    if trouble == "leaked":
        return {**period, "train": [*period["train"], *period["test"]]}
    return period


def mislabelled(rows: Sequence[Row], share: float, before: Period, draw: random.Random) -> list[Row]:
    """Give a share of the rows another label of the period or, where it has but one, of those before it."""
    names = sorted({one for row in rows for one in labels_of(row)})
    if len(names) < 2:
        names = sorted({*names, *(one for row in before["train"] for one in labels_of(row))})
    return [wrong(row, names, draw) if draw.random() < share else row for row in rows]


def labels_of(row: Row) -> set[str]:
    return {row["label"]} if "label" in row else {tag[2:] for tag in row["tags"] if tag != "O"}


def wrong(row: Row, names: Sequence[str], draw: random.Random) -> Row:
    """Another label; entities of other types, or one where there is none."""
    if "label" in row:
        return {**row, "label": draw.choice([one for one in names if one != row["label"]])}
    others = {one: draw.choice([other for other in names if other != one]) for one in names}
    tags = [tag if tag == "O" else f"{tag[:2]}{others[tag[2:]]}" for tag in row["tags"]]
    if not labels_of(row):
        tags[draw.randrange(len(tags))] = f"B-{draw.choice(list(names))}"
    return {**row, "tags": tags}


class Passes:
    """A series in a working directory: its first champion, and what becomes of each later period."""

    def __init__(self, name: str, data: Path, folder: Path) -> None:
        self.name, self.folder, self.kept = name, folder / "series", folder / "first"
        self.task, make = SERIES[name]
        self.first, *self.periods = make(data)
        self.place = Workplace(self.folder)
        self.command("sweep", self.first, "TRIALS=1")
        shutil.copytree(self.folder, self.kept)

    def command(self, command: str, rows: Period, *words: str) -> tuple[float, str]:
        """Run a command on the rows; return its seconds and what it printed, on one line."""
        self.place.write({f"{self.task}/{split}.jsonl": part for split, part in rows.items()})
        begun = time.perf_counter()
        done = self.place.call(command, f"TASKS={self.task}", f"DATA={self.place.data}", "CLUSTER=here", *words)
        if done.code:
            raise SystemExit(f"{command} of {self.name}:\n{done.out}{done.err}")
        progress.print(f"{self.name}: {command} in {time.perf_counter() - begun:.0f} s")
        return time.perf_counter() - begun, " ".join(done.out.split())

    def run(self, trouble: str) -> tuple[int, int]:
        """Go through the periods from the first champion on; print each: how many were promoted, of how many."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.kept, self.folder)  # at the same place: a store's paths are absolute
        there, promoted = self.first, 0
        for number, period in enumerate(self.periods, start=1):
            given, before = troubled(period, trouble, there), len(self.place.runs("job"))
            now = together([there, given])
            seconds, said = self.command("retrain", now)
            attempts = len(self.place.runs("job")) - before
            untrained = {"decision": "not trained", "reason": said, "on_new": None}
            row = self.place.newest("passes")[0] if attempts else untrained
            promoted += row["decision"] == "promoted"
            if row["decision"] == "promoted" or trouble == "clean":
                there = now
            scores = [row.get("before"), row.get("after"), *(row["on_new"] or (None, None))]
            shown = " | ".join("-" if one is None else f"{100 * one:.1f}" for one in scores)
            cells = f"{self.name} | {trouble} | {number} | {attempts} | {shown} | {seconds:.0f} s"
            print(f"| {cells} | {row['decision']}: {row['reason']} |", flush=True)
        return promoted, len(self.periods)


def main() -> None:
    data, words = Path(sys.argv[1]).absolute(), sys.argv[2:]
    # No connection stays open to a store that is put back as it was.
    os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"
    print("| series | rows | period | attempts | past before | after | new before | after | time | verdict |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    found: dict[str, list[tuple[int, int]]] = {}
    for name in [word for word in words if word in SERIES] or SERIES:
        with tempfile.TemporaryDirectory(prefix="growth-") as folder:
            passes = Passes(name, data, Path(folder))
            for trouble in [word for word in words if word in TROUBLES] or TROUBLES:
                found.setdefault(trouble, []).append(passes.run(trouble))
    for trouble, counts in found.items():
        print(f"\n{trouble}: {sum(one for one, _ in counts)} of {sum(number for _, number in counts)} promoted")


if __name__ == "__main__":
    main()
