"""A model of each kind, saved as a registered version is: what its page says, and that it takes what it took before."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import pytest

from pipeline.config import EngineConfig, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import load_checkpoint
from pipeline.core.bank.predictor import Predictor
from pipeline.core.data.ledger import Ledger
from pipeline.core.data.rows import Row, Split, make_row
from pipeline.core.engine.assemble import fresh_model, release
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.trials import Job
from pipeline.core.tasks.kinds import restore
from pipeline.rules.card import origin_of
from pipeline.tracking.model import Content
from pipeline.tracking.signature import exchange_of
from tests import bundles
from tests.tiny import tiny_checkpoint
from tests.unit.tracking.conftest import verdict

MEANT = "['label': string (required), 'score': double (required), 'scores': Map(str -> DataType.double) (required)]"
KINDS: Mapping[str, tuple[dict[str, Any], list[str], dict[str, Any], str]] = {
    "classification": ({"columns": {"text": "sentence"}}, ["a", "b"], {"sentence": "good film"}, "['sentence': string"),
    "tagging": ({}, ["O", "B-PER", "I-PER"], {"tokens": "anna went to oslo"}, "['tokens': string (required)]"),
    "multiple_choice": (
        {"columns": {"question": "asked"}},
        [],
        {"asked": "what is wet", "options": ["water", "fire"]},
        "['asked': string (required), 'options': Array(string) (required)]",
    ),
    "extractive_qa": (
        {},
        [],
        {"question": "who went to oslo", "context": "anna went to oslo"},
        "['question': string (required), 'context': string (required)]",
    ),
}
"""Kind -> what its task has, its labels, an item, and what the signature says of it."""
ANNA = {"text": ["anna"], "answer_start": [0]}
TARGETS: Mapping[str, Any] = {"label": "a", "tags": ["O"] * 4, "answer": 0, "answers": ANNA}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_each_kind_says_what_it_takes_and_gives_and_takes_what_it_took_before(
    kind: str, story: Any, tiny_bert: Callable[[], tuple[Any, Any]], tmp_path: Path
) -> None:
    values, labels, item, takes = KINDS[kind]
    checkpoint = tiny_checkpoint(*tiny_bert(), tmp_path / "tiny")
    task = restore(TaskConfig(name="t", kind=kind, **values), labels)  # type: ignore[arg-type]
    predictor, method = Predictor(load_checkpoint(checkpoint)), MethodConfig(name="houlsby", width=2)
    model = fresh_model(predictor.resident.base, checkpoint, task, method, EngineConfig(), 0)
    bundles.write(tmp_path / "b", model, checkpoint=checkpoint, task=task.config, labels=labels, method=method, seed=0)
    release(model, method)
    bundle = read_bundle(tmp_path / "b")
    (answer,) = predictor.predict(bundle, [item])
    asked = task.parse_item(item)
    (row,) = make_row({**TARGETS, **asked.fields}, task.config, "f:1")
    assert isinstance(row, Row)

    test = Split("test", (row,), "print", None)
    job: Job = dataclasses.replace(story.job, task=task, dataset=dataclasses.replace(story.job.dataset, test=test))
    winner = dataclasses.replace(story.tested(), predictions=({"digest": row.digest, "predicted": answer},))
    exchange, origin = exchange_of(job, winner), origin_of(job, winner, verdict("champion"), None)
    content = Content(bundle=bundle, ledger=Ledger(trained=()), origin=origin, exchange=exchange)
    loaded = mlflow.pyfunc.load_model(str(content.save(tmp_path, "run", "m-1")))

    signature = loaded.metadata.signature
    assert str(signature.inputs).startswith(takes)
    assert signature.outputs.input_names() == list(answer)
    if kind == "classification":
        assert str(signature.outputs) == MEANT
    assert loaded.input_example == [item]
    inputs = {name: column for name, column in task.config.field_names.items() if name != task.target}
    canonical = {name: item[column] for name, column in inputs.items()}
    bare = [next(iter(item.values()))] if len(item) == 1 else []
    for given in ([item], item, [canonical], pd.DataFrame([item]), [{"id": 7, **item}], bare, bare[:1] and bare[0]):
        assert loaded.predict(given) == ([answer] if len(given) else [])
