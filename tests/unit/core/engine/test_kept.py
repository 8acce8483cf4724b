"""What a head keeps beside its weights (thresholds, the unit of the targets) goes wherever the weights go."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pipeline.config import EngineConfig, MethodConfig, TaskConfig
from pipeline.core.data.rows import Row, Split, make_row
from pipeline.core.engine.assemble import fresh_model, release, trained, warm_start
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.events import EpochSaved, StepDone
from pipeline.core.engine.session import test as run_test
from pipeline.core.engine.trials import Start
from pipeline.core.tasks.kinds import restore, task_for

if TYPE_CHECKING:
    from conftest import Lab  # type: ignore[import-not-found]

TARGETS: dict[str, Any] = {
    "multi_label": lambda text: {"labels": [one for one in ("red", "blue", "paris") if one in text]},
    "regression": lambda text: {"score": 1000.0 + 5 * ("red" in text)},
}


@pytest.fixture(params=list(TARGETS))
def posed(request: pytest.FixtureRequest, lab: Lab) -> Lab:
    """The job of the lab, its rows posed as another kind."""
    config = TaskConfig(name="colour", kind=request.param, max_length=32)
    splits = {}
    for split in lab.job.dataset.splits:
        rows = []
        for row in split.rows:
            values = {"text": row.fields["text"], **TARGETS[request.param](row.fields["text"])}
            (made,) = make_row(values, config, row.origin)
            assert isinstance(made, Row)
            rows.append(made)
        splits[split.name] = Split(split.name, tuple(rows), split.fingerprint, None)
    dataset = dataclasses.replace(lab.job.dataset, **splits)
    task = task_for(config, dataset)
    lab.job = dataclasses.replace(lab.job, task=task, dataset=dataset, encoded=task.encoded(dataset, lab.tokenizer))
    return lab


def test_a_bundle_answers_as_the_validation_rows_chose_and_a_test_uses_it(posed: Lab, tmp_path: Path) -> None:
    session = posed.session(tmp_path, engine__epochs=2)
    *_, saved = (event for event in session.events() if isinstance(event, EpochSaved))
    session.close()
    assert saved.bundle is not None
    bundle, config = read_bundle(saved.bundle), posed.job.task.config
    kept = {name: tensor for name, tensor in bundle.tensors().items() if "linear" not in name and "head." in name}
    if config.kind == "multi_label":
        assert list(kept) == ["head.thresholds"]
        assert all(kept["head.thresholds"].tolist()), "those of a fresh head are 0"
    else:
        assert kept["head.mean"].tolist() == [1002.5] and kept["head.std"].tolist() == [2.5]
    assert posed.tokenizer.pad_token_id is not None
    found = run_test(posed.base, posed.checkpoint, posed.tokenizer.pad_token_id, posed.job, session.trial, saved.bundle)
    assert (found.validation, found.scores[config.primary]) == (bundle.record.validation[config.primary], found.primary)
    assert found.primary > found.baseline + 0.1
    answer = found.predictions[0]["predicted"]
    assert (
        990 < answer["score"] < 1015
        if config.kind == "regression"
        else set(answer["scores"]) == {"red", "blue", "paris"}
    )


def test_an_interrupted_training_ends_with_the_same_thresholds(posed: Lab, tmp_path: Path) -> None:
    whole = posed.session(tmp_path / "a", engine__epochs=2)
    list(whole.events())
    expected = {name: tensor.clone() for name, tensor in whole.model.head.state_dict().items()}
    whole.close()
    parts = posed.session(tmp_path / "b", engine__epochs=2)
    events = parts.events()
    while not (isinstance(event := next(events), StepDone) and event.epoch == 2):
        pass
    parts.close()
    again = posed.session(tmp_path / "b", engine__epochs=2)
    list(again.events())
    found = again.model.head.state_dict()
    again.close()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_head_that_grows_keeps_its_thresholds_and_gives_a_new_label_that_of_a_half(lab: Lab) -> None:
    config, method = TaskConfig(name="colour", kind="multi_label"), MethodConfig(name="probe")

    def model_of(*labels: str) -> Any:
        return fresh_model(lab.base, lab.checkpoint, restore(config, labels), method, EngineConfig(), 0)

    champion = model_of("blue", "red")
    champion.head.thresholds.copy_(torch.tensor([-1.0, 2.0]))
    start = Start(tensors=trained(champion, method), labels=("blue", "red"))
    release(champion, method)
    grown = model_of("blue", "green", "red")
    warm_start(grown, method, start, ("blue", "green", "red"))
    assert grown.head.thresholds.tolist() == [-1.0, 0.0, 2.0]
    release(grown, method)


def test_a_start_keeps_the_unit_that_its_weights_were_learned_in(lab: Lab) -> None:
    config, method = TaskConfig(name="stars", kind="regression"), MethodConfig(name="probe")
    champion = fresh_model(lab.base, lab.checkpoint, restore(config), method, EngineConfig(), 0)
    champion.head.get_buffer("mean").fill_(7.0)
    start = Start(tensors=trained(champion, method), labels=())
    release(champion, method)
    model = fresh_model(lab.base, lab.checkpoint, restore(config), method, EngineConfig(), 1)
    warm_start(model, method, start, ())
    assert model.head.get_buffer("mean").tolist() == [7.0]
    release(model, method)
