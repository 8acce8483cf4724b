"""Trainings to their end, whose curves are kept so that a bench that was cut off goes on: `search` and `defaults`."""

import hashlib
import json
import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config import SweepConfig
from pipeline.config.commands import overrides_of
from pipeline.config.overrides import read_config
from pipeline.core.data.rows import Split
from pipeline.core.data.splits import fingerprint
from pipeline.core.engine.events import EpochSaved, Evaluated
from pipeline.core.engine.session import Session
from pipeline.core.engine.trials import Job, trial_of
from pipeline.errors import PipelineError
from pipeline.steps.prepare import Prepared, prepare


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the command line of a bench says."""

    folder: Path
    hours: float
    seeds: Sequence[int]
    tasks: Sequence[str]
    data: str | None
    validation: int
    """Validation rows of a task at most, the first of the split."""
    words: list[str]
    """The rest, which goes to the config."""


def asked(words: Sequence[str], starter: Sequence[str], brought: Sequence[str]) -> Asked:
    """Read `FOLDER [hours=1] [seeds=0,1] [tasks=a,b] [data=<dir>] [validation=300] [key=value ...]`.

    Args:
        starter: Tasks of the starter corpus, which are measured where none is named.
        brought: Those that are measured besides where there is `data`.
    """
    own = ("hours", "seeds", "tasks", "data", "validation")
    named = dict(word.split("=", 1) for word in words[1:] if word.split("=", 1)[0] in own)
    data = named.get("data")
    usual = [*starter, *(brought if data else ())]
    return Asked(
        folder=Path(words[0]),
        hours=float(named.get("hours", "1")),
        seeds=[int(seed) for seed in named.get("seeds", "0,1").split(",")],
        tasks=named["tasks"].split(",") if "tasks" in named else usual,
        data=data,
        validation=int(named.get("validation", "300")),
        words=[word for word in words[1:] if word.split("=", 1)[0] not in own],
    )


def config_of(tasks: Sequence[str], data: str | None, words: Sequence[str]) -> SweepConfig:
    """The config of a sweep over these tasks."""
    given = [f"TASKS={','.join(tasks)}", "CLUSTER=here", *([f"DATA={data}"] if data else []), *words]
    return read_config("sweep", SweepConfig, overrides_of("sweep", given))


def jobs_of(given: Asked, starter: Sequence[str], preset: Sequence[str]) -> list[tuple[Prepared, SweepConfig, Job]]:
    """Prepare the tasks, in their order, each with no more validation rows than asked."""
    own, others = ([task for task in given.tasks if (task in starter) == is_own] for is_own in (True, False))
    if others and given.data is None:
        raise PipelineError(f"{', '.join(others)}: not in the starter corpus; say where by data=<dir>")
    found = []
    for tasks, data in ((own, None), (others, given.data)):
        if tasks:
            config = config_of(tasks, data, [*preset, *given.words])
            prepared = prepare(config)
            found += [(prepared, config, _shortened(job, prepared, given.validation)) for job in prepared.jobs]
    return found


def _shortened(job: Job, prepared: Prepared, most: int) -> Job:
    rows = job.dataset.validation.rows[:most]
    validation = Split("validation", rows, fingerprint(rows), None)
    encoded = {**job.encoded, "validation": job.task.encode(rows, prepared.tokenizer)}
    return replace(job, dataset=replace(job.dataset, validation=validation), encoded=encoded)


Curve = list[dict[str, float]]
"""Of each epoch `primary` and `loss` on validation rows, and `train_s`; the last ones are missing where it diverged."""


class Curves:
    """Those in `<folder>/curves.jsonl`; others are trained while there is time."""

    def __init__(self, folder: Path, hours: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._file = folder, folder / "curves.jsonl"
        self._file.touch()
        lines = [json.loads(line) for line in self._file.read_text("utf-8").splitlines()]
        self._known: dict[str, Curve] = {line["key"]: line["epochs"] for line in lines}
        self._until = time.monotonic() + 3600 * hours

    def of(self, prepared: Prepared, job: Job, params: Mapping[str, Any]) -> Curve | None:
        """The curve of a trial with these settings, trained to its end; None if it is not known and time is up."""
        about = {
            "job": job.name,
            "seed": job.seed,
            "params": dict(params),
            "settings": asdict(job.settings),
            "rows": [split.fingerprint for split in (job.dataset.train, job.dataset.validation)],
            "checkpoint": prepared.checkpoint.sha256,
        }
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        if key not in self._known:
            if time.monotonic() > self._until:
                return None
            self._known[key] = _trained(prepared, job, params, self._folder / key)
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"key": key, **about, "epochs": self._known[key]}) + "\n")
            shutil.rmtree(self._folder / key)
        return self._known[key]


def _trained(prepared: Prepared, job: Job, params: Mapping[str, Any], folder: Path) -> Curve:
    """Train a trial to its end, or go on with it; its folder remembers the epochs."""
    assert prepared.tokenizer.pad_token_id is not None
    trial = trial_of(job, 0, params)
    session = Session(prepared.base, prepared.checkpoint, prepared.tokenizer.pad_token_id, job, trial, folder)
    epochs: list[Evaluated] = []
    try:
        for event in session.events():
            if isinstance(event, EpochSaved):
                epochs.append(event.evaluated)
    except PipelineError as error:
        print(f"{job.name} {dict(params)}: {error}", file=sys.stderr)
    finally:
        session.close()
    shown = " ".join(f"{one.primary:.3f}" for one in epochs)
    print(f"{job.name} seed {job.seed} {dict(params)}: {shown}", file=sys.stderr, flush=True)
    return [{"primary": one.primary, "loss": one.loss, "train_s": one.train_s} for one in epochs]


def best_of(curve: Curve) -> float:
    """The best score of a curve; minus infinity if it has none."""
    return max((epoch["primary"] for epoch in curve if math.isfinite(epoch["primary"])), default=-math.inf)


def line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"
