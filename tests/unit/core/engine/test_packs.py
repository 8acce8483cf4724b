"""Candidates that are trained together end as each does alone: in float64 to 1e-9, as sums come in another order."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pipeline.config import MethodConfig, TaskConfig
from pipeline.core.adapters.sites import Sites
from pipeline.core.data.rows import Row, Split, make_row
from pipeline.core.engine.assemble import fresh_candidate, trained
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.evaluate import answer
from pipeline.core.engine.events import Diverged, EpochSaved, Finished, StepDone
from pipeline.core.engine.loop import Training, fit
from pipeline.core.engine.session import Session, train_together
from pipeline.core.engine.step import take_step
from pipeline.core.engine.trials import Settings, trial_of
from pipeline.core.engine.view import View, together
from pipeline.core.methods import lora
from pipeline.core.tasks.kinds import task_for
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.scores import Scores
from tests.asked import asked
from tests.families import CONFIGS, inputs, make

if TYPE_CHECKING:
    from conftest import Lab  # type: ignore[import-not-found]

Weights = dict[str, torch.Tensor]

DIFFERENT: list[dict[str, Any]] = [
    {"method.width": 4, "engine.learning_rate": 5e-3, "method.dropout": 0.2},
    {"method.width": 7, "engine.learning_rate": 2e-2, "engine.weight_decay": 0.2, "engine.head_dropout": 0.3},
    {"method.width": 2, "engine.clip_norm": 0.1, "engine.schedule": "cosine", "engine.warmup": 0.4},
]
"""Candidates that differ in all that they may differ in within a pack."""


@pytest.fixture
def doubled(lab: Lab) -> Iterator[Lab]:
    """The lab in float64, with two epochs of two batches."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    lab.base.double()
    splits = {split.name: dataclasses.replace(split, rows=split.rows[:9]) for split in lab.job.dataset.splits}
    encoded = {name: lab.job.task.encode(split.rows, lab.tokenizer) for name, split in splits.items()}
    engine = dataclasses.replace(lab.job.settings.engine, epochs=2, precision="float32")  # that is: no autocast
    settings = dataclasses.replace(lab.job.settings, engine=engine)
    dataset = dataclasses.replace(lab.job.dataset, **splits)
    lab.job = dataclasses.replace(lab.job, settings=settings, dataset=dataset, encoded=encoded)
    yield lab
    torch.set_default_dtype(before)


def opened(lab: Lab, folder: Path, candidates: list[dict[str, Any]], sites: Sites | None = None) -> list[Session]:
    sites = sites or Sites(lab.base)
    assert lab.tokenizer.pad_token_id is not None
    return [
        Session(
            lab.base,
            lab.checkpoint,
            lab.tokenizer.pad_token_id,
            lab.job,
            trial_of(lab.job, index, params),
            folder / str(index),
            sites=sites,
        )
        for index, params in enumerate(candidates)
    ]


def weights(session: Session) -> Weights:
    return {name: tensor.clone() for name, tensor in trained(session.model, session.trial.settings.method).items()}


def alone(lab: Lab, folder: Path, candidates: list[dict[str, Any]]) -> list[tuple[Weights, list[float]]]:
    """The weights and scores that each candidate ends with by itself."""
    ended = []
    for session in opened(lab, folder, candidates):
        told = [event for event in session.events() if isinstance(event, EpochSaved)]
        ended.append((weights(session), [event.evaluated.primary for event in told]))
        session.close()
    return ended


def assert_same(found: Weights, wanted: Weights) -> None:
    assert found.keys() == wanted.keys() and len(found) >= 2
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=1e-9, msg=name)


def assert_packed_is_alone(lab: Lab, folder: Path, candidates: list[dict[str, Any]]) -> None:
    """Also the scores, which are counted."""
    wanted = alone(lab, folder / "alone", candidates)
    sessions = opened(lab, folder / "packed", candidates)
    events = list(train_together(sessions, [0] * len(sessions)))
    for number, session in enumerate(sessions):
        assert_same(weights(session), wanted[number][0])
        told = [event for one, event in events if one == number and isinstance(event, EpochSaved)]
        assert [event.evaluated.primary for event in told] == wanted[number][1]
    assert sum(isinstance(event, Finished) for _, event in events) == len(candidates)
    assert all(not torch.equal(wanted[0][0]["head.linear.bias"], one["head.linear.bias"]) for one, _ in wanted[1:]), (
        "they do not differ"
    )


def with_method(lab: Lab, method: MethodConfig) -> None:
    lab.job = dataclasses.replace(lab.job, settings=Settings(method=method, engine=lab.job.settings.engine))


@pytest.mark.parametrize(
    "method",
    [
        MethodConfig(name="houlsby", width=4, init="bert", norms=True),
        MethodConfig(name="pfeiffer", width=4, layers="top-1"),
        MethodConfig(name="parallel", width=4, scaling="learned", input_norm="rms"),
        MethodConfig(name="lora", width=4, scaling=2.0),
    ],
    ids=lambda method: method.name,
)
def test_candidates_of_any_width_and_dropout_train_together_as_alone(
    method: MethodConfig, doubled: Lab, tmp_path: Path
) -> None:
    with_method(doubled, method)
    assert_packed_is_alone(doubled, tmp_path, DIFFERENT)


def test_lora_trains_as_pefts_does(doubled: Lab, tmp_path: Path) -> None:
    import peft

    method = MethodConfig(name="lora", width=4, scaling=2.0)
    with_method(doubled, method)
    (session,) = opened(doubled, tmp_path, [{}])
    begun, job, base = weights(session), doubled.job, doubled.base
    list(session.events())
    found, task, rows = weights(session), job.task, job.dataset.validation.rows
    peft.inject_adapter_in_model(lora._config(base, method), base, "default")
    model = TaskModel(base, task.head(base.config.hidden_size, 0.1), pooling="mean")
    theirs = {
        name.replace(".default.", ".").replace("base.", "adapter.", 1): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert theirs.keys() == begun.keys()
    with torch.no_grad():
        for name, parameter in theirs.items():
            parameter.copy_(begun[name])
    engine, pad = job.settings.engine, doubled.tokenizer.pad_token_id
    assert pad is not None
    training = Training(model, len(job.encoded["train"].examples), engine, session.trial.seed)

    def evaluate(numbers: Sequence[int]) -> list[Scores]:
        return [task.score(rows, answer(model, task, rows, job.encoded["validation"], engine, pad)) for _ in numbers]

    list(fit([training], task, job.encoded["train"], pad, evaluate))
    assert_same(found, {name: parameter.detach() for name, parameter in theirs.items()})


def test_in_float32_each_steps_loss_is_that_of_one_alone(lab: Lab, tmp_path: Path) -> None:
    def losses(events: Iterator[tuple[int, Any]]) -> dict[tuple[int, int], float]:
        return {(number, event.step): event.loss for number, event in events if isinstance(event, StepDone)}

    candidates = [params | {"engine.epochs": 1} for params in DIFFERENT]
    wanted: dict[tuple[int, int], float] = {}
    for number, session in enumerate(opened(lab, tmp_path / "alone", candidates)):
        wanted |= losses((number, event) for event in session.events())
    found = losses(iter(train_together(opened(lab, tmp_path / "packed", candidates), [0, 0, 0])))
    assert len(found) == 3 * 5
    assert found == pytest.approx(wanted, rel=1e-4)


def test_probes_share_all_of_the_base(doubled: Lab, tmp_path: Path) -> None:
    with_method(doubled, MethodConfig(name="probe"))
    rates = [{"engine.learning_rate": rate, "engine.head_dropout": 0.2} for rate in (1e-3, 1e-2)]
    assert_packed_is_alone(doubled, tmp_path, rates)


KINDS: dict[str, tuple[dict[str, Any], Any]] = {
    "multi_label": ({}, lambda i, text: {"text": text, "labels": [one for one in ("red", "paris") if one in text]}),
    "regression": ({}, lambda i, text: {"text": text, "score": float("red" in text) + i % 3}),
    "tagging": (
        {},
        lambda i, text: {
            "tokens": text.split(),
            "tags": ["B-place" if word in ("paris", "rome") else "O" for word in text.split()],
        },
    ),
    "multiple_choice": (
        {"scoring": "dual"},
        lambda i, text: {"question": text, "options": ["red", "blue", "green"][: 2 + i % 2], "answer": i % 2},
    ),
    "extractive_qa": (
        {},
        lambda i, text: {
            "question": "who",
            "context": text,
            "answers": {"text": ["book"], "answer_start": [text.index("book")]},
        },
    ),
}


def pose(lab: Lab, kind: Any) -> None:
    """Let the lab's job be of another kind."""
    more, values_of = KINDS[kind]
    config = TaskConfig(name="posed", kind=kind, max_length=24, **more)
    splits: dict[str, Split] = {}
    for split in lab.job.dataset.splits:
        rows = []
        for number, row in enumerate(split.rows):
            (made,) = make_row(values_of(number, row.fields["text"]), config, row.origin)
            assert isinstance(made, Row), made
            rows.append(made)
        splits[split.name] = Split(split.name, tuple(rows), split.fingerprint, None)
    dataset = dataclasses.replace(lab.job.dataset, **splits)
    task = task_for(config, dataset)
    encoded = task.encoded(dataset, lab.tokenizer)
    lab.job = dataclasses.replace(lab.job, task=task, dataset=dataset, encoded=encoded)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_trains_together_as_alone(kind: Any, doubled: Lab, tmp_path: Path) -> None:
    pose(doubled, kind)
    assert_packed_is_alone(doubled, tmp_path, DIFFERENT[:2])


METHODS = ("houlsby", "parallel", "lora")


@pytest.mark.parametrize("kind", [*METHODS, *KINDS])
def test_a_gpu_is_asked_for_the_losses_alone_and_not_before_the_whole_step_is_begun(
    kind: Any, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind in METHODS:
        with_method(lab, MethodConfig(name=kind, width=4))
    else:
        pose(lab, kind)
    weighted = [{**example, "weight": 1.0 + i} for i, example in enumerate(lab.job.encoded["train"].examples)]
    batch = lab.job.task.collate(weighted, lab.tokenizer.pad_token_id)
    for candidates in (DIFFERENT[:1], DIFFERENT):
        trainings = [session.training for session in opened(lab, tmp_path / f"{len(candidates)}", candidates)]
        with asked(monkeypatch) as told:
            for training in trainings:
                training.model.train()
                training.optimizer.register_step_post_hook(lambda *_: told.append("updated"))
            take_step(trainings, lab.job.task, batch, 1)
        assert told == [*["updated"] * len(candidates), "tolist"]


def test_a_step_whose_loss_is_not_a_number_leaves_all_as_it_was(lab: Lab, tmp_path: Path) -> None:
    good, bad = (session.training for session in opened(lab, tmp_path, DIFFERENT[:2]))
    batch = lab.job.task.collate(lab.job.encoded["train"].examples[:8], lab.tokenizer.pad_token_id)
    take_step([good, bad], lab.job.task, batch, 1)
    with torch.no_grad():
        next(bad.model.head.parameters())[0, 0] = math.inf
    weights = [p.detach().clone() for p in bad.parameters]
    before = copy.deepcopy({key: value for key, value in bad.state_dict().items() if key in ("optimizer", "schedule")})
    (fine, _), (wrong, _) = take_step([good, bad], lab.job.task, batch, 2)
    assert math.isfinite(fine) and not math.isfinite(wrong)
    assert all(torch.equal(p, old) for p, old in zip(bad.parameters, weights, strict=True))
    after = bad.state_dict()
    torch.testing.assert_close({key: after[key] for key in before}, before, rtol=0, atol=0)
    assert (good.step_in_epoch, bad.step_in_epoch) == (2, 1)


def test_one_that_diverges_fails_alone(doubled: Lab, tmp_path: Path) -> None:
    wild = {"engine.learning_rate": 1e300, "engine.clip_norm": 1e300}
    first, _, last = alone(doubled, tmp_path / "alone", [DIFFERENT[0], {}, DIFFERENT[2]])
    sessions = opened(doubled, tmp_path / "packed", [DIFFERENT[0], wild, DIFFERENT[2]])
    events = list(train_together(sessions, [0, 0, 0]))
    (diverged,) = (event for number, event in events if number == 1 and isinstance(event, Diverged))
    assert diverged.reason.startswith("the loss is ") and diverged.reason.endswith("(epoch 1)")
    assert_same(weights(sessions[0]), first[0])
    assert_same(weights(sessions[2]), last[0])


def test_a_pack_that_is_cut_off_goes_on_in_packs_of_other_sizes(doubled: Lab, tmp_path: Path) -> None:
    wanted = alone(doubled, tmp_path / "alone", DIFFERENT)
    sessions = opened(doubled, tmp_path / "packed", DIFFERENT)
    events = train_together(sessions, [0, 0, 0])
    for number, event in events:
        if isinstance(event, StepDone) and event.step == 1:
            sessions[number].save()
        if isinstance(event, StepDone) and (number, event.step) == (2, 3):
            break
    sessions[0].save()  # stands in the second epoch, where the others stand at its begin
    del events
    again = opened(doubled, tmp_path / "packed", DIFFERENT)
    list(train_together([again[0], again[2]], [0, 0]))
    list(again[1].events())
    for session, (expected, _) in zip(again, wanted, strict=True):
        assert_same(weights(session), expected)


def test_a_pack_of_one_is_alone_to_the_bit(lab: Lab, tmp_path: Path) -> None:
    ((wanted, _),) = alone(lab, tmp_path / "alone", [DIFFERENT[0] | {"engine.epochs": 1}])
    (session,) = opened(lab, tmp_path / "packed", [DIFFERENT[0] | {"engine.epochs": 1}])
    list(train_together([session], [0]))
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in weights(session).items())
    assert session.bundle is not None and read_bundle(session.bundle).record.epoch == session.training.best_epoch


def test_early_stopping_is_each_ones_own(doubled: Lab, tmp_path: Path) -> None:
    patient = {"engine.epochs": 5, "engine.learning_rate": 1e-30}  # nothing becomes better
    candidates = [patient | {"engine.patience": 1}, patient, patient | {"engine.epochs": 3}]
    sessions = opened(doubled, tmp_path, candidates)
    ends = {n: event for n, event in train_together(sessions, [0, 0, 0]) if isinstance(event, Finished)}
    assert {n: (end.epochs, end.reason) for n, end in ends.items()} == {
        0: (2, "early stopping"),
        1: (5, "all epochs done"),
        2: (3, "all epochs done"),
    }


@pytest.mark.parametrize("family", CONFIGS)
def test_on_every_family_what_lies_below_the_first_adapter_is_computed_once_and_all_else_for_each(
    family: str, lab: Lab
) -> None:
    base, ids = make(family), inputs(family)
    sites, engine = Sites(base), lab.job.settings.engine
    methods = [
        MethodConfig(name="houlsby", width=3, init="bert", layers="top-1"),
        MethodConfig(name="parallel", width=2, init="bert", layers=f"top-{min(sites.num_layers, 2)}"),
        MethodConfig(name="lora", width=2, layers="top-1"),
    ]
    views = [
        fresh_candidate(sites, lab.checkpoint, lab.job.task, one, engine, seed) for seed, one in enumerate(methods)
    ]
    for view in views:
        assert isinstance(view, View) and view.graft is not None
        for name, parameter in view.graft.named_parameters():
            torch.manual_seed(len(name))
            torch.nn.init.normal_(parameter, std=0.3)
    seen: list[int] = []
    for batch in (ids, {name: tensor[:1] for name, tensor in ids.items()}):
        seen.clear()
        lowest = sites._layers[0].register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(len(args[0] if args else kwargs["hidden_states"])),
            with_kwargs=True,
        )
        with torch.no_grad():
            wanted = [view.hidden(batch) for view in views]
            with together(views, batch):
                found = [view.hidden(batch) for view in views]
        lowest.remove()
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
        assert not torch.allclose(wanted[0], wanted[1], atol=1e-3)
        times = 1 if sites.repeats_within else 3
        assert seen[-1] == len(batch["input_ids"]) * times
    assert sites.repeats_within == (family not in ("albert", "t5", "mt5", "bart", "mbart"))


def test_where_those_that_are_behind_have_diverged_the_others_go_on_from_their_own_step(
    lab: Lab, tmp_path: Path
) -> None:
    behind, ahead = opened(lab, tmp_path, [{"method.width": 4}, {"method.width": 5}])
    events = ahead.events()
    for _ in range(3):
        next(events)
    assert [behind.training.step_in_epoch, ahead.training.step_in_epoch] == [0, 3]
    with torch.no_grad():
        next(behind.model.head.parameters()).fill_(math.nan)
    told = [(number, type(event)) for number, event in train_together([behind, ahead], [0, 0])]
    assert told.count((0, Diverged)) == 1 and told[-1] == (1, Finished)
