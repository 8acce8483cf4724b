import dataclasses
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pipeline.core.adapters.checkpoint import fingerprint, reading_of
from pipeline.core.engine.assemble import bundle_model, release, trained
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.evaluate import answer
from pipeline.core.engine.events import EpochSaved, Evaluated, Finished, SnapshotSaved, StepDone
from pipeline.core.engine.session import Session, read_snapshot, test, write_snapshot
from pipeline.errors import BundleError, TrainingDiverged
from tests.powercut import PowerCut

if TYPE_CHECKING:
    from conftest import Lab  # type: ignore[import-not-found]

test.__test__ = False  # type: ignore[attr-defined]


def without_times(evaluated: Evaluated) -> dict[str, Any]:
    """All of a report that does not depend on the clock."""
    values = dataclasses.asdict(evaluated)
    return {key: value for key, value in values.items() if key not in ("train_s", "eval_s", "rows_per_s", "peak_bytes")}


def run(session: Session) -> list[Any]:
    """Train to the end; reports without times, losses, and the final weights."""
    told = [event for event in session.events() if isinstance(event, EpochSaved)]
    reports = [(without_times(event.evaluated), event.losses) for event in told]
    weights = {name: tensor.clone() for name, tensor in weights_of(session).items()}
    session.close()
    return [reports, weights]


def scores_of(events: Iterable[object]) -> list[float]:
    return [event.primary for event in events if isinstance(event, Evaluated)]


def weights_of(session: Session) -> dict[str, torch.Tensor]:
    return trained(session.model, session.trial.settings.method)


def assert_same(first: list[Any], second: list[Any]) -> None:
    assert first[0] == second[0]
    assert first[1].keys() == second[1].keys()
    for name, tensor in first[1].items():
        assert torch.equal(tensor, second[1][name]), name


def test_it_learns_and_leaves_the_checkpoint_untouched(lab: "Lab", tmp_path: Path) -> None:
    before = fingerprint(lab.base.state_dict())
    session = lab.session(tmp_path, engine__epochs=6)
    events = list(session.events())
    session.close()
    assert scores_of(events)[-1] == 1.0
    assert isinstance(events[-1], Finished) and events[-1].reason == "all epochs done"
    assert fingerprint(lab.base.state_dict()) == before


def test_the_same_seed_gives_the_same_training_bit_for_bit(lab: "Lab", tmp_path: Path) -> None:
    first = run(lab.session(tmp_path / "a", method__dropout=0.2))
    torch.manual_seed(12345)  # whatever happened in the process before
    assert_same(first, run(lab.session(tmp_path / "b", method__dropout=0.2)))


@pytest.mark.parametrize("steps", [1, 5, 7, 12])
def test_a_training_interrupted_at_any_step_ends_like_an_undisturbed_one(
    lab: "Lab", tmp_path: Path, steps: int
) -> None:
    undisturbed = run(lab.session(tmp_path / "a", method__dropout=0.2))
    session = lab.session(tmp_path / "b", method__dropout=0.2)
    next(event for event in session.events() if isinstance(event, StepDone) and event.step == steps)
    session.save()
    session.close()
    torch.manual_seed(999)
    assert_same(undisturbed, run(lab.session(tmp_path / "b", method__dropout=0.2)))


def test_an_ended_trial_is_replayed_without_training(lab: "Lab", tmp_path: Path) -> None:
    first = run(lab.session(tmp_path))
    session = lab.session(tmp_path)
    session.training.optimizer.step = None
    events = list(session.events())
    assert [type(event) for event in events] == [EpochSaved] * 3 + [Finished]
    assert [event.went_on for event in events if isinstance(event, EpochSaved)] == [True, True, False]
    assert_same(first, run(session))


def test_nothing_of_an_epoch_is_written_before_the_caller_has_taken_in_its_score(lab: "Lab", tmp_path: Path) -> None:
    session = lab.session(tmp_path)
    next(event for event in session.events() if isinstance(event, Evaluated))
    session.close()
    assert not list(tmp_path.iterdir())


def test_a_snapshot_within_an_epoch_is_told_when_it_is_there(
    lab: "Lab", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.core.engine.session._SNAPSHOT_EVERY_S", -1.0)
    session = lab.session(tmp_path, engine__epochs=1)
    told = []
    for event in session.events():
        told.append(type(event))
        if isinstance(event, SnapshotSaved):
            assert (tmp_path / f"snapshot-{told.count(SnapshotSaved)}.pt").exists()
    session.close()
    assert told == [StepDone, SnapshotSaved] * 5 + [Evaluated, EpochSaved, Finished]


def test_a_damaged_snapshot_falls_back_to_the_one_before(lab: "Lab", tmp_path: Path) -> None:
    undisturbed = run(lab.session(tmp_path / "a"))
    session = lab.session(tmp_path / "b")
    next(event for event in session.events() if isinstance(event, EpochSaved) and event.evaluated.epoch == 2)
    session.close()
    file = tmp_path / "b" / "snapshot-2.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    later = lab.session(tmp_path / "b")
    assert not file.exists()
    assert scores_of(later.events()) == [values["primary"] for values, _ in undisturbed[0][1:]]
    assert_same(undisturbed, run(later))


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_training_cut_off_by_a_power_cut_ends_like_an_undisturbed_one(
    lab: "Lab", tmp_path: Path, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(lab.session(tmp_path / "a"))
    root = tmp_path / "b"
    root.mkdir()
    cut = PowerCut(monkeypatch)
    session = lab.session(root / "trial")
    next(event for event in session.events() if isinstance(event, EpochSaved) and event.evaluated.epoch == epochs)
    session.close()
    left = cut.left(root, tmp_path / "left") / "trial"
    later = lab.session(left)
    told = [event for event in later.events(start=epochs) if isinstance(event, EpochSaved)]
    assert [event.evaluated.epoch for event in told] == list(range(epochs + 1, 4))
    later.close()
    assert_same(undisturbed, run(lab.session(left)))
    assert cut.count < 12 * 3  # an epoch: a bundle of two files, and a snapshot


@pytest.mark.parametrize("spoil", ["weights.safetensors", "bundle.json", None])
def test_a_snapshot_whose_bundle_is_gone_falls_back_to_the_one_before(
    lab: "Lab", tmp_path: Path, spoil: str | None
) -> None:
    """An earlier version did not wait for the disk: after a power cut the files of the bundle were empty."""
    undisturbed = run(lab.session(tmp_path / "a"))
    session = lab.session(tmp_path / "b")
    saved = [event for event in session.events() if isinstance(event, EpochSaved)]
    best = saved[-1].bundle
    session.close()
    assert best is not None
    if spoil is None:
        shutil.rmtree(best)
    else:
        (best / spoil).write_bytes(b"")
    later = run(lab.session(tmp_path / "b"))
    assert_same(undisturbed, later)
    assert read_bundle(best)


def test_epochs_that_the_caller_knows_are_left_out(lab: "Lab", tmp_path: Path) -> None:
    session = lab.session(tmp_path)
    next(event for event in session.events() if isinstance(event, EpochSaved))
    session.close()
    later = lab.session(tmp_path)
    told = [event for event in later.events(start=1) if isinstance(event, EpochSaved)]
    assert [(event.evaluated.epoch, event.went_on) for event in told] == [(2, False), (3, False)]
    later.close()


def test_the_bundle_holds_the_best_epoch_and_gives_bit_equal_outputs(lab: "Lab", tmp_path: Path) -> None:
    session = lab.session(tmp_path, engine__epochs=6)
    outputs = None
    for event in session.events():
        if isinstance(event, EpochSaved) and event.evaluated.best:
            outputs = answers_of(lab, session.model)
    session.close()
    assert session.bundle is not None
    bundle = read_bundle(session.bundle)
    assert bundle.record.epoch == session.training.best_epoch
    kept = {*tmp_path.glob("bundle-*")}
    assert session.bundle in kept and len(kept) <= 2  # the snapshot before the last may point to another one
    model, _ = bundle_model(lab.base, lab.checkpoint, bundle)
    assert answers_of(lab, model) == outputs
    release(model, bundle.record.method)


def answers_of(lab: "Lab", model: Any) -> Any:
    rows, encoded = lab.job.dataset.test.rows, lab.job.encoded["test"]
    return answer(model, lab.job.task, rows, encoded, lab.job.settings.engine, lab.tokenizer.pad_token_id)


def test_a_bundle_is_a_few_per_cent_of_what_it_sits_on(lab: "Lab", tmp_path: Path) -> None:
    session = lab.session(tmp_path, engine__epochs=1)
    list(session.events())
    session.close()
    assert session.bundle is not None
    record = read_bundle(session.bundle).record
    assert record.num_trained == sum(t.numel() for t in read_bundle(session.bundle).tensors().values())
    assert record.num_checkpoint == sum(p.numel() for p in lab.base.parameters())


def test_testing_scores_every_test_row_once(lab: "Lab", tmp_path: Path) -> None:
    session = lab.session(tmp_path, engine__epochs=10)
    list(session.events())
    session.close()
    assert session.bundle is not None and lab.tokenizer.pad_token_id is not None
    tested = test(lab.base, lab.checkpoint, lab.tokenizer.pad_token_id, lab.job, session.trial, session.bundle)
    assert [p["origin"] for p in tested.predictions] == [row.origin for row in lab.job.dataset.test.rows]
    right = [p["label"] == p["predicted"]["label"] for p in tested.predictions]
    assert tested.primary == sum(right) / len(right) == 1.0
    assert tested.baseline == 0.5


def test_among_epochs_of_equal_score_the_one_of_the_lowest_loss_is_best(
    lab: "Lab", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Early stopping counts from it too: a score that has not moved yet stops nothing while the loss falls."""
    shown = iter([(0.0, 0.9), (0.0, 0.8), (0.0, 0.7), (0.0, 0.7), (0.0, math.nan)])
    monkeypatch.setattr("pipeline.core.engine.session.validate", lambda *_: [SimpleNamespace(**scored(*next(shown)))])
    session = lab.session(tmp_path, engine__epochs=9, engine__patience=2)
    events = list(session.events())
    session.close()
    told = [event for event in events if isinstance(event, Evaluated)]
    assert [event.best for event in told] == [True, True, True, False, False]
    assert [event.loss for event in told] == [0.9, 0.8, 0.7, 0.7, math.inf]
    assert isinstance(events[-1], Finished)
    assert (events[-1].best_epoch, events[-1].reason) == (3, "early stopping")
    assert session.bundle == tmp_path / "bundle-3"


def scored(primary: float, loss: float) -> dict[str, Any]:
    return {"primary": primary, "loss": loss, "metrics": {"accuracy": primary}}


def after_an_epoch(lab: "Lab", folder: Path) -> tuple[Path, dict[str, Any]]:
    """The snapshot of a training that was left behind its first epoch: where it is, and what it says."""
    first = lab.session(folder)
    next(event for event in first.events() if isinstance(event, EpochSaved))
    first.close()
    (file,) = folder.glob("snapshot-*.pt")
    state = read_snapshot(file)
    assert state is not None
    return file, state


def test_a_snapshot_of_before_there_was_a_validation_loss_and_a_generator_is_gone_on_from(
    lab: "Lab", tmp_path: Path
) -> None:
    file, state = after_an_epoch(lab, tmp_path)
    del state["training"]["position"]["best_loss"], state["reports"][0][0]["loss"], state["training"]["dropout"]
    write_snapshot(file, state)
    again = lab.session(tmp_path)
    losses = [event.evaluated.loss for event in again.events() if isinstance(event, EpochSaved)]
    again.close()
    assert losses[0] == math.inf and all(math.isfinite(loss) for loss in losses[1:])


def test_a_loss_that_is_no_number_names_its_step_and_frees_the_base(lab: "Lab", tmp_path: Path) -> None:
    session = lab.session(tmp_path, engine__learning_rate=1e30, engine__clip_norm=1e30)
    with pytest.raises(TrainingDiverged, match=r"the loss is (nan|inf) at step \d+ \(epoch 1\)"):
        list(session.events())
    session.close()
    run(lab.session(tmp_path / "next"))


def test_a_bundle_of_another_checkpoint_is_refused(lab: "Lab", tmp_path: Path) -> None:
    session = lab.session(tmp_path, engine__epochs=1)
    list(session.events())
    session.close()
    other = dataclasses.replace(lab.checkpoint, sha256="b" * 64)
    assert session.bundle is not None
    with pytest.raises(BundleError, match=r"aaaaaaaaaaaaaaaa, this one is bbbbbbbbbbbbbbbb.*tiny"):
        bundle_model(lab.base, other, read_bundle(session.bundle))


def test_bfloat16_trains_in_place_of_float32(lab: "Lab", tmp_path: Path) -> None:
    session = lab.session(tmp_path, engine__precision="bfloat16", engine__epochs=6)
    scores = scores_of(session.events())
    assert all(tensor.dtype == torch.float32 for tensor in weights_of(session).values())
    session.close()
    assert scores[-1] == 1.0


def test_a_bundle_is_used_with_the_pooling_of_its_own_record(lab: "Lab", tmp_path: Path) -> None:
    rows, encoded = lab.job.dataset.test.rows, lab.job.encoded["test"]
    engine, pad = lab.job.settings.engine, lab.tokenizer.pad_token_id
    run(lab.session(tmp_path / "trial"))
    bundle = read_bundle(next((tmp_path / "trial").glob("bundle-*")))
    assert bundle.record.checkpoint.pooling == "mean"
    asked_for = dataclasses.replace(lab.checkpoint.config, pooling="first")
    answers = []
    for checkpoint in (lab.checkpoint, dataclasses.replace(lab.checkpoint, config=asked_for)):
        model, task = bundle_model(lab.base, checkpoint, bundle)
        assert model.pooling == "mean"
        answers.append(answer(model, task, rows, encoded, engine, pad))
        release(model, bundle.record.method)
    assert answers[0] == answers[1]


def test_a_bundle_knows_the_tokenizer_that_it_was_trained_with(lab: "Lab", tmp_path: Path) -> None:
    known = dataclasses.replace(lab.checkpoint, reading=reading_of(lab.tokenizer, lab.base.config))
    lab.checkpoint = known
    run(lab.session(tmp_path / "trial"))
    bundle = read_bundle(next((tmp_path / "trial").glob("bundle-*")))
    release(bundle_model(lab.base, known, bundle)[0], bundle.record.method)
    lab.tokenizer.add_tokens(["xyzzy"])
    other = dataclasses.replace(known, reading=reading_of(lab.tokenizer, lab.base.config))
    with pytest.raises(BundleError, match="the same weights and another tokenizer or config"):
        bundle_model(lab.base, other, bundle)
    config = dataclasses.replace(known, reading=reading_of(lab.tokenizer, type(lab.base.config)(hidden_act="relu")))
    assert config.reading != other.reading
    before = dataclasses.replace(bundle, record=dataclasses.replace(bundle.record, checkpoint_reading=""))
    release(bundle_model(lab.base, other, before)[0], before.record.method)  # written before it was kept


def test_a_task_that_is_answered_untrained_has_the_checkpoints_own_score_as_its_baseline(
    lab: "Lab", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(session := lab.session(tmp_path / "trial"))
    bundle = next((tmp_path / "trial").glob("bundle-*"))
    pad = lab.tokenizer.pad_token_id
    assert pad is not None
    plain = test(lab.base, lab.checkpoint, pad, lab.job, session.trial, bundle)
    assert (plain.baseline, plain.chance) == (0.5, None)
    monkeypatch.setattr(type(lab.job.task), "answers_untrained", True)
    scored = []

    def score(rows: Any, answers: Any) -> Any:
        scored.append(answers)
        return dataclasses.replace(plain_score(rows, answers), primary=(1.0, 0.7, 1.0, 0.3)[len(scored) - 1])

    plain_score = lab.job.task.score
    monkeypatch.setattr(lab.job.task, "score", score)
    tested = test(lab.base, lab.checkpoint, pad, lab.job, session.trial, bundle)
    assert (tested.primary, tested.baseline, tested.chance) == (1.0, 0.7, 0.5)
    assert scored[0] != scored[1]
    tested = test(lab.base, lab.checkpoint, pad, lab.job, session.trial, bundle)
    assert (tested.primary, tested.baseline, tested.chance) == (1.0, 0.5, None)


def test_a_snapshot_of_the_other_kind_of_device_is_gone_on_from(lab: "Lab", tmp_path: Path) -> None:
    file, state = after_an_epoch(lab, tmp_path)
    state["training"]["dropout"] = state["training"]["cuda_rng"] = torch.zeros(16, dtype=torch.uint8)  # as of a GPU
    write_snapshot(file, state)
    losses: list[list[float]] = []
    for _ in range(2):
        shutil.copytree(tmp_path, tmp_path.with_name(f"again{len(losses)}"))
        again = lab.session(tmp_path.with_name(f"again{len(losses)}"))
        losses.append([event.evaluated.loss for event in again.events() if isinstance(event, EpochSaved)])
        again.close()
    assert len(losses[0]) > 1 and losses[0] == losses[1]
