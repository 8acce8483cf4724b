"""What is kept below the adapters is the same bits whenever it is computed, and training with it the same training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pipeline.config import EngineConfig, MethodConfig, TaskConfig
from pipeline.core.adapters.dropout import Dropout
from pipeline.core.engine.assemble import fresh_model, release
from pipeline.core.engine.events import EpochSaved
from pipeline.core.engine.precision import precision
from pipeline.core.engine.prefix import Prefix, digest_of
from pipeline.core.engine.session import Session
from pipeline.core.engine.shelf import Shelf
from pipeline.core.engine.trials import trial_of
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.model import KEPT, TaskModel
from pipeline.core.tasks.task import Encoded

if TYPE_CHECKING:
    from conftest import Lab  # type: ignore[import-not-found]

ENGINE = EngineConfig(precision="float32", head_dropout=0.0)
SHORT, LONG = "a good film", "the dull book was not good at all and the song was poor"
OPTIONS = {"question": "which one of the two is wet", "options": ["fire", "wind", "the water"], "answer": 2}
KINDS: dict[str, tuple[str, dict[str, Any], list[dict[str, Any]]]] = {
    "classification": ("classification", {}, [{"text": SHORT, "label": "b"}, {"text": LONG, "label": "a"}]),
    "multi_label": ("multi_label", {}, [{"text": SHORT, "labels": ["b"]}, {"text": LONG, "labels": []}]),
    "regression": ("regression", {}, [{"text": SHORT, "score": 1.0}, {"text": LONG, "score": 3.0}]),
    "tagging": ("tagging", {}, [{"tokens": ["anna", "saw", "oslo"], "tags": ["B-x", "O", "B-x"]}]),
    "joint": ("multiple_choice", {"scoring": "joint"}, [OPTIONS, {**OPTIONS, "options": ["hot", "dry"], "answer": 0}]),
    "dual": ("multiple_choice", {"scoring": "dual"}, [OPTIONS, {**OPTIONS, "options": ["hot", "dry"], "answer": 0}]),
    "extractive_qa": (
        "extractive_qa",
        {},
        [
            {
                "question": "who met carl",
                "context": " ".join(["anna saw the film in the city"] * 6),
                "answers": {"text": ["anna"], "answer_start": [0]},
            }
        ],
    ),
}
LABELS = {"classification": ["a", "b"], "multi_label": ["a", "b"], "tagging": ["O", "B-x", "I-x"]}


@pytest.fixture
def double() -> Iterator[None]:
    """Heads and adapters are made in the precision of the base."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def prefix(lab: Lab, folder: Path) -> Prefix:
    assert lab.tokenizer.pad_token_id is not None
    return Prefix(Shelf(folder, 2**30), lab.checkpoint, lab.tokenizer.pad_token_id)


def kept(encoded: Encoded) -> dict[str, list[torch.Tensor]]:
    return {digest_of(example): [one.clone() for one in example[KEPT]] for example in encoded.examples}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["pfeiffer", "probe"])
@pytest.mark.usefixtures("double")
def test_every_kind_of_task_has_the_same_loss_with_what_is_kept(
    kind: str, method: str, lab: Lab, tmp_path: Path
) -> None:
    base = lab.base.double()
    name, more, rows = KINDS[kind]
    config = TaskConfig(name="t", kind=name, max_length=24, stride=8, **more)  # type: ignore[arg-type]
    task = restore(config, LABELS.get(name, ()))
    settings = (
        MethodConfig(name="probe") if method == "probe" else MethodConfig(name="pfeiffer", layers="top-1", width=3)
    )
    checkpoint = dataclasses.replace(lab.checkpoint.pooled("first"))  # the mean is taken in float32
    model = fresh_model(base, checkpoint, task, settings, ENGINE, 0)
    posed = [_row(row, config, number) for number, row in enumerate(rows)]
    encoded = task.encode(posed, lab.tokenizer)
    known = prefix(lab, tmp_path).known(model, settings, ENGINE, [encoded], pooled=task.pooled)
    assert known is not None
    batch, plain = (task.collate(part.examples, 0) for part in (known[0], encoded))
    vectors = {name: tensor for name, tensor in batch.items() if KEPT in name}
    assert vectors and all((tensor.ndim == 2) == (method == "probe" and task.pooled) for tensor in vectors.values())
    loss, whole = (task.loss(model, one)[0] for one in (batch, plain))
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(whole.item(), abs=1e-9)
    release(model, settings)


def _row(values: dict[str, Any], config: TaskConfig, number: int) -> Any:
    from pipeline.core.data.rows import make_row

    (made,) = make_row(values, config, f"rows:{number}")
    return made


def test_cold_warm_and_half_full_the_bits_are_those_of_the_row_alone(lab: Lab, tmp_path: Path) -> None:
    method = MethodConfig(name="houlsby", layers="top-1", width=3)
    model = fresh_model(lab.base, lab.checkpoint, lab.job.task, method, ENGINE, 0)
    train = lab.job.encoded["train"]

    def known(folder: str, parts: Sequence[Encoded]) -> dict[str, list[torch.Tensor]]:
        found = prefix(lab, tmp_path / folder).known(model, method, ENGINE, parts, pooled=True)
        assert found is not None
        return kept(found[0])

    def some(examples: list[Any]) -> Encoded:
        return Encoded(examples=examples, num_rows=len(examples))

    cold, warm = known("a", [train]), known("a", [train])
    known("b", [some(train.examples[1::3])])
    half = known("b", [some(train.examples[::-1])])
    alone = known("c", [some(train.examples[7:8])])
    assert cold.keys() == warm.keys() == half.keys() and len(cold) == len(train.examples)
    for digest, states in cold.items():
        for others in (warm[digest], half[digest], alone.get(digest, states)):
            assert all(torch.equal(one, other) for one, other in zip(states, others, strict=True))
    release(model, method)


def test_in_bfloat16_what_is_kept_is_what_is_computed_in_it(lab: Lab, tmp_path: Path) -> None:
    method, engine = MethodConfig(name="pfeiffer", layers="top-1", width=3), EngineConfig(precision="bfloat16")
    model = fresh_model(lab.base, lab.checkpoint, lab.job.task, method, engine, 0)
    train = lab.job.encoded["train"]
    known = prefix(lab, tmp_path).known(model, method, engine, [train], pooled=True)
    assert known is not None
    # What a norm puts out is float32 in either, and what a layer puts out is not.
    assert {tuple(one.dtype for one in states) for states in kept(known[0]).values()} == {
        (torch.float32, torch.bfloat16)
    }
    with torch.inference_mode(), precision(model.device, engine):
        ours, whole = (model.pooled(lab.job.task.collate(part.examples, 0)) for part in (known[0], train))
    assert torch.allclose(ours, whole, rtol=0, atol=0.01 * whole.abs().max().item())
    release(model, method)


def test_only_new_rows_are_computed_and_a_damaged_file_is_computed_anew(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = MethodConfig(name="probe")
    model = fresh_model(lab.base, lab.checkpoint, lab.job.task, method, ENGINE, 0)
    computed: list[int] = []
    compute = Prefix._computed

    def counted(self: Prefix, model: TaskModel, inputs: dict[str, Any]) -> Any:
        computed.append(len(inputs))
        return compute(self, model, inputs)

    monkeypatch.setattr(Prefix, "_computed", counted)
    parts = [lab.job.encoded["train"], lab.job.encoded["validation"]]
    assert prefix(lab, tmp_path).known(model, method, ENGINE, parts[:1], pooled=True)
    first = prefix(lab, tmp_path).known(model, method, ENGINE, parts, pooled=True)
    again = prefix(lab, tmp_path).known(model, method, ENGINE, parts, pooled=True)
    assert computed == [40, 12]
    assert first and again
    ours = [kept(part) for part in (*first, *again)]
    for file in tmp_path.glob("*/*.kept"):
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    mended = prefix(lab, tmp_path).known(model, method, ENGINE, parts, pooled=True)
    assert computed == [40, 12, 52]
    assert mended
    for one, other in zip(ours, 2 * [kept(part) for part in mended], strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(states[0], other[digest][0]) for digest, states in one.items())
    release(model, method)


def test_another_checkpoint_entry_or_precision_is_another_section(lab: Lab, tmp_path: Path) -> None:
    part = [lab.job.encoded["validation"]]
    sections = set()
    for checkpoint in (lab.checkpoint, dataclasses.replace(lab.checkpoint, reading="b" * 64)):
        for method in (MethodConfig(name="probe"), MethodConfig(name="lora", layers="top-1", width=2)):
            for engine in (EngineConfig(precision="float32"), EngineConfig(precision="bfloat16")):
                model = fresh_model(lab.base, checkpoint, lab.job.task, method, engine, 0)
                on = Prefix(Shelf(tmp_path, 2**30), checkpoint, 0)
                assert on.known(model, method, engine, part, pooled=True)
                release(model, method)
                sections |= {file.parent for file in tmp_path.glob("*/*.kept")}
    assert len(sections) == 8


@pytest.mark.parametrize("case", ["full", "unwritable"])
def test_where_nothing_can_be_kept_rows_are_computed_whole(case: str, lab: Lab, tmp_path: Path) -> None:
    method = MethodConfig(name="pfeiffer", layers="top-1", width=3)
    model = fresh_model(lab.base, lab.checkpoint, lab.job.task, method, ENGINE, 0)
    folder = tmp_path / "shelf"
    if case == "unwritable":
        folder.write_text("a file stands in its place")
    on = Prefix(Shelf(folder, 2**30 if case == "unwritable" else 1000), lab.checkpoint, 0)
    assert on.known(model, method, ENGINE, [lab.job.encoded["train"]], pooled=True) is None
    release(model, method)


def test_nothing_random_lies_below_the_first_adapter(lab: Lab) -> None:
    method = MethodConfig(name="houlsby", layers="top-1", width=3, dropout=0.5)
    model = fresh_model(lab.base, lab.checkpoint, lab.job.task, method, EngineConfig(), 0).train()
    random = [name for name, one in model.base.named_modules() if isinstance(one, Dropout) and one.training]
    assert random and all(name.startswith("encoder.layer.1.") and "bottleneck" in name for name in random)
    release(model, method)


def run(lab: Lab, folder: Path, on: Prefix | None, **params: object) -> list[tuple[Any, ...]]:
    changes = {key.replace("__", "."): value for key, value in params.items()}
    trial = trial_of(lab.job, 0, changes)
    session = Session(lab.base, lab.checkpoint, 0, lab.job, trial, folder, prefix=on)
    told = [event for event in session.events() if isinstance(event, EpochSaved)]
    session.close()
    losses = [loss for event in told for _, loss, _ in event.losses]
    return [(losses, [event.evaluated.primary for event in told])]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", ["houlsby", "probe"])
def test_two_epochs_are_the_same_training_to_1e9(name: str, lab: Lab, tmp_path: Path) -> None:
    lab.base.double()
    lab.checkpoint = lab.checkpoint.pooled("first")
    method = MethodConfig(name="probe") if name == "probe" else MethodConfig(name="houlsby", width=4, layers="top-1")
    lab.job = dataclasses.replace(lab.job, settings=dataclasses.replace(lab.job.settings, method=method))
    ((losses, scores),) = run(lab, tmp_path / "a", prefix(lab, tmp_path / "kept"), engine__epochs=2)
    ((whole, others),) = run(lab, tmp_path / "b", None, engine__epochs=2)
    assert losses == pytest.approx(whole, abs=1e-9) and scores == others
    assert len(losses) == 10 and losses[0] != losses[-1]


def test_a_trial_that_goes_on_with_what_is_kept_ends_like_an_undisturbed_one(lab: Lab, tmp_path: Path) -> None:
    params = {"method__layers": "top-1", "method__dropout": 0.2}
    undisturbed = run(lab, tmp_path / "a", prefix(lab, tmp_path / "kept"), **params)
    trial = trial_of(lab.job, 0, {key.replace("__", "."): value for key, value in params.items()})
    session = Session(lab.base, lab.checkpoint, 0, lab.job, trial, tmp_path / "b", prefix=prefix(lab, tmp_path / "own"))
    next(event for event in session.events() if isinstance(event, EpochSaved))
    session.close()
    ((losses, scores),) = run(lab, tmp_path / "b", prefix(lab, tmp_path / "kept"), **params)
    assert [(losses, scores)] == undisturbed
