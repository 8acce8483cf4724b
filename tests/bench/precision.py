"""Bundles trained in bfloat16, answering in it and in float32: `python -m tests.bench.precision FOLDER [seeds=0] ...`.

Further words are those of `tests.bench.defaults`. A task is trained once a seed in each precision, as a sweep would
train it, on at most 500 rows; its validation rows are then answered in both. What training in bfloat16 costs is told by
`tests.bench.defaults factors=engine.precision`, over two learning rates; this tells what it costs to answer on another
machine than the one that trained. FOLDER must not be there yet.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pipeline.core.bank.predictor import Predictor
from pipeline.core.engine.bundle import Bundle, read_bundle
from pipeline.core.engine.session import Session
from pipeline.core.engine.trials import Job, trial_of
from pipeline.steps.prepare import Prepared
from tests.bench.curves import asked, jobs_of, line
from tests.bench.defaults import BROUGHT, PRESET, STARTER

Kind = Literal["float32", "bfloat16"]
KINDS: tuple[Kind, ...] = ("float32", "bfloat16")


def trained(prepared: Prepared, job: Job, kind: str, folder: Path) -> Bundle:
    """The bundle of the job's own settings."""
    assert prepared.tokenizer.pad_token_id is not None
    trial = trial_of(job, 0, {"engine.precision": kind})
    session = Session(prepared.base, prepared.checkpoint, prepared.tokenizer.pad_token_id, job, trial, folder)
    try:
        list(session.events())
        assert session.bundle is not None
        return read_bundle(session.bundle)
    finally:
        session.close()


def answers(prepared: Prepared, job: Job, bundle: Bundle, kind: Kind) -> list[Any]:
    """Of the validation rows, in this precision."""
    return Predictor(prepared).answer(bundle.answering_in(kind), job.dataset.validation.rows)


def difference(one: Any, other: Any) -> float:
    """The largest of all probabilities in two answers."""
    if isinstance(one, Mapping):
        return max((difference(one[key], other[key]) for key in one.keys() & other.keys()), default=0.0)
    if isinstance(one, list):
        return max((difference(*pair) for pair in zip(one, other, strict=False)), default=0.0)
    return abs(one - other) if isinstance(one, float) else 0.0


def decided(answer: Any) -> Any:
    """An answer without its probabilities."""
    if isinstance(answer, Mapping):
        return {key: decided(value) for key, value in answer.items() if key not in ("score", "scores")}
    return [decided(one) for one in answer] if isinstance(answer, list) else answer


def main(words: Sequence[str]) -> None:
    """Train, answer, and print a row a task and seed."""
    given = asked(words, STARTER, BROUGHT)
    given.folder.mkdir(parents=True)
    print(
        line(
            ["task", "seed", *(f"{a}, answered in {b}" for a in KINDS for b in KINDS), "rows", "other answers", "most"]
        )
    )
    print(line(["---", *["---:"] * 8]), flush=True)
    for seed in given.seeds:
        for number, (prepared, _, plain) in enumerate(jobs_of(given, STARTER, PRESET)):
            job = dataclasses.replace(plain, seed=seed)
            rows = job.dataset.validation.rows
            cells, said = [], {}
            for kind in KINDS:
                bundle = trained(prepared, job, kind, given.folder / f"{seed}-{number}-{kind}")
                for answered in KINDS:
                    said[answered] = answers(prepared, job, bundle, answered)
                    cells.append(f"{100 * job.task.score(rows, said[answered]).primary:.1f}")
            both = list(zip(*said.values(), strict=True))  # of the bundle that was trained in bfloat16
            others = sum(decided(one) != decided(other) for one, other in both)
            most = max(difference(one, other) for one, other in both)
            print(line([job.name, str(seed), *cells, str(len(rows)), str(others), f"{most:.3f}"]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
