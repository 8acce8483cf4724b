"""Measured by `make bench`: the engine trains a `pfeiffer` adapter. Reads a request, writes rows and seconds."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from pipeline.adapters.checkpoint import build_base, load_tensors, load_tokenizer, open_checkpoint
from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, TaskConfig
from pipeline.data.rows import make_row
from pipeline.engine.assemble import fresh_model
from pipeline.engine.events import StepDone
from pipeline.engine.loop import Training, fit
from pipeline.tasks.classification import Classification
from pipeline.tasks.task import Encoded, Scores


def measure(request: dict[str, Any]) -> dict[str, float]:
    """Train once briefly, to warm up, and once on the clock."""
    source = CheckpointConfig(name="bench", source="path", location=request["checkpoint"])
    checkpoint = open_checkpoint(source)
    tokenizer, base = load_tokenizer(checkpoint), build_base(checkpoint, load_tensors(checkpoint))
    config = TaskConfig(name="bench", kind="classification", max_length=request["max_length"])
    lines = Path(request["rows"]).read_text("utf-8").splitlines()
    rows = [make_row(json.loads(line), f"row {number}") for number, line in enumerate(lines, start=1)]
    task = Classification.from_rows(config, rows)
    method = MethodConfig(name="pfeiffer", width=request["width"])
    engine = EngineConfig(epochs=request["passes"], batch_size=request["batch_size"], precision="float32")
    model = fresh_model(base, checkpoint, task, method, engine, seed=0)
    encoded = task.encode(rows, tokenizer)
    few = Encoded(examples=encoded.examples[: request["warmup_rows"]], num_rows=request["warmup_rows"], num_truncated=0)
    num_rows = len(rows) * engine.epochs
    for part in (few, encoded):
        training = Training(model, len(part.examples), engine, seed=0)
        start = time.perf_counter()
        steps = sum(isinstance(event, StepDone) for event in fit(training, task, part, tokenizer.pad_token_id, unscored))
        seconds = time.perf_counter() - start
    assert steps == training.steps_per_epoch * engine.epochs
    return {"rows": num_rows, "seconds": seconds}


def unscored() -> Scores:
    """Stand in for validation, which is not measured."""
    return Scores(primary=0.0, metrics={}, low=0.0, high=0.0, baseline=0.0)


if __name__ == "__main__":
    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    print(json.dumps(measure(request)))
