"""Trainings by our engine: `python tests/bench/ours.py <speed | score> <seconds> <overrides ...>`; last line is JSON.

`speed` tells training rows a second, `score` the seconds and the score of each epoch.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from pipeline.core.engine.events import Evaluated, StepDone
from pipeline.core.engine.loop import fit
from pipeline.core.engine.machine import peak_bytes
from pipeline.core.engine.session import Session
from pipeline.core.engine.trials import trial_of
from pipeline.core.tasks.metrics import mean_of, value_counts
from pipeline.core.tasks.scores import Scores
from pipeline.steps.prepare import prepare
from tests.bench.__main__ import bench_config

WARM_UP_STEPS = 5


def speed(session: Session, pad_token_id: int, seconds: float) -> dict[str, Any]:
    """Train for so long, and to the end of the epoch."""
    job, training = session.job, session.training
    train = job.encoded["train"]
    steps, start = 0, 0.0
    for _, event in fit([training], job.task, train, pad_token_id, unscored):
        if isinstance(event, StepDone):
            steps += 1
            if steps == WARM_UP_STEPS:
                start = time.perf_counter()
        elif steps > WARM_UP_STEPS and time.perf_counter() - start > seconds:
            break  # after a whole epoch: its batches differ in length, and a part of them would be no fair sample
    elapsed = time.perf_counter() - start
    epochs = steps // training.steps_per_epoch
    rows = epochs * len(train.examples) - WARM_UP_STEPS * training.config.batch_size
    return {"rows_per_s": rows / elapsed, "steps": steps - WARM_UP_STEPS}


def score(session: Session) -> dict[str, Any]:
    """Train to the end."""
    start = time.perf_counter()
    reports = (event for event in session.events() if isinstance(event, Evaluated))
    return {"curve": [[time.perf_counter() - start, report.primary] for report in reports]}


def main() -> None:
    what, seconds, arguments = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    prepared = prepare(bench_config(arguments))
    checkpoint, tokenizer, job = prepared.checkpoint, prepared.tokenizer, prepared.jobs[0]
    base = prepared.base.to("cuda" if torch.cuda.is_available() else "cpu")
    trial = trial_of(job, 0, {"engine.epochs": 1000} if what == "speed" else {})
    assert tokenizer.pad_token_id is not None
    with tempfile.TemporaryDirectory() as folder:
        session = Session(base, checkpoint, tokenizer.pad_token_id, job, trial, Path(folder))
        result = speed(session, tokenizer.pad_token_id, seconds) if what == "speed" else score(session)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    facts = {"peak_bytes": peak_bytes(base.device), "threads": torch.get_num_threads(), "versions": versions}
    print(json.dumps(result | facts))


def unscored(numbers: Sequence[int]) -> list[Scores]:
    """Stand in for the scoring of validation rows, which is not measured."""
    counts = value_counts([0.0])
    scores = Scores(primary=0.0, metrics={}, low=0.0, high=0.0, baseline=0.0, counts=counts, statistic=mean_of)
    return [scores for _ in numbers]


if __name__ == "__main__":
    main()
