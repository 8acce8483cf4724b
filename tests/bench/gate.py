"""How often the gate is wrong: `python -m tests.bench.gate [repetitions] [table ...]`, 2,000 and all unless said.

Answers of champion and challenger are drawn with a known difference and go through `decide` as it is, with the
config's defaults but for a quarter of the resamples (of a correlation an eighth), which takes a quarter of the time.
The challenger differs by as much on the new slice as on those of the past. Shown is the share of repetitions that
pass; worse by 5 points is drawn 2.5 times as often. The table is markdown; progress goes to standard error.

* Accuracy: `discordance` is the share of rows that one of the two alone gets right.
* F1 of entities: a share of the rows has an entity, which a side finds or misses; discordance is of those rows.
* Micro F1 of several labels a row: one row in ten has none, five have one, four have two; discordance is of labels.
* Spearman: true numbers and the errors of both sides are normal; the errors have a correlation of 1 - 5 discordance, at
  which the two differ as much by chance as by accuracy with that discordance.
* Matthews' correlation: two labels, of which one has seven rows in ten, as of GLUE's CoLA.
* Macro F1: five labels, of which one is rare; all of the difference is in its rows, which is the worst case.
* `ladder`: five attempts, as of a pass that has a budget for all. Each is another challenger with the same difference,
  on rows of its own: attempts that have less in common err more often together.
* `gained`: the new slice is better by 15 points, whatever becomes of the past.
* `exchange`: labels are new. The champion answers none of them and the challenger nine in ten; the difference is that
  on the slices of the past. Alone, and with five attempts.

The tables are accuracy, f1, macro_f1, matthews, micro_f1, spearman, ladder, gained and exchange.
"""

import dataclasses
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from pipeline.config import GateConfig
from pipeline.core.tasks.correlation import SPEARMAN
from pipeline.core.tasks.metrics import Counts, Statistic, f1_of, macro_f1_of, matthews_of, mean_of
from pipeline.rules.evidence import Evidence, SliceEvidence
from pipeline.rules.gate import decide
from pipeline.rules.ladder import confidences

SLICES = (1, 5)
DIFFERENCES = (0.01, 0.0, -0.02, -0.05)
IN_EXCHANGE = (0.0, -0.02, -0.05, -0.1)
RIGHT = 0.8
"""What the champion gets right, of the rows that carry the metric. Rows that both get right decide nothing."""
LABELS = 5
"""Of macro F1."""
TWO = (0.3, 0.7)
"""Shares of the labels of Matthews' correlation."""
LEARNT = 0.9
"""What the challenger gets right of new labels."""

CHAMPION = np.array([1.0, 0.0, 1.0, 0.0])
CHALLENGER = np.array([1.0, 1.0, 0.0, 0.0])
"""A row is one of four: both right, the challenger alone, the champion alone, neither."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What the evidence is drawn from."""

    difference: float
    """Challenger minus champion, in the metric."""
    slices: int
    """Of the past; beside them there is always a new one."""
    discordance: float = 0.06
    rows: int = 500
    """Of each slice."""
    metric: Literal["accuracy", "f1", "macro_f1", "matthews", "micro_f1", "spearman"] = "accuracy"
    carrying: float = 1.0
    """Share of the rows that have an entity (F1), or the rarest label (macro F1)."""
    leave_out: bool = False
    """Macro F1: rare labels are left out."""
    attempts: int = 1
    gained: float | None = None
    """By how much the new slice differs, where not by as much as the past."""
    grown: bool = False
    """Whether the new slice has nothing but new labels, of which the champion answers none."""

    @property
    def carried(self) -> float:
        """Rows that carry the metric, in all slices of the past: an L-th of it, where there are L labels.

        Of Matthews' correlation an error takes more than its share (`metrics.error_weight`), so that as much is shown
        by as many rows as accuracy needs times the square of that.
        """
        weight = {"macro_f1": LABELS, "matthews": (1 - sum(share**2 for share in TWO)) ** 2}.get(self.metric, 1)
        return self.rows * self.slices * self.carrying * weight


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Shares of the repetitions."""

    promoted: float
    past: float
    """Not worse than by the margin over the slices of the past: this rule alone."""
    new: float
    """Not shown to be worse on the new slice: this rule alone."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Population:
    """The C kinds of rows that there are."""

    chances_C: NDArray[np.float64]
    champion_CK: Counts
    challenger_CK: Counts
    statistic: Statistic
    left_out: int = 0
    """The first columns, which the gate is to leave out."""

    @property
    def difference(self) -> float:
        sums = [(self.chances_C @ side)[self.left_out :] for side in (self.challenger_CK, self.champion_CK)]
        ours, theirs = map(self.statistic, sums)
        return float(ours - theirs)


def chances(discordance: float, difference: float) -> list[float]:
    """Chance of each of the four outcomes of a row, of which the difference is the challenger's share of right ones."""
    won = (max(discordance, abs(difference)) + difference) / 2
    lost = won - difference
    return [RIGHT - lost, won, lost, 1 - RIGHT - won]


def accuracy(setting: Setting, difference: float) -> Population:
    sides = [np.stack([right, np.ones(4)], axis=1) for right in (CHAMPION, CHALLENGER)]
    drawn = np.array(chances(setting.discordance, difference))
    return Population(chances_C=drawn, champion_CK=sides[0], challenger_CK=sides[1], statistic=mean_of)


def entities(setting: Setting, difference: float) -> Population:
    """Rows with one entity, which is found or missed, and rows without, of which nothing is said."""
    sides = [np.vstack([np.stack([found, found, np.ones(4)], axis=1), np.zeros(3)]) for found in (CHAMPION, CHALLENGER)]
    drawn = np.array([*chances(setting.discordance, difference), 0.0]) * setting.carrying
    drawn[-1] = 1 - setting.carrying
    return Population(chances_C=drawn, champion_CK=sides[0], challenger_CK=sides[1], statistic=f1_of)


def labels(setting: Setting, difference: float) -> Population:
    """Rows of five labels, the first of them rare; a wrong answer says another of the common ones."""
    drawn: list[float] = []
    sides: tuple[list[Counts], list[Counts]] = ([], [])
    for gold in range(LABELS):
        share = setting.carrying if gold == 0 else (1 - setting.carrying) / (LABELS - 1)
        own = difference if (gold == 1 if setting.leave_out else gold == 0) else 0.0
        drawn += [share * chance for chance in chances(setting.discordance, own)]
        for side, right in zip(sides, (CHAMPION, CHALLENGER), strict=True):
            for is_right in right:
                counts_LK = np.zeros((LABELS, 3))
                said = gold if is_right else gold % (LABELS - 1) + 1
                counts_LK[gold] += [is_right, 0, 1]
                counts_LK[said, 1] += 1
                side.append(counts_LK.ravel())
    champion, challenger = (np.array(side) for side in sides)
    return Population(
        chances_C=np.array(drawn),
        champion_CK=champion,
        challenger_CK=challenger,
        statistic=macro_f1_of,
        left_out=3 if setting.leave_out else 0,
    )


def two_labels(setting: Setting, difference: float) -> Population:
    """Rows of two labels, of which one is as likely to be missed as the other."""
    drawn: list[float] = []
    sides: tuple[list[Counts], list[Counts]] = ([], [])
    for gold, share in enumerate(TWO):
        drawn += [share * chance for chance in chances(setting.discordance, difference)]
        for side, right in zip(sides, (CHAMPION, CHALLENGER), strict=True):
            for is_right in right:
                counts_LK = np.zeros((2, 3))
                counts_LK[gold] += [is_right, 0, 1]
                counts_LK[gold if is_right else 1 - gold, 1] += 1
                side.append(counts_LK.ravel())
    champion, challenger = (np.array(side) for side in sides)
    return Population(chances_C=np.array(drawn), champion_CK=champion, challenger_CK=challenger, statistic=matthews_of)


def label_sets(setting: Setting, difference: float) -> Population:
    """Rows with no label, one or two; where one is missed, another is said."""
    one = np.array(chances(setting.discordance, difference))
    drawn = np.concatenate([[0.1], 0.5 * one, 0.4 * np.outer(one, one).ravel()])
    sides = []
    for right in (CHAMPION, CHALLENGER):
        each = np.stack([right, np.ones(4), np.ones(4)], axis=1)
        sides.append(np.vstack([np.zeros(3), each, (each[:, None] + each).reshape(-1, 3)]))
    return Population(chances_C=drawn, champion_CK=sides[0], challenger_CK=sides[1], statistic=f1_of)


def ranked(name: str, setting: Setting, rng: np.random.Generator) -> SliceEvidence:
    """A slice of numbers, of which the champion has a Spearman's correlation of `RIGHT`."""
    gold, shared, *own = rng.normal(size=(4, setting.rows))
    together = 1 - 5 * setting.discordance
    sides = []
    for error, wanted in zip(own, (RIGHT, RIGHT + setting.difference), strict=True):
        of_gold = 2 * math.sin(math.pi * wanted / 6)  # Pearson's of normal numbers
        noise = math.sqrt(together) * shared + math.sqrt(1 - together) * error
        sides.append(np.stack([gold, of_gold * gold + math.sqrt(1 - of_gold**2) * noise], axis=1))
    return SliceEvidence(name=name, champion=sides[0], challenger=sides[1], statistic=SPEARMAN)


POPULATIONS: Mapping[str, Callable[[Setting, float], Population]] = {
    "accuracy": accuracy,
    "f1": entities,
    "macro_f1": labels,
    "matthews": two_labels,
    "micro_f1": label_sets,
}


def population(setting: Setting) -> Population:
    """Find the share of right answers with which the metric differs as it should."""
    make = POPULATIONS[setting.metric]
    low, high = -RIGHT, 1 - RIGHT
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if make(setting, middle).difference < setting.difference else (low, middle)
    return make(setting, round(high, 9))


def slice_of(name: str, drawn_C: NDArray[np.int64], of: Population) -> SliceEvidence:
    """A slice with so many rows of each kind."""
    return SliceEvidence(
        name=name,
        champion=np.repeat(of.champion_CK, drawn_C, axis=0),
        challenger=np.repeat(of.challenger_CK, drawn_C, axis=0),
        statistic=of.statistic,
    )


def measure(setting: Setting, config: GateConfig, repetitions: int) -> Rates:
    """Draw evidence and let the gate decide, as often as said; of several attempts the last one counts."""
    rng, of = np.random.default_rng(0), None if setting.metric == "spearman" else population(setting)
    other = population(dataclasses.replace(setting, difference=setting.gained)) if setting.gained is not None else None
    config = dataclasses.replace(config, rare_labels="leave_out" if setting.leave_out else "stop")
    counts = np.zeros(3)
    for number in range(repetitions):
        for attempt, confidence in enumerate(confidences(config.confidence, setting.attempts)):
            # Names of their own, hence resamples of their own: else the luck of one bootstrap would be in all.
            names = [f"{number}.{attempt}.{i}" for i in range(setting.slices + 1)]
            if of is None:
                slices = [ranked(name, setting, rng) for name in names]
            else:
                drawn_SC = rng.multinomial(setting.rows, of.chances_C, size=setting.slices + 1)
                slices = [slice_of(name, drawn_C, of) for name, drawn_C in zip(names, drawn_SC, strict=True)]
            if other is not None:
                drawn_C = rng.multinomial(setting.rows, other.chances_C)
                slices[0] = slice_of(f"{number}.{attempt}.0", drawn_C, other)
            if setting.grown and of is not None:
                answered = rng.multinomial(setting.rows, [0, LEARNT, 0, 1 - LEARNT])
                slices[0] = slice_of(f"{number}.{attempt}.0", np.resize(answered, len(of.chances_C)), of)
            evidence = Evidence(past=slices[1:], new=slices[0], grown=("a new label",) if setting.grown else ())
            decision = decide(evidence, config, confidence)
            if not decision.may_train_harder:
                break
        passed = {check.name: check.passed for check in decision.checks}
        counts += [decision.promote, passed.get("past", False), passed.get("new", False)]
    promoted, past, new = (counts / repetitions).tolist()
    return Rates(promoted=promoted, past=past, new=new)


def limit(setting: Setting) -> tuple[str, float] | None:
    """What the share of promotions may be at most, or has to be at least; None where nothing is set."""
    if setting.grown:
        return {0.0: ("at least", 0.8), -0.05: ("at most", 0.05), -0.1: ("at most", 0.005)}.get(setting.difference)
    if setting.gained is not None:
        return ("at most", 0.05) if setting.difference == -0.05 else None
    if setting.difference == 0:
        enough = setting.carried >= 500 and (setting.slices == 5 and setting.rows >= 500)
        return ("at least", 0.8) if enough else None
    return {-0.02: ("at most", 0.05), -0.05: ("at most", 0.005)}.get(setting.difference)


def holds(share: float, limit: tuple[str, float], repetitions: int) -> bool:
    """Whether a limit is kept, but for two standard errors of the simulation."""
    word, value = limit
    error = 2 * math.sqrt(value * (1 - value) / repetitions)
    return share <= value + error if word == "at most" else share >= value


def settings(table: str) -> Iterator[Setting]:
    """The rows of a table, each without its difference."""
    match table:
        case "accuracy":
            for discordance, slices, rows in itertools.product((0.06, 0.12), SLICES, (100, 500, 2000)):
                yield Setting(discordance=discordance, slices=slices, rows=rows, difference=0)
        case "f1":
            for carrying, slices in itertools.product((0.02, 0.05, 0.2, 1.0), SLICES):
                yield Setting(metric="f1", carrying=carrying, slices=slices, difference=0)
        case "macro_f1":
            for carrying, slices in itertools.product((0.001, 0.005, 0.02, 0.04), SLICES):
                yield Setting(metric="macro_f1", carrying=carrying, slices=slices, difference=0)
            yield Setting(metric="macro_f1", carrying=0.001, leave_out=True, slices=5, difference=0)
        case "matthews":
            for slices, rows in itertools.product(SLICES, (500, 2000)):
                yield Setting(metric="matthews", slices=slices, rows=rows, difference=0)
        case "micro_f1":
            for slices in SLICES:
                yield Setting(metric="micro_f1", carrying=0.9, slices=slices, difference=0)
        case "spearman":
            for slices in SLICES:
                yield Setting(metric="spearman", slices=slices, difference=0)
        case "ladder":
            for discordance, slices in itertools.product((0.06, 0.12), SLICES):
                yield Setting(discordance=discordance, slices=slices, attempts=5, difference=0)
            yield Setting(metric="f1", carrying=0.2, slices=5, attempts=5, difference=0)
            yield Setting(metric="macro_f1", carrying=0.04, slices=5, attempts=5, difference=0)
        case "gained":
            for discordance, slices, rows in itertools.product((0.06, 0.12), SLICES, (200, 500, 2000)):
                yield Setting(discordance=discordance, slices=slices, rows=rows, gained=0.15, difference=0)
        case "exchange":
            for attempts, discordance, slices in itertools.product((1, 5), (0.06, 0.12), SLICES):
                yield Setting(discordance=discordance, slices=slices, attempts=attempts, grown=True, difference=0)


TABLES = ("accuracy", "f1", "macro_f1", "matthews", "micro_f1", "spearman", "ladder", "gained", "exchange")


def main() -> None:
    repetitions = int([*sys.argv[1:], "2000"][0])
    begun, kept = time.perf_counter(), True
    for table in sys.argv[2:] or TABLES:
        config = GateConfig(resamples={"ladder": 2000, "exchange": 2000, "spearman": 250}.get(table, 500))
        differences = IN_EXCHANGE if table == "exchange" else DIFFERENCES
        heads = ["metric", "rows a slice", "that carry it", "both differ on", "past slices", "attempts"]
        heads += [f"{difference * 100:+g}" if difference else "equal" for difference in differences]
        print(f"\n| {' | '.join(heads)} |\n| --- {'| ---: ' * (len(heads) - 1)}|")
        for one in track(list(settings(table)), table, console=Console(stderr=True)):
            carrying = f"{one.carrying * 100:g} %" + (", left out" if one.leave_out else "")
            cells = [one.metric, f"{one.rows:,}", carrying, f"{one.discordance * 100:g} %", str(one.slices)]
            cells.append(str(one.attempts))
            for difference in differences:
                setting = dataclasses.replace(one, difference=difference)
                times = repetitions * 5 // 2 if difference == differences[-1] else repetitions
                share, wanted = measure(setting, config, times).promoted, limit(setting)
                ok = wanted is None or holds(share, wanted, times)
                kept &= ok
                cells.append(f"{share * 100:.1f} %" + ("" if ok else " (not kept)"))
            print(f"| {' | '.join(cells)} |", flush=True)
    print(
        f"\nMargin {config.margin * 100:g} points, {config.exchange_loss * 100:g} in an exchange, confidence "
        f"{config.confidence:g}, {repetitions:,} repetitions (standard error at most "
        f"{50 / math.sqrt(repetitions):.1f} points, {100 * math.sqrt(0.05 * 0.95 / repetitions):.1f} at 5 %), "
        f"{time.perf_counter() - begun:.0f} s"
    )
    if not kept:
        raise SystemExit("The gate is wrong more often than it may be.")


if __name__ == "__main__":
    main()
