"""What a sweep costs by its size: `python -m tests.bench.size [what ...] [picture.png] [key=value ...]`.

Rows, candidates, layers and length grow one at a time: all four, or those that are named. Every size is a sweep of one
epoch in a process of its own with all cores, without Ray. Texts are drawn from the starter corpus' words, validation
and test have a tenth of the training rows each. Standard output is markdown; where the cost a unit grows, it shows.
"""

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import yaml
from rich.console import Console

from pipeline.core.engine.machine import peak_bytes
from pipeline.reports.spent import TESTS, TRAINING, Spent
from pipeline.steps.here import run
from pipeline.steps.prepare import prepare
from tests.bench.__main__ import measure
from tests.bench.curves import config_of, line

AXES: Mapping[str, Sequence[int]] = {
    "rows": (1000, 4000, 16000),
    "candidates": (2, 8, 32),
    "layers": (6, 12),
    "length": (32, 128, 512),
}
"""What grows -> its sizes."""
USUAL = {"rows": 250, "candidates": 2, "layers": 6, "length": 32}
"""What the others are measured at."""
LABELS = ("positive", "negative")
progress = Console(stderr=True)


def write(folder: Path, size: Mapping[str, int], words: Sequence[str]) -> None:
    """A task and its data; every text fills the length."""
    draw = random.Random(0)
    task = {"kind": "classification", "columns": {"text": "text", "label": "label"}, "max_length": size["length"]}
    (folder / "conf").mkdir()
    (folder / "conf/sized.yaml").write_text(yaml.safe_dump(task), "utf-8")
    (folder / "data/sized").mkdir(parents=True)
    tenth = size["rows"] // 10
    for name, count in (("train", size["rows"]), ("validation", tenth), ("test", tenth)):
        rows = (
            {"text": " ".join(draw.choices(words, k=size["length"])), "label": draw.choice(LABELS)}
            for _ in range(count)
        )
        (folder / f"data/sized/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def deeper(folder: Path, source: Path, num_layers: int) -> Path:
    """A checkpoint like that one with as many layers, whose weights are random: they serve for speed."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(source)
    config.num_hidden_layers = num_layers
    AutoModel.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def cost(size: Mapping[str, int], given: Sequence[str]) -> dict[str, float]:
    """Prepare and search a sweep of that size; the seconds of its parts, and the most memory that it took."""
    given = [f"cluster.cpus_per_trial={os.cpu_count()}", *given]
    starter = prepare(config_of(["sentiment"], None, given))  # this loads what `preparing` is then measured without
    words = sorted({word for row in starter.jobs[0].dataset.train.rows for word in str(row.fields["text"]).split()})
    with tempfile.TemporaryDirectory(prefix="size-") as temporary:
        folder = Path(temporary)
        write(folder, size, words)
        own = [f"CONF={folder / 'conf'}", "EPOCHS=1", f"TRIALS={size['candidates']}", "search.scheduler=none"]
        if size["layers"] != USUAL["layers"]:
            own.append(f"checkpoint={deeper(folder / 'checkpoint', starter.checkpoint.folder, size['layers'])}")
        spent = Spent(time.monotonic())
        spent.begin("preparing")
        config = config_of(["sized"], str(folder / "data"), [*own, *given])
        prepared = prepare(config)
        spent.begin("search")
        run(prepared.jobs, prepared, search=config.search, cluster=config.cluster, folder=folder / "run", sink=spent)
        return {**spent.seconds(), "peak_bytes": float(peak_bytes(torch.device("cpu")))}


def main(names: Sequence[str], given: Sequence[str], picture: Path | None) -> None:
    curves: dict[str, list[float]] = {}
    print(line(["what grows", "size", "preparing", "training and validation", "of that a unit", "test", "peak"]))
    print(line(["---", *["---:"] * 6]))
    for name in names:
        for number in AXES[name]:
            size = json.dumps({**USUAL, name: number})
            found = measure([sys.executable, "-m", "tests.bench.size", size, *given])  # whose memory is its own
            curves.setdefault(name, []).append(found[TRAINING])
            progress.print(f"{name} {number}: {found[TRAINING]:.0f} s")
            unit = found[TRAINING] / curves[name][0] * AXES[name][0] / number
            preparing, training, tests = (f"{found[part]:.1f} s" for part in ("preparing", TRAINING, TESTS))
            cells = [name, f"{number:,}", preparing, training, f"{unit:.2f} x", tests]
            print(line([*cells, f"{found['peak_bytes'] / 2**20:,.0f} MiB"]), flush=True)
    if picture:
        draw(curves, picture)


def draw(curves: Mapping[str, Sequence[float]], picture: Path) -> None:
    """Seconds by size, beside what would be linear."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.2), layout="constrained")
    for axes, (name, seconds) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        sizes = AXES[name]
        axes.plot(sizes, seconds, marker="o", color="#0072B2", label="measured")
        axes.plot(sizes, [seconds[0] * one / sizes[0] for one in sizes], color="#777777", linestyle=":", label="linear")
        axes.set(xlabel=name, xscale="log", yscale="log")
        axes.set_xticks(sizes, [f"{one:,}" for one in sizes])
        axes.minorticks_off()
    figure.axes[0].set_ylabel("seconds of training and validation")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(picture, dpi=120)


def entry(words: Sequence[str]) -> None:
    """One size where a size is given, in a process that `main` starts; else all."""
    if words and words[0].startswith("{"):
        print(json.dumps(cost(json.loads(words[0]), words[1:])))
        return
    pictures = [Path(word) for word in words if word.endswith(".png")]
    names = [name for name in AXES if name in words] or list(AXES)
    main(names, [word for word in words if "=" in word], pictures[0] if pictures else None)


if __name__ == "__main__":
    entry(sys.argv[1:])
