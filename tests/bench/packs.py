"""What a pack gains: candidates trained together and one after another, side by side.

`python -m tests.bench.packs [rounds] [key=value ...]`: 5 rounds of the starter's sentiment/films on one thread unless
said. Each round takes the same steps with packs of 1, 2, 4 and 8, in turn, and evaluates with each. Shown are training
rows times candidates a second, the median over the rounds, and how much more that is than with a pack of one.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from pipeline.config import SweepConfig
from pipeline.config.overrides import read_config
from pipeline.core.adapters.sites import Sites
from pipeline.core.engine.batches import training_batches
from pipeline.core.engine.evaluate import validate
from pipeline.core.engine.session import Session
from pipeline.core.engine.step import take_step
from pipeline.core.engine.trials import trial_of
from pipeline.steps.prepare import prepare

SIZES = (1, 2, 4, 8)
STEPS = 4
EVALUATED = 32
"""Validation rows."""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    config = read_config("sweep", SweepConfig, ["tasks=[sentiment/films]", *sys.argv[2:]])
    prepared = prepare(config)
    job, tokenizer, checkpoint = prepared.jobs[0], prepared.tokenizer, prepared.checkpoint
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(config.cluster.cpus_per_trial)
    base = prepared.base.to(device)
    sites, pad = Sites(base), tokenizer.pad_token_id
    assert pad is not None
    rates = [0.0005 * (number + 1) for number in range(max(SIZES))]
    with tempfile.TemporaryDirectory() as folder:
        sessions = [
            Session(
                base,
                checkpoint,
                pad,
                job,
                trial_of(job, number, {"engine.learning_rate": rate, "method.width": (24, 48)[number % 2]}),
                Path(folder) / str(number),
                sites=sites,
            )
            for number, rate in enumerate(rates)
        ]
        rows = job.dataset.validation.rows[:EVALUATED]
        train, validation = job.encoded["train"], job.task.encode(rows, tokenizer)
        first = sessions[0]
        engine = first.trial.settings.engine
        lengths = [example["length"] for example in train.examples]
        batches = training_batches(lengths, engine.batch_size, first.trial.seed, 1)[: STEPS + 1]
        collated = [job.task.collate([train.examples[i] for i in batch], pad) for batch in batches]
        counted = sum(map(len, batches[1:]))

        def trained_s(size: int) -> float:
            trainings = [session.training for session in sessions[:size]]
            for training in trainings:
                training.model.train()
            for number, batch in enumerate(collated):
                if number == 1:  # after the allocations
                    start = time.perf_counter()
                take_step(trainings, job.task, batch, number + 1)
            return time.perf_counter() - start

        def evaluated_s(size: int) -> float:
            start = time.perf_counter()
            models = [session.model for session in sessions[:size]]
            validate(models, job.task, rows, validation, engine, pad)
            return time.perf_counter() - start

        speeds: dict[int, list[float]] = {size: [] for size in SIZES}
        scored: dict[int, list[float]] = {size: [] for size in SIZES}
        trained_s(1)  # warms up
        for number in range(rounds):
            for size in SIZES if number % 2 else SIZES[::-1]:
                speeds[size].append(counted * size / trained_s(size))
                scored[size].append(len(rows) * size / evaluated_s(size))
            shown = ", ".join(f"{size}: {speeds[size][-1]:.0f} and {scored[size][-1]:.0f}" for size in SIZES)
            print(f"round {number + 1}: {shown}", flush=True)
    print(f"{job.name}, {checkpoint.config.name}, {job.settings.method.name}, {device.type}, {rounds} rounds")
    print("| pack | training, rows x candidates / s | gain | evaluation, rows x candidates / s | gain |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for size in SIZES:
        gain = statistics.median(one / alone for one, alone in zip(speeds[size], speeds[1], strict=True))
        gained = statistics.median(one / alone for one, alone in zip(scored[size], scored[1], strict=True))
        speed, score = statistics.median(speeds[size]), statistics.median(scored[size])
        print(f"| {size} | {speed:,.0f} | {gain:.2f} | {score:,.0f} | {gained:.2f} |")


if __name__ == "__main__":
    main()
