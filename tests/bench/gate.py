"""How often the gate is wrong: `python -m tests.bench.gate [repetitions]`, 2,000 unless said.

Right and wrong answers of champion and challenger are drawn with a known difference and discordance (the share of rows
that one of them alone gets right), and go through `decide` as it is, with the config's defaults. The challenger differs
by as much on the new slice as on those of the past. Shown is the share of repetitions that pass: all rules together,
and single ones by themselves. The table is markdown; progress goes to standard error.
"""

import itertools
import math
import sys
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from pipeline.config import GateConfig
from pipeline.core.tasks.metrics import mean_of, value_counts
from pipeline.rules.gate import Evidence, SliceEvidence, decide

DISCORDANCES = (0.06, 0.12)
SLICES = (1, 5)
ROWS = (100, 500, 2000)
DIFFERENCES = (0.01, 0.0, -0.02, -0.05)
ACCURACY = 0.8
"""Of the champion. It decides nothing: rows that both get right and rows that neither does weigh the same."""

CHAMPION = np.array([1.0, 0.0, 1.0, 0.0])
CHALLENGER = np.array([1.0, 1.0, 0.0, 0.0])
"""A row is one of four: both right, the challenger alone, the champion alone, neither."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What the evidence is drawn from."""

    discordance: float
    difference: float
    slices: int
    """Of the past; beside them there is always a new one."""
    rows: int
    """Of each slice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Shares of the repetitions."""

    promoted: float
    past: float
    """Not worse than by the margin over the slices of the past: this rule alone."""
    new: float
    """Not shown to be worse on the new slice: this rule alone."""
    vetoed: float
    """At least one slice of the past has a veto."""


def chances(setting: Setting) -> list[float]:
    """Chance of each of the four outcomes of a row."""
    won = (setting.discordance + setting.difference) / 2
    lost = (setting.discordance - setting.difference) / 2
    return [ACCURACY - lost, won, lost, 1 - ACCURACY - won]


def slice_of(name: str, drawn_4: NDArray[np.int64]) -> SliceEvidence:
    """A slice with so many rows of each outcome."""
    return SliceEvidence(
        name=name,
        champion=value_counts(np.repeat(CHAMPION, drawn_4).tolist()),
        challenger=value_counts(np.repeat(CHALLENGER, drawn_4).tolist()),
        statistic=mean_of,
    )


def measure(setting: Setting, config: GateConfig, repetitions: int) -> Rates:
    """Draw evidence and let the gate decide, as often as said."""
    rng = np.random.default_rng(0)
    drawn_RS4 = rng.multinomial(setting.rows, chances(setting), size=(repetitions, setting.slices + 1))
    counts = np.zeros(4)
    for number, drawn_S4 in enumerate(drawn_RS4):
        # Names of their own, hence resamples of their own: else the luck of one bootstrap would be in every repetition.
        slices = [slice_of(f"{number}.{i}", drawn_4) for i, drawn_4 in enumerate(drawn_S4)]
        decision = decide(Evidence(past=slices[1:], new=slices[0]), config)
        passed = {check.name: check.passed for check in decision.checks}
        vetoed = not all(ok for name, ok in passed.items() if name.startswith("slice "))
        counts += [decision.promote, passed["past"], passed["new"], vetoed]
    promoted, past, new, vetoed_share = (counts / repetitions).tolist()
    return Rates(promoted=promoted, past=past, new=new, vetoed=vetoed_share)


def limit(setting: Setting) -> tuple[str, float] | None:
    """What the share of promotions may be at most, or has to be at least; None where nothing is set."""
    if setting.rows != 500:
        return None
    if setting.difference == 0:
        return ("at least", 0.8) if setting.slices == 5 else None
    return {-0.02: ("at most", 0.05), -0.05: ("at most", 0.005)}.get(setting.difference)


def holds(share: float, limit: tuple[str, float], repetitions: int) -> bool:
    """Whether a limit is kept, but for two standard errors of the simulation."""
    word, value = limit
    error = 2 * math.sqrt(value * (1 - value) / repetitions)
    return share <= value + error if word == "at most" else share >= value


def main() -> None:
    repetitions = int([*sys.argv[1:], "2000"][0])
    config = GateConfig()
    begun = time.perf_counter()
    settings = [
        Setting(discordance=discordance, slices=slices, rows=rows, difference=difference)
        for discordance, slices, rows, difference in itertools.product(DISCORDANCES, SLICES, ROWS, DIFFERENCES)
    ]
    print(
        "| discordance | slices | rows a slice | true difference | promoted | past alone | new alone | veto | wanted |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    kept = True
    for setting in track(settings, "Settings", console=Console(stderr=True)):
        rates, wanted = measure(setting, config, repetitions), limit(setting)
        said = ""
        if wanted is not None:
            kept &= (ok := holds(rates.promoted, wanted, repetitions))
            said = f"{wanted[0]} {wanted[1] * 100:g} %" + ("" if ok else ": not kept")
        shares = (rates.promoted, rates.past, rates.new, rates.vetoed)
        cells = [
            f"{setting.discordance * 100:g} %",
            str(setting.slices),
            f"{setting.rows:,}",
            f"{setting.difference * 100:+g}" if setting.difference else "0",
            *(f"{share * 100:.1f} %" for share in shares),
            said,
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
    print(
        f"\nMargin {config.margin * 100:g} points, confidence {config.confidence:g}, {config.resamples} resamples, "
        f"{repetitions:,} repetitions (standard error at most {50 / math.sqrt(repetitions):.1f} points, "
        f"{100 * math.sqrt(0.05 * 0.95 / repetitions):.1f} at 5 %), {time.perf_counter() - begun:.0f} s"
    )
    if not kept:
        raise SystemExit("The gate is wrong more often than it may be.")


if __name__ == "__main__":
    main()
