"""What each method learns on real decoder weights: `python -m tests.bench.decoders CHECKPOINT DATA [key=value ...]`.

CHECKPOINT is a folder with a language-model head; DATA holds `sentiment`, as for a sweep. One training a cell: a label
by the last token (sentiment), or written as a word (sentiment_text). The learning rate is the middle of the method's
own range, all else its default, and the last words change both, as in a sweep; `tasks=` and `methods=` choose cells. A
cell that has ended is a line in `runs/decoders.jsonl` and is not run again; one that was cut off goes on from its last
epoch. At the end the table is printed as markdown.
"""

import hashlib
import json
import math
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import MethodConfig, SweepConfig
from pipeline.config.commands import overrides_of
from pipeline.config.overrides import read_config
from pipeline.core.adapters.anatomy import settled
from pipeline.core.data.rows import Split
from pipeline.core.data.splits import fingerprint
from pipeline.core.engine.assemble import fresh_model, release
from pipeline.core.engine.evaluate import answer
from pipeline.core.engine.events import Evaluated
from pipeline.core.engine.session import Session
from pipeline.core.engine.trials import Job, Settings, trial_of
from pipeline.core.tasks.metrics import interval, mean_of, value_counts
from pipeline.steps.prepare import Prepared, prepare

METHODS = {
    "sentiment": ("probe", "lora", "houlsby", "pfeiffer", "parallel"),
    "sentiment_text": ("lora", "houlsby", "pfeiffer", "parallel"),
}
VALIDATION = 400
"""Rows, the first of the split."""
PRESET = ("CLUSTER=here", "EPOCHS=3", "data.max_train_rows=400", "engine.batch_size=8")
COLUMNS = (
    "task",
    "method",
    "input_norm",
    "learning rate",
    "epochs",
    "validation",
    "95 %",
    "baseline",
    "learnt",
    "seconds",
)
FOLDER = Path("runs") / "decoders"


def main(checkpoint: str, data: str, *words: str) -> None:
    """Run every cell that has not ended, and print the table of all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER.with_suffix(".jsonl")
    file.touch()
    done = {cell["key"]: cell for cell in map(json.loads, file.read_text("utf-8").splitlines())}
    wanted = dict(word.split("=", 1) for word in words if word.startswith(("tasks=", "methods=")))
    settings = [word for word in words if word.split("=", 1)[0] not in wanted]
    cells = []
    for task in wanted.get("tasks", ",".join(METHODS)).split(","):
        prepared = None
        for method in wanted.get("methods", ",".join(METHODS[task])).split(","):
            asked = [f"TASKS={task}/movies", f"METHOD={method}", f"CHECKPOINT={checkpoint}", f"DATA={data}"]
            asked += [*PRESET, *settings]
            key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]
            if key not in done:
                config = read_config("sweep", SweepConfig, overrides_of("sweep", asked))
                prepared = prepared or prepare(config)
                done[key] = {"key": key, "task": task, "method": method, **measured(prepared, config, FOLDER / key)}
                with file.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(done[key]) + "\n")
            cells.append(done[key])
            print(line_of(done[key]), flush=True)
    print("\n".join(["", line(COLUMNS), line(["---"] * len(COLUMNS)), *map(line_of, cells)]))


def measured(prepared: Prepared, config: SweepConfig, folder: Path) -> dict[str, Any]:
    """Train a cell, or go on with it, in `folder`."""
    job, range_ = _shortened(prepared.jobs[0], prepared, config), config.search.space.get("engine.learning_rate")
    rate = math.sqrt(math.prod(range_.named)) if range_ else config.engine.learning_rate
    trial = trial_of(job, 0, {"engine.learning_rate": rate})
    rows = job.dataset.validation.rows
    assert prepared.tokenizer.pad_token_id is not None
    session = Session(prepared.base, prepared.checkpoint, prepared.tokenizer.pad_token_id, job, trial, folder)
    epochs: list[Evaluated] = []
    begun = time.perf_counter()
    for event in session.events():
        if isinstance(event, Evaluated):
            epochs.append(event)
            print(f"{job.name} {config.method.name}: epoch {event.epoch}, {event.primary:.3f}", file=sys.stderr)
    seconds = time.perf_counter() - begun
    best = session.training.best_primary
    session.close()
    right = round(best * len(rows))
    low, high = interval(value_counts([1.0] * right + [0.0] * (len(rows) - right)), mean_of)
    return {
        "input_norm": settled(config.method, prepared.checkpoint.model_type).input_norm,
        "learning_rate": rate,
        "epochs": config.engine.epochs,
        "train_rows": len(job.dataset.train.rows),
        "validation_rows": len(rows),
        "by_epoch": [round(event.primary, 4) for event in epochs],
        "validation": best,
        "low": low,
        "high": high,
        "baseline": _baseline(prepared, job),
        "seconds": round(seconds, 1),
    }


def _shortened(job: Job, prepared: Prepared, config: SweepConfig) -> Job:
    """The job with the cell's settings, and no more validation rows than are asked for."""
    rows = job.dataset.validation.rows[:VALIDATION]
    validation = Split("validation", rows, fingerprint(rows), None)
    return replace(
        job,
        dataset=replace(job.dataset, validation=validation),
        encoded={**job.encoded, "validation": job.task.encode(rows, prepared.tokenizer)},
        settings=Settings(method=config.method, engine=config.engine),
    )


def _baseline(prepared: Prepared, job: Job) -> float:
    """The share of the commonest label; where the untrained checkpoint can answer, its score."""
    rows = job.dataset.validation.rows
    if job.task.has_labels:
        return Counter(row.fields["label"] for row in rows).most_common(1)[0][1] / len(rows)
    if prepared.checkpoint.sha256 not in _UNTRAINED:
        method, engine, pad = MethodConfig(name="houlsby"), job.settings.engine, prepared.tokenizer.pad_token_id
        model = fresh_model(prepared.base, prepared.checkpoint, job.task, method, engine, 0)  # begins as the identity
        answers = answer(model, job.task, rows, job.encoded["validation"], engine, pad or 0)
        release(model, method)
        _UNTRAINED[prepared.checkpoint.sha256] = job.task.score(rows, answers).primary
    return _UNTRAINED[prepared.checkpoint.sha256]


_UNTRAINED: dict[str, float] = {}
"""sha256 of a checkpoint -> what it scores in generation without training."""


def line_of(cell: dict[str, Any]) -> str:
    """A row of the table."""
    score, interval_ = f"{cell['validation']:.3f}", f"{cell['low']:.3f}-{cell['high']:.3f}"
    learnt = "yes" if cell["low"] > cell["baseline"] else "**no**"
    rate, reads = f"{cell['learning_rate']:.1e}", cell["input_norm"].replace("auto", "")  # no setting of the method
    values = (cell["task"], cell["method"], reads, rate, cell["epochs"], score, interval_)
    return line([*map(str, values), f"{cell['baseline']:.3f}", learnt, f"{cell['seconds']:.0f}"])


def line(cells: Any) -> str:
    """Markdown."""
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main(*sys.argv[1:])
