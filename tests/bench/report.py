"""What `make bench` measured: tables, a picture, and a JSON file that the next run compares itself with."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

OURS, SEQ_BN = "this engine, pfeiffer", "adapters 1.3.0, seq_bn"
OURS_LORA, LORA = "this engine, LoRA", "peft with Trainer, LoRA"
FULL = "Trainer, full fine-tuning"
LIKE = {SEQ_BN: OURS, LORA: OURS_LORA, FULL: OURS}
"""What of ours each is measured against."""
BELOW = 0.01
"""The score to be reached lies so far below the best of full fine-tuning."""

Result = Mapping[str, Any]


def tell(result: Result, folder: Path, console: Console) -> None:
    """Print tables; write JSON and a picture into a folder, and compare with the newest that is alike there."""
    before = earlier(result, folder)
    first = next(iter(result["models"].values()))
    for name, one in result["models"].items():
        console.print(speed_table(name, one, before and before["models"].get(name)))
        if one["precision"] == "bfloat16" and first["precision"] == "float32":
            for what, mine in LIKE.items():
                times = median(one["rows_per_s"][mine]) / median(first["rows_per_s"][what])
                console.print(f"{mine}, bfloat16: {times:.2f} times as fast as {what}, float32")
    if result["scores"]:
        console.print(score_table(result["scores"]))
    if result["search"]:
        console.print(search_table(result["search"]))
    for line in losses(result):
        console.print(line)
    for name in (OURS, SEQ_BN):
        facts = first["last"][name]
        versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
        console.print(f"{name}: {versions}, {facts['threads']} threads")
    facts_of = "{job}, {rows} rows, {cores} cores, {device}, {machine}, {date}"
    console.print(facts_of.format(**result), soft_wrap=True)
    if before:
        console.print(f"Compared with {before['date']}, commit {before['commit']}.")
    file = folder / f"bench-{datetime.now():%Y%m%d-%H%M%S}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    draw(result, file.with_suffix(".png"))
    console.print(f"commit {result['commit']}; in {file} and .png", soft_wrap=True)


def earlier(result: Result, folder: Path) -> Result | None:
    """The newest that was measured with the same rows on such a machine."""
    for file in sorted(folder.glob("bench-*.json"), reverse=True):
        try:
            found: Result = json.loads(file.read_text("utf-8"))
            if all(found[key] == result[key] for key in ("job", "rows", "cores", "device")):
                return found
        except (ValueError, KeyError):
            continue
    return None


def ratios(one: Result, name: str) -> list[float]:
    """How many times as many rows a second ours of that kind trains, round by round."""
    figures = one["rows_per_s"]
    return [ours / theirs for ours, theirs in zip(figures[LIKE[name]], figures[name], strict=True)]


def speed_table(name: str, one: Result, before: Result | None) -> Table:
    """Before: this run's median as a multiple of that of the earlier one, as far as two runs can be compared."""
    columns = ["rows/s, median", "min", "max", "peak, MiB", "ours is, each round"]
    table = _table(f"Training speed: {name}, {one['precision']}", "what", [*columns, *(["before"] if before else [])])
    for what, some in one["rows_per_s"].items():
        times = "  ".join(f"{ratio:.2f} x" for ratio in ratios(one, what)) if what in LIKE else ""
        cells = [f"{count(some):.1f}" for count in (median, min, max)]
        cells += [f"{one['last'][what]['peak_bytes'] / 2**20:,.0f}", times]
        if before:
            then = before["rows_per_s"].get(what)
            cells.append(f"{median(some) / median(then):.2f} x" if then else "")
        table.add_row(what, *cells)
    return table


def target(scores: Result) -> float:
    """One point below the best of full fine-tuning."""
    best: float = max(score for _, score in scores[FULL]["curve"])
    return best - BELOW


def reached(curve: Sequence[Sequence[float]], score: float) -> float | None:
    """Seconds after which a score is reached; None: it is not."""
    return next((seconds for seconds, one in curve if one >= score), None)


def score_table(scores: Result) -> Table:
    wanted = target(scores)
    title = f"Time to a validation accuracy of {wanted:.3f}, one point below the best of full fine-tuning; one seed"
    table = _table(title, "what", ["learning rate", "best", "all epochs, s", "reached after, s", "ours is"])
    for what, one in scores.items():
        at, mine = reached(one["curve"], wanted), reached(scores[LIKE.get(what, what)]["curve"], wanted)
        ratio = f"{at / mine:.2f} x" if at and mine and what in LIKE else ""
        best = max(score for _, score in one["curve"])
        cells = [f"{one['learning_rate']:g}", f"{best:.3f}", f"{one['curve'][-1][0]:.0f}"]
        table.add_row(what, *cells, f"{at:.0f}" if at else "never", ratio)
    return table


def search_table(search: Result) -> Table:
    table = _table("The whole search, from the command to its winner", "what", ["seconds", "winner, validation", ""])
    ours = search[OURS]
    for what, one in search.items():
        times = f"ours is {one['seconds'] / ours['seconds']:.2f} x" if what != OURS else ""
        name = "a sweep of ours" if what == OURS else f"{what}, one by one"
        table.add_row(name, f"{one['seconds']:.0f}", f"{one['validation']:.3f}", times)
    return table


def losses(result: Result) -> list[str]:
    """Where ours is the slower one, or the worse one by more than half a point."""
    found = []
    for name, one in result["models"].items():
        for what in LIKE:
            if what in one["rows_per_s"] and (ratio := median(ratios(one, what))) < 1:
                found.append(f"Slower: {LIKE[what]} trains {ratio:.2f} times as fast as {what} ({name}).")
    if scores := result["scores"]:
        wanted = target(scores)
        for what in (OURS, OURS_LORA):
            if reached(scores[what]["curve"], wanted) is None:
                found.append(f"Worse: {what} does not come within a point of full fine-tuning in these epochs.")
    if search := result["search"]:
        ours, theirs = search[OURS], search[SEQ_BN]
        if ours["seconds"] > theirs["seconds"]:
            found.append("Slower: the sweep takes longer than the trainings one after another.")
        if theirs["validation"] - ours["validation"] > 0.005:
            found.append(f"Worse: the sweep's winner has {ours['validation']:.3f}, theirs {theirs['validation']:.3f}.")
    return found


def draw(result: Result, file: Path) -> None:
    """Rows a second as bars, and the score over time."""
    from matplotlib.figure import Figure

    name, one = next(iter(result["models"].items()))
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = list(one["rows_per_s"])
    colours = dict(zip(names, ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00"), strict=False))
    values = [median(one["rows_per_s"][what]) for what in names]
    bars = left.barh(names, values, color=[colours[what] for what in names])
    left.bar_label(bars, fmt="%.0f", padding=3)
    left.margins(x=0.12)  # room for the numbers
    left.invert_yaxis()
    left.set(xlabel="training rows a second", title=f"{name}, {one['precision']}, {result['job']}")
    for what, line in result["scores"].items():
        seconds, scores = zip(*line["curve"], strict=True)
        right.plot(seconds, scores, marker="o", color=colours.get(what), label=what)
    if result["scores"]:
        right.axhline(target(result["scores"]), color="#777777", linestyle=":")
        right.set(xlabel="seconds of training and evaluation", ylabel="validation accuracy", xscale="log")
        right.legend(fontsize=8)
    else:
        right.set_axis_off()
    figure.savefig(file, dpi=130)


def _table(title: str, first: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table
