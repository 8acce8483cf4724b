"""A champion that stays as it is while outputs of new labels are trained beside its own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config import MethodConfig, MethodName
from pipeline.core.data.rows import Row, Split, make_row
from pipeline.core.data.splits import fingerprint
from pipeline.core.engine.assemble import bundle_model, release
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.evaluate import answer
from pipeline.core.engine.events import EpochSaved
from pipeline.core.engine.trials import Start
from pipeline.core.tasks.kinds import task_for
from pipeline.core.tasks.tensors import held_back

if TYPE_CHECKING:
    from conftest import Lab  # type: ignore[import-not-found]

METHODS: list[MethodName] = ["houlsby", "parallel", "lora", "prompt", "probe"]
TAGS = {"paris": "B-CITY", "film": "B-WORK", "7": "B-COUNT"}


def grown(lab: "Lab", known: Sequence[str], fields: Sequence[dict[str, Any]], kind: str, **more: Any) -> None:
    """Give the lab a job of a kind with these rows, of which some have labels that its champion lacks."""
    config = replace(lab.job.task.config, kind=kind)
    made = [next(make_row(one, config, f"rows:{number}")) for number, one in enumerate(fields, start=1)]
    rows = [row for row in made if isinstance(row, Row)]
    assert len(rows) == len(fields)
    parts = {"train": rows[: len(rows) // 2], "validation": rows[len(rows) // 2 :], "test": rows[len(rows) // 2 :]}
    splits: dict[str, Any] = {name: Split(name, tuple(some), fingerprint(some), None) for name, some in parts.items()}
    dataset = replace(lab.job.dataset, **splits)
    task = task_for(config, dataset, known, labels=more.pop("labels", None))
    task.fresh = tuple(label for label in task.labels if label not in known)
    encoded = {name: task.encode(split.rows, lab.tokenizer) for name, split in splits.items()}
    lab.job = replace(lab.job, task=task, dataset=dataset, encoded=encoded, **more)


def colours(names: Sequence[str]) -> list[dict[str, Any]]:
    places = ["paris", "rome", "berlin", "oslo"]
    texts = [f"the {names[i % len(names)]} book in {places[i % 4]} was {i}" for i in range(96)]
    return [{"text": text, "label": names[i % len(names)]} for i, text in enumerate(texts)]


def champion_of(lab: "Lab", folder: Path, method: MethodConfig) -> Start:
    session = lab.session(folder, engine__learning_rate=0.02)
    assert [event for event in session.events() if isinstance(event, EpochSaved)]
    session.close()
    bundle = read_bundle(next(iter(sorted(folder.glob("bundle-*")))))
    return Start(tensors=bundle.tensors(), labels=tuple(bundle.record.labels), still=True)


@pytest.mark.parametrize("name", METHODS)
def test_all_but_the_new_outputs_stays_bit_for_bit_whatever_decays(
    lab: "Lab", tmp_path: Path, name: MethodName
) -> None:
    method = MethodConfig(name=name) if name == "probe" else MethodConfig(name=name, width=4)
    lab.job = replace(lab.job, settings=replace(lab.job.settings, method=method))
    grown(lab, [], colours(["red", "blue"]), "classification")
    start = champion_of(lab, tmp_path / "champion", method)
    settings = replace(lab.job.settings, engine=replace(lab.job.settings.engine, weight_decay=0.9, learning_rate=0.05))
    grown(lab, start.labels, colours(["red", "film", "blue"]), "classification", start=start, settings=settings)
    assert lab.job.task.fresh == ("film",)
    session = lab.session(tmp_path / "trial")
    told = [event.evaluated for event in session.events() if isinstance(event, EpochSaved)]
    session.close()
    best = max(told, key=lambda one: (one.primary, -one.loss))
    assert best.primary > 0.5
    assert session.bundle is not None
    bundle = read_bundle(session.bundle)
    assert bundle.record.num_trained > 3 * 32 + 3 or name == "probe", "the artifact's, not the pass's"
    tensors, places = bundle.tensors(), {label: row for row, label in enumerate(bundle.record.labels)}
    for key, before in start.tensors.items():
        now = tensors[key]
        if key.startswith("head."):
            now = now[[places[label] for label in start.labels]]
        assert torch.equal(now, before), key
    # What is written answers as what was validated.
    model, task = bundle_model(lab.base, lab.checkpoint, bundle)
    rows, encoded = lab.job.dataset.validation.rows, lab.job.encoded["validation"]
    answers = answer(model, task, rows, encoded, settings.engine, 0)
    release(model, method)
    assert task.score(rows, answers).primary == pytest.approx(best.primary)


def test_it_learns_new_types_of_entities_beside_old_ones(lab: "Lab", tmp_path: Path) -> None:
    def tagged(words: Sequence[str]) -> list[dict[str, Any]]:
        sentences = [f"the {words[i % len(words)]} was in the book {i}".split() for i in range(96)]
        return [{"tokens": one, "tags": [TAGS.get(word, "O") for word in one]} for one in sentences]

    grown(lab, [], tagged(["paris", "book"]), "tagging")
    start = champion_of(lab, tmp_path / "champion", lab.job.settings.method)
    settings = replace(lab.job.settings, engine=replace(lab.job.settings.engine, learning_rate=0.1, epochs=6))
    grown(lab, start.labels, tagged(["paris", "film", "film"]), "tagging", start=start, settings=settings)
    session = lab.session(tmp_path / "trial")
    told = [event.evaluated for event in session.events() if isinstance(event, EpochSaved)]
    session.close()
    assert max(one.primary for one in told) > 0.6
    assert session.bundle is not None
    tensors, labels = read_bundle(session.bundle).tensors(), lab.job.task.labels
    for label, before in zip(start.labels, start.tensors["head.linear.weight"], strict=True):
        assert torch.equal(tensors["head.linear.weight"][labels.index(label)], before)


def test_an_output_that_was_never_taught_is_trained_like_a_new_one(lab: "Lab", tmp_path: Path) -> None:
    listed = ["red", "blue", "film"]
    grown(lab, [], colours(["red", "blue"]), "classification", labels=listed)
    start = champion_of(lab, tmp_path / "champion", lab.job.settings.method)
    assert list(start.labels) == listed
    settings = replace(lab.job.settings, engine=replace(lab.job.settings.engine, learning_rate=0.05))
    rows = colours(["red", "film", "blue"])
    grown(lab, ["red", "blue"], rows, "classification", labels=listed, start=start, settings=settings)
    assert lab.job.task.fresh == ("film",)
    session = lab.session(tmp_path / "trial")
    told = [event.evaluated for event in session.events() if isinstance(event, EpochSaved)]
    session.close()
    assert max(one.primary for one in told) > 0.5
    assert session.bundle is not None
    now, before = read_bundle(session.bundle).tensors()["head.linear.weight"], start.tensors["head.linear.weight"]
    assert torch.equal(now[:2], before[:2]) and not torch.equal(now[2], before[2])


def test_new_outputs_are_held_back_as_far_as_a_fortieth_of_their_rows_allows() -> None:
    model: Any = nn.Module()
    model.head = nn.Module()
    margins = np.linspace(0.1, 8.0, 80)  # of rows that a new output wins; two of them may be lost
    logits = np.stack([np.zeros(80), margins], axis=1).astype(np.float32)
    held = held_back(model, ["old", "new"], ["new"], ["new"] * 80, logits)
    assert held.tolist() == [0.0, 0.25] and (margins <= 0.25).sum() == 2 and (margins <= 0.5).sum() > 2
    assert model.head.held.tolist() == [0.0, 0.25]
    # Rows of the past do not count, nor does anything where no row has a new label.
    more = np.concatenate([logits, np.tile(np.array([[0.0, 1.0]], np.float32), (50, 1))])
    assert held_back(model, ["old", "new"], ["new"], [*["new"] * 80, *["old"] * 50], more).tolist() == [0.0, 0.25]
    assert held_back(model, ["old", "new"], ["new"], ["old"] * 80, logits).tolist() == [0.0, 0.0]
