"""A new version meets the champion on the champion's rows, by the task's metric of today."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from jobs.preparation import Prepared
from jobs.recording import Rescorer, read_rows
from pipeline.adapters.checkpoint import Checkpoint
from pipeline.bank.predictor import Predictor
from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, TaskConfig
from pipeline.engine.assemble import fresh_model, release
from pipeline.errors import DataError, PipelineError
from pipeline.tasks.kinds import restore
from pipeline.tasks.metrics import accuracy, macro_f1
from tests import bundles

TASK = TaskConfig(name="mood", kind="classification")
ROWS = [{"text": "good film", "label": "good"}, {"text": "bad film", "label": "bad"}, {"text": "one", "label": "bad"}]


@pytest.fixture
def prepared(tiny_bert: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]], tmp_path: Path) -> Prepared:
    """A checkpoint with two bundles, `new` and `old`, of random weights, and the rows of `old`."""
    base, tokenizer = tiny_bert()
    for part in (base, tokenizer):
        part.save_pretrained(tmp_path / "tiny")
    source = CheckpointConfig(name="tiny", source="path", location=str(tmp_path / "tiny"))
    checkpoint = Checkpoint(
        config=source, folder=tmp_path / "tiny", sha256="a" * 64, architecture=base.config, has_lm_head=False
    )
    for seed, name in enumerate(("new", "old")):
        task, method, engine = restore(TASK, ["bad", "good"]), MethodConfig(name="pfeiffer", width=4), EngineConfig()
        model = fresh_model(base, checkpoint, task, method, engine, seed)
        bundles.write(
            tmp_path / name,
            model,
            checkpoint=checkpoint,
            task=TASK,
            labels=task.labels,
            method=method,
            seed=seed,
        )
        release(model, method)
    write(tmp_path, ROWS)
    return Prepared(checkpoint=checkpoint, tokenizer=tokenizer, base=base, jobs=[], slots=1)


def write(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@pytest.mark.parametrize(("metric", "function"), [("accuracy", accuracy), ("macro_f1", macro_f1)])
def test_both_are_scored_by_the_metric_of_the_task_as_it_is_now(
    prepared: Prepared, tmp_path: Path, metric: str, function: Callable[[list[str], list[str]], float]
) -> None:
    task = restore(dataclasses.replace(TASK, metric=metric), ["bad", "good"])
    scores = Rescorer(prepared, task)(tmp_path / "new", tmp_path / "old", tmp_path / "rows.jsonl")
    gold = [row["label"] for row in ROWS]
    predictor = Predictor(prepared.checkpoint, prepared.base)
    for score, name in zip(scores, ("new", "old"), strict=True):
        answers = predictor.predict(tmp_path / name, [row["text"] for row in ROWS])
        assert score == function(gold, [answer["label"] for answer in answers])


@pytest.mark.parametrize(
    "task",
    [
        TaskConfig(name="mood", kind="tagging"),
        TaskConfig(name="mood", kind="classification", fields={"text_pair": "context"}),
    ],
)
def test_a_champion_of_another_kind_or_with_other_fields_is_not_compared(
    prepared: Prepared, tmp_path: Path, task: TaskConfig
) -> None:
    with pytest.raises(PipelineError, match=f"the task was classification of text, label and is {task.kind} of"):
        Rescorer(prepared, restore(task, ["O"]))(tmp_path / "new", tmp_path / "old", tmp_path / "rows.jsonl")


def test_a_recorded_row_that_is_none_of_the_task_is_an_error(prepared: Prepared, tmp_path: Path) -> None:
    write(tmp_path, [*ROWS, {"text": 3, "label": "bad"}])
    with pytest.raises(DataError, match=r"rows.jsonl:4: '3' is no text"):
        read_rows(tmp_path / "rows.jsonl", restore(TASK, ["bad", "good"]))
