"""`make bench`: rows a second in training, ours beside AdapterHub's `adapters` and full fine-tuning, in turn."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from jobs.__main__ import run
from pipeline.config import SweepConfig
from pipeline.config.commands import overrides_of
from pipeline.config.overrides import read_config
from pipeline.config.typed import typed
from pipeline.errors import ConfigError, Fault, PipelineError
from pipeline.reports.console import console
from pipeline.steps.workspace import git_commit

if TYPE_CHECKING:
    from pipeline.core.engine.trials import Job

SCRIPTS = Path(__file__).resolve().parent
PEER = SCRIPTS.parents[1] / ".venv-peer" / "bin" / "python"
OURS, SEQ_BN, FULL = "this engine, pfeiffer", "adapters 1.3.0, seq_bn", "Hugging Face Trainer, full fine-tuning"


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig(SweepConfig):
    """`make bench`: training speed on the first of `tasks`, beside other libraries."""

    rounds: int = 3
    """Measurements of each; they take turns."""
    seconds: float = 20.0
    """Least length of one measurement, warm-up aside; ours ends with an epoch."""
    base_sized: bool | None = None
    """Measure a BERT of the base size with random weights too. None: where there is a GPU."""

    def faults(self, where: str) -> Iterator[Fault]:
        for name in ("rounds", "seconds"):
            if getattr(self, name) <= 0:
                remedy = f"Set {name} to a number above 0"
                yield Fault(where=name, value=str(getattr(self, name)), rule="must be above 0", remedy=remedy)


def bench_config(arguments: list[str]) -> BenchConfig:
    """Pfeiffer adapters of a 16th of the width in every layer, float32: AdapterHub's seq_bn, the same."""
    preset = ["tasks=[sentiment]", "method=pfeiffer", "method.reduction_factor=16"]
    preset += ["engine.batch_size=32", "engine.precision=float32"]
    return read_config("sweep", BenchConfig, [*preset, *arguments])


def main(config: BenchConfig, console: Console) -> None:
    import torch

    from pipeline.steps.prepare import prepare

    prepared = prepare(config)
    checkpoint, job = prepared.checkpoint, prepared.jobs[0]
    if not job.task.has_labels or set(job.task.config.field_names) != {"text", "label"}:
        rule, remedy = "is no classification of single texts, which is what is measured", "Give sentiment, for instance"
        raise ConfigError(Fault(where="TASKS", value=job.name, rule=rule, remedy=remedy))
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        rows.write_text("".join(json.dumps(dict(row.fields)) + "\n" for row in job.dataset.train.rows), "utf-8")
        models: dict[str, tuple[Path, str]] = {checkpoint.config.name: (checkpoint.folder, config.engine.precision)}
        has_gpu = torch.cuda.is_available()
        if has_gpu if config.base_sized is None else config.base_sized:
            precision = "bfloat16" if has_gpu else "float32"
            models["BERT base, random weights"] = (_bert_base(Path(folder) / "base", checkpoint.folder), precision)
        tables = {}
        for name, (model, precision) in models.items():
            figures, facts = _rounds(config, job, rows, model, precision, name, console)
            console.print(_table(figures, f"Training speed: {name}, {precision}"))
            tables[name] = {"precision": precision, "rows_per_s": figures, "last": facts}
    result = {
        "date": f"{datetime.now():%Y-%m-%d %H:%M}",
        "commit": git_commit(),
        "job": job.name,
        "rows": len(job.dataset.train.rows),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if has_gpu else "CPU",
        "machine": platform.platform(),
        "models": tables,
    }
    file = Path(config.runs) / f"bench-{datetime.now():%Y%m%d-%H%M%S}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    for name in (OURS, SEQ_BN):
        versions = ", ".join(f"{package} {version}" for package, version in facts[name]["versions"].items())
        console.print(f"{name}: {versions}, {facts[name]['threads']} threads")
    console.print(
        f"{job.name}, {result['rows']} rows, {os.cpu_count()} cores, {result['device']}, {result['machine']}, "
        f"{result['date']}",
        soft_wrap=True,
    )
    console.print(f"commit {result['commit']}; in {file}")


def _rounds(
    config: BenchConfig, job: "Job", rows: Path, model: Path, precision: str, name: str, console: Console
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Measure each in turn, several times; rows a second, and what else each said at last."""
    shared = [str(config.seconds), str(model), str(rows)]
    sizes = [str(config.engine.batch_size), str(job.task.config.max_length), precision]
    own = [*sys.argv[1:], f'checkpoint="{model}"', f"engine.precision={precision}"]
    commands = {
        OURS: [sys.executable, str(SCRIPTS / "ours.py"), str(config.seconds), *own],
        SEQ_BN: [str(PEER), str(SCRIPTS / "peer.py"), "seq_bn", *shared, *sizes],
        FULL: [str(PEER), str(SCRIPTS / "peer.py"), "full", *shared, *sizes],
    }
    figures: dict[str, list[float]] = {what: [] for what in commands}
    facts: dict[str, Any] = {}
    for number in range(config.rounds):
        for what, command in commands.items():
            facts[what] = _measure(command)
            figures[what].append(facts[what].pop("rows_per_s"))
            console.print(f"{name}: round {number + 1}/{config.rounds}  {what}: {figures[what][-1]:.1f} rows/s")
    return figures, facts


def _bert_base(folder: Path, tokenizer: Path) -> Path:
    """Save a BERT of the base size (12 layers, 768 wide) with random weights, which serve for speed."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    words = AutoTokenizer.from_pretrained(tokenizer)
    BertModel(BertConfig(vocab_size=len(words)), add_pooling_layer=False).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def _measure(command: list[str]) -> dict[str, Any]:
    """Run one measurement in a process of its own, so that threads and allocators do not meet."""
    root = str(SCRIPTS.parents[1])
    same = {"OMP_NUM_THREADS": str(os.cpu_count()), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment = os.environ | same | {"PYTHONPATH": root}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise PipelineError(f"{' '.join(command[:3])} ended with {done.returncode}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _table(figures: dict[str, list[float]], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    for title in ("rows/s, median", "min", "max", "ours is, each round"):
        table.add_column(title, justify="right")
    for name, values in figures.items():
        ratios = [ours / value for ours, value in zip(figures[OURS], values, strict=True)]
        times = "" if name == OURS else "  ".join(f"{ratio:.2f} x" for ratio in ratios)
        table.add_row(name, *(f"{f(values):.1f}" for f in (statistics.median, min, max)), times)
    return table


if __name__ == "__main__":
    words = typed(os.environ) if sys.argv[1:] == ["--make"] else sys.argv[1:]
    sys.exit(run(lambda: main(bench_config(overrides_of("sweep", words)), console())))
