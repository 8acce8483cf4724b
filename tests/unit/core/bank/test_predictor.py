import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import load_checkpoint, load_tokenizer, open_checkpoint
from pipeline.core.bank.predictor import Predictor
from pipeline.core.engine.assemble import fresh_model, release
from pipeline.core.engine.bundle import Bundle, read_bundle
from pipeline.core.tasks.kinds import restore
from pipeline.errors import BundleError, DataError
from tests import bundles, residents

LABELS = {"mood": ["bad", "fine", "good"], "place": ["norway", "italy"]}


@pytest.fixture
def predictor(tiny_bert: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]], tmp_path: Path) -> Predictor:
    """A predictor on a checkpoint on disk, and beside it two bundles with random weights."""
    base, tokenizer = tiny_bert()
    base.save_pretrained(tmp_path / "checkpoint")
    tokenizer.save_pretrained(tmp_path / "checkpoint")
    config = CheckpointConfig(name="tiny", source="path", location=str(tmp_path / "checkpoint"))
    made = Predictor(load_checkpoint(open_checkpoint(config)))
    checkpoint = made.resident.checkpoint
    for seed, (name, labels) in enumerate(LABELS.items()):
        task = restore(TaskConfig(name=name, kind="classification"), labels)
        method, engine = MethodConfig(name="houlsby", width=4 + seed, init="bert"), EngineConfig()
        model = fresh_model(made.resident.base, checkpoint, task, method, engine, seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(seed))
        bundles.write(
            tmp_path / name,
            model,
            checkpoint=checkpoint,
            task=task.config,
            labels=labels,
            method=method,
            seed=seed,
        )
        release(model, method)
    return made


def test_bundles_of_different_widths_take_turns_on_one_base(predictor: Predictor, tmp_path: Path) -> None:
    texts = ["the film was good", "anna went to oslo", "cold water"]
    alone = {name: predictor.predict(read_bundle(tmp_path / name), texts) for name in LABELS}
    assert {answer["label"] for answer in alone["mood"]} <= set(LABELS["mood"])
    for name in ("place", "mood", "place"):
        assert predictor.predict(read_bundle(tmp_path / name), texts) == alone[name]


def test_a_fresh_predictor_gives_the_same_answers(predictor: Predictor, tmp_path: Path) -> None:
    texts = ["the film was good", "anna went to oslo"]
    fresh = Predictor(load_checkpoint(predictor.resident.checkpoint))
    assert fresh.resident.base is not predictor.resident.base
    assert fresh.predict(read_bundle(tmp_path / "mood"), texts) == predictor.predict(
        read_bundle(tmp_path / "mood"), texts
    )


def test_answers_hardly_depend_on_what_else_is_in_the_batch(predictor: Predictor, tmp_path: Path) -> None:
    """Padding changes the order of sums, so not bit for bit: 1e-5 in float32."""
    texts = ["good", "the the the the the the the film was awful and dull and cold"]
    together = predictor.predict(read_bundle(tmp_path / "mood"), texts)
    for text, answer in zip(texts, together, strict=True):
        (alone,) = predictor.predict(read_bundle(tmp_path / "mood"), [text])
        assert alone["scores"] == pytest.approx(answer["scores"], abs=1e-5)


@pytest.mark.parametrize("name", ["mood", "full"])
def test_a_machine_without_bfloat16_answers_in_float32(
    predictor: Predictor, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that shares the checkpoint, and one with all weights of its own."""
    texts = ["the film was good", "anna went to oslo"]
    bundle = read_bundle(tmp_path / "mood")
    if name == "full":
        task, method = bundle.record.task, MethodConfig(name="full")
        bundle = residents.bundle(predictor.resident, tmp_path / name, task, LABELS["mood"], method, 7)

    def said(precision: Any, *, has_it: bool) -> list[Any]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_it})
        return Predictor(predictor.resident).predict(bundle.answering_in(precision), texts)

    plain = said("float32", has_it=True)
    halved = said("bfloat16", has_it=True)
    assert said("bfloat16", has_it=False) == plain != halved
    for one, other in zip(halved, plain, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=0.02)


def test_a_bad_item_is_named(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"FILE:2: has an empty text"):
        predictor.predict(read_bundle(tmp_path / "mood"), ["fine", " "], where=["FILE:1", "FILE:2"])


def test_an_answer_to_a_text_that_is_not_read_whole_says_so(predictor: Predictor, tmp_path: Path) -> None:
    said = predictor.predict(read_bundle(tmp_path / "mood"), ["good", "good " * 80])
    assert [answer.get("truncated") for answer in said] == [None, True]


def test_nothing_asked_is_nothing_answered(predictor: Predictor, tmp_path: Path) -> None:
    assert predictor.predict(read_bundle(tmp_path / "mood"), []) == []


def test_the_tokenizer_is_the_checkpoints_own(predictor: Predictor) -> None:
    assert load_tokenizer(predictor.resident.checkpoint).get_vocab() == predictor.resident.tokenizer.get_vocab()


@pytest.mark.filterwarnings("error")
def test_threads_that_ask_at_once_get_the_answers_that_they_get_alone(predictor: Predictor, tmp_path: Path) -> None:
    texts = ["the film was good", "anna went to oslo", "cold water"]
    read = {name: read_bundle(tmp_path / name) for name in LABELS}
    alone = {name: predictor.predict(bundle, texts) for name, bundle in read.items()}
    other = Predictor(predictor.resident)  # as a scorer beside it has one
    with ThreadPoolExecutor(4) as threads:
        asked = [(name, one) for name in LABELS for one in (predictor, other)] * 6
        got = list(threads.map(lambda ask: ask[1].predict(read[ask[0]], texts), asked))
    assert got == [alone[name] for name, _ in asked]


def test_a_bundle_whose_weights_are_anothers_is_refused_and_the_next_one_is_answered_with(
    predictor: Predictor, tmp_path: Path
) -> None:
    """The checksum is right: somebody made the folder from two."""
    good = predictor.predict(read_bundle(tmp_path / "mood"), ["good"])
    weights = save(load_file(tmp_path / "mood" / "weights.safetensors"))
    record = replace(read_bundle(tmp_path / "place").record, weights_sha256=hashlib.sha256(weights).hexdigest())
    (tmp_path / "place" / "weights.safetensors").write_bytes(weights)
    bad = Bundle(folder=tmp_path / "place", record=record)
    with pytest.raises(BundleError, match=r"has weights that do not belong to its bundle\.json"):
        predictor.predict(bad, ["good"])
    assert predictor.predict(read_bundle(tmp_path / "mood"), ["good"]) == good


def test_a_bundle_of_all_weights_answers_from_a_copy_of_its_own(predictor: Predictor, tmp_path: Path) -> None:
    good, task = read_bundle(tmp_path / "mood"), TaskConfig(name="mood", kind="classification")
    before = predictor.predict(good, ["good"])
    full = residents.bundle(predictor.resident, tmp_path / "full", task, LABELS["mood"], MethodConfig(name="full"), 7)
    (said,) = predictor.predict(full, ["good"])
    assert predictor.predict(full, ["good", "good " * 80])[1]["truncated"]
    assert said["scores"] != before[0]["scores"]
    assert predictor.predict(good, ["good"]) == before
