"""Rows a second of our engine: `python tests/bench/ours.py <seconds> <overrides of conf/bench.yaml ...>`."""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from jobs.configs import BenchConfig
from jobs.entry import read_config
from pipeline.adapters.checkpoint import build_base, load_tensors, load_tokenizer, open_checkpoint
from pipeline.engine.events import StepDone
from pipeline.engine.loop import fit
from pipeline.engine.prepare import prepare_jobs
from pipeline.engine.session import Session
from pipeline.engine.trials import trial_of

WARM_UP_STEPS = 5


def main() -> None:
    seconds, arguments = float(sys.argv[1]), sys.argv[2:]
    config = read_config("bench", BenchConfig, arguments)
    checkpoint = open_checkpoint(config.checkpoint)
    tokenizer = load_tokenizer(checkpoint)
    (job,) = prepare_jobs(config, tokenizer)
    base = build_base(checkpoint, load_tensors(checkpoint))
    trial = trial_of(job, 0, {"engine.epochs": 1000})
    train = job.encoded["train"]
    assert tokenizer.pad_token_id is not None
    with tempfile.TemporaryDirectory() as folder:
        session = Session(base, checkpoint, tokenizer.pad_token_id, job, trial, Path(folder))
        steps = begin = 0
        start = 0.0
        for event in fit(session.training, job.task, train, tokenizer.pad_token_id, session._evaluate):
            if not isinstance(event, StepDone):
                continue  # an evaluation; the clock of training does not count it
            steps += 1
            if steps == WARM_UP_STEPS:
                begin, start = steps, time.perf_counter()
                idle = 0.0
            elif steps > WARM_UP_STEPS and time.perf_counter() - start - idle > seconds:
                break
        elapsed = time.perf_counter() - start
    rows = (steps - begin) * config.engine.batch_size
    print(json.dumps({"rows_per_s": rows / elapsed, "steps": steps - begin, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
