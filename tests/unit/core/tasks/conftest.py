"""Rows and data sets of each kind, and a training loop of a few lines, for the tests of `pipeline.core.tasks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import torch

from pipeline.config import TaskConfig
from pipeline.core.data.rows import Dataset, Row, Split, make_row
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.task import Answer, Encoded, Task

if TYPE_CHECKING:
    from tests.conftest import TinyBert

Values = Mapping[str, Any]


class MakeRows(Protocol):
    """Rows of canonical values, as if read from a file."""

    def __call__(self, config: TaskConfig, values: Sequence[Values], name: str = ...) -> list[Row]: ...


class MakeDataset(Protocol):
    """A data set; the splits that are not given are the training rows."""

    def __call__(
        self,
        config: TaskConfig,
        train: Sequence[Values],
        validation: Sequence[Values] | None = ...,
        test: Sequence[Values] | None = ...,
    ) -> Dataset: ...


class Learn(Protocol):
    """Train a fresh head on the frozen tiny BERT."""

    def __call__(self, task: Task, rows: Sequence[Row], *, steps: int = ..., rate: float = ...) -> TaskModel: ...


class AnswerAll(Protocol):
    """Answer rows in batches of the given size."""

    def __call__(self, task: Task, model: TaskModel, rows: Sequence[Row], *, batch_size: int = ...) -> list[Answer]: ...


@pytest.fixture
def make_rows() -> MakeRows:
    def make(config: TaskConfig, values: Sequence[Values], name: str = "train.jsonl") -> list[Row]:
        rows = []
        for line, one in enumerate(values, start=1):
            (row,) = make_row(one, config, f"{name}:{line}")
            assert isinstance(row, Row), row
            rows.append(row)
        return rows

    return make


@pytest.fixture
def make_dataset(make_rows: MakeRows) -> MakeDataset:
    def make(
        config: TaskConfig,
        train: Sequence[Values],
        validation: Sequence[Values] | None = None,
        test: Sequence[Values] | None = None,
    ) -> Dataset:
        def split(name: str, values: Sequence[Values]) -> Split:
            return Split(name, tuple(make_rows(config, values, f"{name}.jsonl")), "0" * 16, None)

        return Dataset(
            task=config.name,
            domain="default",
            source="files",
            train=split("train", train),
            validation=split("validation", train if validation is None else validation),
            test=split("test", train if test is None else test),
            overlap={},
            notes=(),
        )

    return make


@pytest.fixture
def learn(tiny_bert: TinyBert) -> Learn:
    def train(task: Task, rows: Sequence[Row], *, steps: int = 40, rate: float = 0.05) -> TaskModel:
        base, tokenizer = tiny_bert()
        torch.manual_seed(0)
        model = TaskModel(base, task.head(base.config.hidden_size, 0.0), pooling="mean").train()
        optimiser = torch.optim.AdamW(model.head.parameters(), lr=rate)
        batch = task.collate(task.encode(rows, tokenizer).examples, 0)
        for _ in range(steps):
            loss, _ = task.loss(model, batch)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return model.eval()

    return train


@pytest.fixture
def answer_all(tiny_bert: TinyBert) -> AnswerAll:
    def answer(task: Task, model: TaskModel, rows: Sequence[Row], *, batch_size: int = 8) -> list[Answer]:
        _, tokenizer = tiny_bert()
        encoded: Encoded = task.encode(rows, tokenizer)
        outputs = []
        for start in range(0, len(encoded.examples), batch_size):
            batch = task.collate(encoded.examples[start : start + batch_size], 0)
            outputs += task.outputs(model, batch)
        return task.answers(rows, encoded, outputs)

    return answer
