"""Rows a second of our engine: `python tests/bench/ours.py <seconds> <overrides ...>`."""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from pipeline.core.engine.events import StepDone
from pipeline.core.engine.loop import fit
from pipeline.core.engine.session import Session
from pipeline.core.engine.trials import trial_of
from pipeline.core.tasks.metrics import mean_of, value_counts
from pipeline.core.tasks.task import Scores
from pipeline.steps.prepare import prepare
from tests.bench.__main__ import bench_config

WARM_UP_STEPS = 5


def main() -> None:
    seconds, arguments = float(sys.argv[1]), sys.argv[2:]
    config = bench_config(arguments)
    prepared = prepare(config)
    checkpoint, tokenizer, job = prepared.checkpoint, prepared.tokenizer, prepared.jobs[0]
    base = prepared.base.to("cuda" if torch.cuda.is_available() else "cpu")
    trial = trial_of(job, 0, {"engine.epochs": 1000})
    train = job.encoded["train"]
    assert tokenizer.pad_token_id is not None
    with tempfile.TemporaryDirectory() as folder:
        session = Session(base, checkpoint, tokenizer.pad_token_id, job, trial, Path(folder))
        steps, start = 0, 0.0
        for _, event in fit([session.training], job.task, train, tokenizer.pad_token_id, unscored):
            if isinstance(event, StepDone):
                steps += 1
                if steps == WARM_UP_STEPS:
                    start = time.perf_counter()
            elif time.perf_counter() - start > seconds:
                break  # after a whole epoch: its batches differ in length, and a part of them would be no fair sample
        elapsed = time.perf_counter() - start
    epochs = steps // session.training.steps_per_epoch
    rows = epochs * len(train.examples) - WARM_UP_STEPS * config.engine.batch_size
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    result = {"rows_per_s": rows / elapsed, "steps": steps - WARM_UP_STEPS, "threads": torch.get_num_threads()}
    print(json.dumps(result | {"versions": versions}))


def unscored(numbers: Sequence[int]) -> list[Scores]:
    """Stand in for the scoring of validation rows, which is not measured."""
    counts = value_counts([0.0])
    scores = Scores(primary=0.0, metrics={}, low=0.0, high=0.0, baseline=0.0, counts=counts, statistic=mean_of)
    return [scores for _ in numbers]


if __name__ == "__main__":
    main()
