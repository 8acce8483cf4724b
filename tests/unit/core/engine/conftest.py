from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint
from pipeline.core.data.rows import Dataset, Row, Split, make_row
from pipeline.core.data.splits import fingerprint
from pipeline.core.engine.session import Session
from pipeline.core.engine.trials import Job, Settings, trial_of
from pipeline.core.tasks.kinds import task_for


@dataclass
class Lab:
    """A job on the tiny BERT, whose label is the colour word in the text."""

    base: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    checkpoint: Checkpoint
    job: Job

    def session(self, folder: Path, **params: object) -> Session:
        """Open a trial; keys are written with two underscores for the dot: `engine__epochs=2`."""
        changes = {key.replace("__", "."): value for key, value in params.items()}
        trial = trial_of(self.job, 0, changes)
        assert self.tokenizer.pad_token_id is not None
        return Session(self.base, self.checkpoint, self.tokenizer.pad_token_id, self.job, trial, folder)


@pytest.fixture
def lab(tiny_bert: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]]) -> Lab:
    base, tokenizer = tiny_bert()
    config = TaskConfig(name="colour", kind="classification", max_length=32)
    places = ["paris", "rome", "berlin", "oslo"]
    rows: list[Row] = []
    for number in range(64):
        colour = ("red", "blue")[number % 2]
        text = f"the {colour} book " + "of the film " * (number % 5) + f"in {places[number % 4]} was {number}"
        made = next(make_row({"text": text, "label": colour}, config, f"rows:{number + 1}"))
        assert isinstance(made, Row)
        rows.append(made)
    parts = {"train": rows[:40], "validation": rows[40:52], "test": rows[52:]}
    splits: dict[str, Any] = {name: Split(name, tuple(some), fingerprint(some), None) for name, some in parts.items()}
    dataset = Dataset("colour", "default", "test", **splits, overlap={}, notes=())
    task = task_for(config, dataset)
    method = MethodConfig(name="pfeiffer", width=4)
    engine = EngineConfig(epochs=3, batch_size=8, learning_rate=5e-3)
    job = Job(
        name="colour/default",
        registered_name="colour",
        task=task,
        dataset=dataset,
        encoded={name: task.encode(split.rows, tokenizer) for name, split in splits.items()},
        settings=Settings(method=method, engine=engine),
        seed=0,
    )
    source = CheckpointConfig(name="tiny", source="path", location="nowhere", pooling="mean")
    checkpoint = Checkpoint(
        config=source, folder=Path("nowhere"), sha256="a" * 64, architecture=base.config, has_lm_head=False
    )
    return Lab(base=base, tokenizer=tokenizer, checkpoint=checkpoint, job=replace(job))
