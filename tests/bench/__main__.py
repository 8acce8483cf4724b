"""`make bench`: speed, time to a score and a whole search, ours beside other libraries, in turn."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from jobs.__main__ import run
from pipeline.config import SweepConfig
from pipeline.config.commands import overrides_of
from pipeline.config.overrides import read_config
from pipeline.config.typed import typed
from pipeline.errors import ConfigError, Fault, PipelineError
from pipeline.reports.console import console
from pipeline.steps.workspace import git_commit
from tests.bench import report
from tests.bench.report import FULL, LORA, OURS, OURS_LORA, SEQ_BN

if TYPE_CHECKING:
    from pipeline.core.engine.trials import Job

SCRIPTS = Path(__file__).resolve().parent
ROOT = SCRIPTS.parents[1]
PEER = ROOT / ".venv-peer" / "bin" / "python"
FULL_RATE = 5e-5
"""Of full fine-tuning: the Trainer's default. Adapters have the engine's own, in every library."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig(SweepConfig):
    """`make bench`: what training on the first of `tasks` costs, beside other libraries."""

    rounds: int = 3
    """Measurements of each speed; they take turns."""
    seconds: float = 20.0
    """Least length of one measurement of speed, warm-up aside; ours ends with an epoch."""
    base_sized: bool | None = None
    """Measure the speed of a BERT of the base size with random weights too. None: where there is a GPU."""
    scored_epochs: int = 6
    """Epochs in which each comes as far as it comes, for the time to a score; 0: not measured."""
    candidates: int = 8
    """Of the search, three epochs each: one after another there, a whole sweep here. 0: not measured."""

    def faults(self, where: str) -> Iterator[Fault]:
        for name, least in (("rounds", 1), ("seconds", 0.1), ("scored_epochs", 0), ("candidates", 0)):
            if getattr(self, name) < least:
                remedy = f"Set {name} to {least} or more"
                yield Fault(where=name, value=str(getattr(self, name)), rule="is too small", remedy=remedy)


def with_preset(arguments: Sequence[str]) -> list[str]:
    """Pfeiffer adapters of a 16th of the width in every layer, float32: AdapterHub's seq_bn, the same."""
    preset = ["tasks=[sentiment]", "method=pfeiffer", "engine.batch_size=32", "engine.precision=float32"]
    if not any(word.startswith("method=") for word in arguments):
        preset.append("method.reduction_factor=16")
    return [*preset, *arguments]


def bench_config(arguments: Sequence[str]) -> BenchConfig:
    return read_config("sweep", BenchConfig, with_preset(arguments))


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """What is measured, and with what."""

    config: BenchConfig
    words: Sequence[str]
    """Overrides that were given."""
    job: "Job"
    folder: Path
    """For rows, random weights and the sweep."""
    console: Console

    @property
    def auto(self) -> list[str]:
        """Ours as it is by default, unless the precision was given."""
        is_given = any(word.startswith("engine.precision=") for word in self.words)
        return [] if is_given else ["engine.precision=auto"]

    def ours(self, what: str, model: Path, *more: str) -> list[str]:
        own = [*self.words, f'checkpoint="{model}"', *more]
        return [sys.executable, str(SCRIPTS / "ours.py"), what, str(self.config.seconds), *own]

    def peer(self, what: str, method: str, model: Path, precision: str, rates: Sequence[float]) -> list[str]:
        epochs = self.config.scored_epochs if what == "score" else 3
        given = {
            "checkpoint": str(model),
            "batch_size": self.config.engine.batch_size,
            "max_length": self.job.task.config.max_length,
            "precision": precision,
            "learning_rates": list(rates),
            "seconds": self.config.seconds,
            "epochs": epochs,
            **{name: str(self.folder / f"{name}.jsonl") for name in ("train", "validation")},
        }
        return [str(PEER), str(SCRIPTS / "peer.py"), what, method, json.dumps(given)]

    def speeds(self, models: Mapping[str, tuple[Path, str]]) -> dict[str, Any]:
        """Rows a second of each, measured in turn, several times; and what else each said at last.

        Args:
            models: Name -> checkpoint and precision.
        """
        rate, commands = self.config.engine.learning_rate, {}
        for name, (model, precision) in models.items():
            exact = f"engine.precision={precision}"
            commands[name] = {
                OURS: self.ours("speed", model, exact),
                SEQ_BN: self.peer("speed", "seq_bn", model, precision, [rate]),
                OURS_LORA: self.ours("speed", model, exact, "method=lora"),
                LORA: self.peer("speed", "lora", model, precision, [rate]),
                FULL: self.peer("speed", "full", model, precision, [FULL_RATE]),
            }
        figures: dict[str, dict[str, list[float]]] = {
            name: {what: [] for what in some} for name, some in commands.items()
        }
        facts: dict[str, dict[str, Any]] = {name: {} for name in commands}
        for number in range(self.config.rounds):
            for name, some in commands.items():
                for what, command in some.items():
                    facts[name][what] = said = measure(command)
                    figures[name][what].append(said.pop("rows_per_s"))
                    shown = f"round {number + 1}/{self.config.rounds}  {what}: {figures[name][what][-1]:.1f} rows/s"
                    self.console.print(f"{name}: {shown}")
        return {
            name: {"precision": precision, "rows_per_s": figures[name], "last": facts[name]}
            for name, (_, precision) in models.items()
        }

    def scores(self, model: Path) -> dict[str, Any]:
        """Seconds and score of each epoch of each; ours in the precision of `auto`, the others in float32."""
        rate, epochs = self.config.engine.learning_rate, f"engine.epochs={self.config.scored_epochs}"
        commands = {
            OURS: (rate, self.ours("score", model, epochs, *self.auto)),
            SEQ_BN: (rate, self.peer("score", "seq_bn", model, "float32", [rate])),
            OURS_LORA: (rate, self.ours("score", model, epochs, *self.auto, "method=lora")),
            LORA: (rate, self.peer("score", "lora", model, "float32", [rate])),
            FULL: (FULL_RATE, self.peer("score", "full", model, "float32", [FULL_RATE])),
        }
        found = {}
        for what, (learning_rate, command) in commands.items():
            curve = measure(command)["curve"]
            found[what] = {"learning_rate": learning_rate, "curve": curve}
            self.console.print(f"{what}: {max(score for _, score in curve):.3f} after {curve[-1][0]:.0f} s")
        return found

    def search(self, model: Path, precisions: Sequence[str]) -> dict[str, Any]:
        """The same number of candidates by learning rate: a sweep with all that belongs to it, in the precision of
        `auto`, and one by one."""
        low, high = 0.0003, 0.003  # pfeiffer's own range
        rates = [float(rate) for rate in np.geomspace(low, high, self.config.candidates)]
        own = [*with_preset(["engine.epochs=3", *self.auto, *self.words]), f"search.trials={self.config.candidates}"]
        own += [f"runs={self.folder / 'runs'}", f"tracking.uri=sqlite:///{self.folder / 'mlflow.db'}"]
        own += [f"tracking.artifacts={self.folder / 'artifacts'}"]
        bench_keys = BenchConfig.__dataclass_fields__.keys() - SweepConfig.__dataclass_fields__.keys()
        own = [word for word in own if word.partition("=")[0] not in bench_keys]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "jobs", "sweep", *own], cwd=ROOT, capture_output=True, text=True, check=False
        )
        ours_s = time.perf_counter() - start
        if done.returncode:
            raise PipelineError(f"The sweep ended with {done.returncode}: {done.stderr[-2000:]}")
        (board,) = (self.folder / "artifacts").rglob("leaderboard.json")
        table = json.loads(board.read_text("utf-8"))
        ours = dict(zip(table["columns"], table["data"][0], strict=True))
        self.console.print(f"{OURS}, sweep of {self.config.candidates}: {ours_s:.0f} s")
        found = {OURS: {"seconds": ours_s, "validation": ours["validation"]}}
        for precision in precisions:
            start = time.perf_counter()
            theirs = measure(self.peer("search", "seq_bn", model, precision, rates))
            theirs_s = time.perf_counter() - start
            self.console.print(f"{SEQ_BN}, {precision}, {self.config.candidates} one by one: {theirs_s:.0f} s")
            name = SEQ_BN if precision == precisions[0] else f"{SEQ_BN}, {precision}"
            found[name] = {"seconds": theirs_s, "validation": theirs["validation"]}
        return found


def main(config: BenchConfig, words: Sequence[str], console: Console) -> None:
    import torch

    from pipeline.steps.prepare import prepare

    prepared = prepare(config)
    checkpoint, job = prepared.checkpoint, prepared.jobs[0]
    names = set(job.task.config.field_names)
    if not job.task.has_labels or names != {"text", "label"} or job.task.config.primary != "accuracy":
        rule = "is no classification of single texts by accuracy, which is what is measured"
        raise ConfigError(Fault(where="TASKS", value=job.name, rule=rule, remedy="Give sentiment, for instance"))
    has_gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, split in (("train", job.dataset.train), ("validation", job.dataset.validation)):
            lines = "".join(json.dumps(dict(row.fields)) + "\n" for row in split.rows)
            (folder / f"{name}.jsonl").write_text(lines, "utf-8")
        bench = Bench(config=config, words=words, job=job, folder=folder, console=console)
        own, name = config.engine.precision, checkpoint.config.name
        precisions = [own, *(["bfloat16"] if own == "float32" and prepared.has_bfloat16 and not has_gpu else [])]
        models = {
            name if precision == own else f"{name}, {precision}": (checkpoint.folder, precision)
            for precision in precisions
        }
        if has_gpu if config.base_sized is None else config.base_sized:
            precision = "bfloat16" if has_gpu else "float32"
            models["BERT base, random weights"] = (_bert_base(folder / "base", checkpoint.folder), precision)
        tables = bench.speeds(models)
        scores = bench.scores(checkpoint.folder) if config.scored_epochs else {}
        search = bench.search(checkpoint.folder, precisions) if config.candidates else {}
    result = {
        "date": f"{datetime.now():%Y-%m-%d %H:%M}",
        "commit": git_commit(),
        "job": job.name,
        "rows": len(job.dataset.train.rows),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if has_gpu else "CPU",
        "machine": platform.platform(),
        "models": tables,
        "scores": scores,
        "search": search,
    }
    report.tell(result, Path(config.runs), console)


def _bert_base(folder: Path, tokenizer: Path) -> Path:
    """Save a BERT of the base size (12 layers, 768 wide) with random weights, which serve for speed."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    words = AutoTokenizer.from_pretrained(tokenizer)
    BertModel(BertConfig(vocab_size=len(words)), add_pooling_layer=False).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def measure(command: Sequence[str]) -> dict[str, Any]:
    """Run one measurement in a process of its own, so that threads and allocators do not meet."""
    same = {"OMP_NUM_THREADS": str(os.cpu_count()), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment = os.environ | same | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise PipelineError(f"{' '.join(command[:4])} ended with {done.returncode}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def overridden() -> list[str]:
    """What was given, behind `make` or behind this module, as overrides."""
    return overrides_of("sweep", typed(os.environ) if sys.argv[1:] == ["--make"] else sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run(lambda: main(bench_config(overridden()), overridden(), console())))
