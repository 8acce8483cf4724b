"""What a challenger begins with: the champion's weights, whatever labels there are by now."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from pipeline.config import EngineConfig, MethodConfig, MethodName
from pipeline.core.engine.assemble import bundle_model, fresh_model, release, trained, warm_start
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.trials import Start
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.model import TaskModel
from tests import bundles

if TYPE_CHECKING:
    from conftest import Lab  # type: ignore[import-not-found]

LABELS = ("blue", "red")
METHODS: list[MethodName] = ["pfeiffer", "lora", "prompt", "full", "probe"]
TEXTS = ["the red book", "the blue book in paris", "one film of oslo was 7"]


def logits(lab: "Lab", model: TaskModel) -> Tensor:
    batch = lab.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model.eval().logits(model.pooled(batch)).clone()


def model_of(lab: "Lab", method: MethodConfig, labels: tuple[str, ...], seed: int) -> TaskModel:
    task = restore(lab.job.task.config, labels)
    return fresh_model(lab.base, lab.checkpoint, task, method, EngineConfig(), seed)


def champion_of(lab: "Lab", method: MethodConfig) -> tuple[Start, Tensor]:
    """Weights of which none is what it was when fresh, and their logits."""
    model = model_of(lab, method, LABELS, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    tensors = {name: tensor.clone() for name, tensor in trained(model, method).items()}
    found = logits(lab, model)
    release(model, method)
    return Start(tensors=tensors, labels=LABELS), found


def started(lab: "Lab", method: MethodConfig, start: Start, labels: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Logits of a fresh model and of the same one when it was started."""
    model = model_of(lab, method, labels, seed=2)
    fresh = logits(lab, model)
    warm_start(model, method, start, labels)
    found = logits(lab, model)
    release(model, method)
    return fresh, found


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> MethodConfig:
    return MethodConfig(name=request.param, width=4)


def test_with_the_same_labels_it_gives_the_champions_logits_bit_for_bit(lab: "Lab", method: MethodConfig) -> None:
    start, champions = champion_of(lab, method)
    fresh, found = started(lab, method, start, LABELS)
    assert torch.equal(found, champions)
    assert not torch.isclose(fresh, champions).any()


def test_with_one_label_more_the_old_labels_logits_are_the_champions(lab: "Lab", method: MethodConfig) -> None:
    start, champions = champion_of(lab, method)
    _, found = started(lab, method, start, (*LABELS, "green"))
    assert found.shape == (len(TEXTS), 3)
    assert torch.equal(found[:, :2], champions)
    assert found.isfinite().all() and len(set(found[:, 2].tolist())) == len(TEXTS)


def test_outputs_are_told_by_their_names_and_not_by_their_places(lab: "Lab", method: MethodConfig) -> None:
    start, champions = champion_of(lab, method)
    assert torch.equal(started(lab, method, start, LABELS[::-1])[1], champions.flip(1))
    mixed = started(lab, method, start, ("red", "green", "blue"))[1]
    assert torch.equal(mixed[:, [2, 0]], champions)


def test_a_new_label_keeps_its_fresh_weights_and_one_that_is_gone_is_left_out(lab: "Lab") -> None:
    method = MethodConfig(name="pfeiffer", width=4)
    start, _ = champion_of(lab, method)
    model = model_of(lab, method, ("green", "red"), seed=2)
    before = {name: tensor.clone() for name, tensor in trained(model, method).items()}
    warm_start(model, method, start, ("green", "red"))
    after = trained(model, method)
    for name in ("head.linear.weight", "head.linear.bias"):
        assert torch.equal(after[name][0], before[name][0])
        assert torch.equal(after[name][1], start.tensors[name][1])
    release(model, method)


def test_the_starts_own_tensors_are_left_as_they_are(lab: "Lab", method: MethodConfig) -> None:
    start, champions = champion_of(lab, method)
    before = {name: tensor.clone() for name, tensor in start.tensors.items()}
    model = model_of(lab, method, (*LABELS, "green"), seed=2)
    warm_start(model, method, start, (*LABELS, "green"))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    release(model, method)
    assert start.tensors.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in start.tensors.items())
    assert torch.equal(started(lab, method, start, LABELS)[1], champions)


def test_a_trial_begins_with_what_its_champions_bundle_holds(lab: "Lab", tmp_path: Path) -> None:
    method = lab.job.settings.method
    start, champions = champion_of(lab, method)
    model = model_of(lab, method, LABELS, seed=1)
    warm_start(model, method, start, LABELS)
    bundles.write(
        tmp_path / "champion",
        model,
        checkpoint=lab.checkpoint,
        task=lab.job.task.config,
        labels=LABELS,
        method=method,
        seed=1,
    )
    release(model, method)
    bundle = read_bundle(tmp_path / "champion")
    model, _ = bundle_model(lab.base, lab.checkpoint, bundle)
    assert torch.equal(logits(lab, model), champions)
    release(model, method)
    lab.job = replace(lab.job, start=Start(tensors=bundle.tensors(), labels=tuple(bundle.record.labels)))
    session = lab.session(tmp_path / "trial")
    assert torch.equal(logits(lab, session.model), champions)
    session.close()
