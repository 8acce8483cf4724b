"""A batch of every kind, method, placement and width answers as each adapter alone, on every family."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from pipeline.config import MethodConfig, TaskConfig
from pipeline.core.bank.bank import Ask, Bank
from pipeline.core.bank.encoded import one_by_one
from pipeline.core.engine.assemble import bundle_model, release
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.evaluate import answer
from tests import residents
from tests.families import CONFIGS

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.core.adapters.checkpoint import Resident
    from pipeline.core.data.rows import Row
    from pipeline.core.engine.bundle import Bundle
    from pipeline.core.tasks.task import Answer
    from tests.conftest import TinyBert

pytestmark = pytest.mark.long

SHORT, LONG = "a good film", "the dull book was not good at all and the song was poor"
ASKED: dict[str, list[Any]] = {
    "classification": [SHORT, LONG],
    "multi_label": [LONG, SHORT],
    "regression": [SHORT, LONG],
    "tagging": ["anna saw oslo", "ben went to the capital of norway"],
    "multiple_choice": [
        {"question": "what is hot", "options": ["fire", "cold water"]},
        {"question": "which one of the two is wet", "options": ["fire", "wind", "the water"]},
    ],
    "extractive_qa": [
        {"question": "who met carl in rome", "context": "the film was good and dora met carl"},
        {"question": "who", "context": " ".join(["anna saw the film in the city"] * 8)},
    ],
}
LABELS = {
    "classification": ["bad", "fine", "good"],
    "multi_label": ["new", "old"],
    "tagging": ["O", "B-x", "I-x"],
}
ADAPTERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "mood": ("classification", {"name": "houlsby", "width": 4}, {}),
    "words": ("tagging", {"name": "houlsby", "width": 7, "activation": "gelu", "layers": "top-1"}, {}),
    "options": ("multiple_choice", {"name": "pfeiffer", "width": 3, "norms": True}, {"scoring": "dual"}),
    "span": ("extractive_qa", {"name": "pfeiffer", "width": 5}, {}),
    "joint": (
        "multiple_choice",
        {"name": "parallel", "width": 2, "scaling": "learned", "input_norm": "rms"},
        {"scoring": "joint"},
    ),
    "all": ("multi_label", {"name": "lora", "width": 3, "layers": "top-1"}, {}),
    "number": ("regression", {"name": "lora", "width": 2, "scaling": 2.0}, {}),
    "plain": ("classification", {"name": "probe"}, {}),
    "virtual": ("classification", {"name": "prompt", "width": 2}, {}),
}


def alone(on: Resident, bundle: Bundle, rows: list[Row]) -> list[Answer]:
    """As in training: attached to the base, LoRA and prompts by peft, without any other row."""
    model, task = bundle_model(on.base, on.checkpoint, bundle)
    encoded = task.encode(rows, on.tokenizer)
    answers = answer(model, task, rows, encoded, bundle.record.engine, on.tokenizer.pad_token_id)
    release(model, bundle.record.method)
    return answers


def assert_same(said: Any, wanted: Any) -> None:
    """Numbers to 1e-5, and all else as it stands there."""
    if isinstance(wanted, dict):
        assert set(said) == set(wanted)
        for key, value in wanted.items():
            assert_same(said[key], value)
    elif isinstance(wanted, list):
        assert len(said) == len(wanted)
        for one, other in zip(said, wanted, strict=True):
            assert_same(one, other)
    elif isinstance(wanted, float):
        assert said == pytest.approx(wanted, abs=1e-5)
    else:
        assert said == wanted


@pytest.mark.parametrize("family", CONFIGS)
def test_a_mixed_batch_answers_as_each_adapter_alone(family: str, tiny_bert: TinyBert, tmp_path: Path) -> None:
    on = residents.resident(family, tiny_bert()[1])
    bank, bundles, asks = Bank(on), {}, []
    for seed, (name, (kind, method, more)) in enumerate(ADAPTERS.items()):
        config = TaskConfig(name=name, kind=kind, max_length=24, stride=8, **more)  # type: ignore[arg-type]
        bundles[name] = residents.bundle(
            on, tmp_path / name, config, LABELS.get(kind, ()), MethodConfig(**method), seed
        )
        bank.admit(name, "1", bundles[name])
    rows = {name: [bank.task(name).parse_item(item) for item in ASKED[kind]] for name, (kind, *_) in ADAPTERS.items()}
    # Of some all rows were encoded before, of some a part, of others none.
    tokenizer = copy.deepcopy(on.tokenizer)
    before = {name: one_by_one(bank.task(name).encode(rows[name], tokenizer)) for name in rows}
    known = [(name, number) for place, name in enumerate(rows) for number in range(place % 3)]
    asks = [
        Ask(name, rows[name][number], encoded=before[name][number] if (name, number) in known else None)
        for number in (0, 1)
        for name in rows
    ]
    names = list(on.base.state_dict())
    said = bank.answer(asks)
    assert list(on.base.state_dict()) == names
    for name, bundle in bundles.items():
        got = [one.answer for ask, one in zip(asks, said, strict=True) if ask.name == name]
        assert_same(got, alone(on, bundle, rows[name]))


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", ["gpt2", "t5", "bart"])
def test_texts_are_written_in_one_batch_as_by_each_adapter_alone(
    family: str, beams: int, tiny_bert: TinyBert, tmp_path: Path
) -> None:
    model_class = AutoModelForCausalLM if family == "gpt2" else AutoModelForSeq2SeqLM
    tokenizer = tiny_bert()[1]
    tokenizer.eos_token = "[SEP]"
    on = residents.resident(family, tokenizer, model_class)
    bank, bundles = Bank(on), {}
    methods = [{"name": "houlsby", "width": 4}, {"name": "lora", "width": 2}, {"name": "pfeiffer", "width": 3}]
    for seed, method in enumerate(methods):
        config = TaskConfig(name="t", kind="generation", max_length=24, max_new_tokens=5, beams=beams)
        name = str(method["name"])
        bundles[name] = residents.bundle(on, tmp_path / name, config, (), MethodConfig(**method), seed)  # type: ignore[arg-type]
        bank.admit(name, "1", bundles[name])
    rows = [bank.task("lora").parse_item(text) for text in (SHORT, LONG)]
    before = one_by_one(bank.task("lora").encode(rows, copy.deepcopy(tokenizer)))
    asks = [Ask(name, row, encoded=one) for row, one in zip(rows, before, strict=True) for name in bundles]
    said = bank.answer(asks)
    wanted = {name: alone(on, bundle, rows) for name, bundle in bundles.items()}
    assert [one.answer for one in said] == [wanted[name][number] for number in (0, 1) for name in bundles]
    assert len({one.answer["text"] for one in said}) > 2


def test_lora_of_a_base_whose_attention_projects_what_all_rows_share_has_batches_of_its_own(
    tiny_bert: TinyBert, tmp_path: Path
) -> None:
    on = residents.resident("deberta-v2", tiny_bert()[1], share_att_key=True)
    bank, rows = Bank(on), []
    for seed, name in enumerate(("one", "two")):
        config = TaskConfig(name=name, kind="classification", max_length=24)
        method = MethodConfig(name="lora", width=2)
        bank.admit(name, "1", residents.bundle(on, tmp_path / name, config, ["bad", "good"], method, seed))
        rows.append(bank.task(name).parse_item(LONG))
    said = bank.answer([Ask("one", rows[0]), Ask("two", rows[1])])
    for seed, name in enumerate(("one", "two")):
        (wanted,) = alone(on, read_bundle(tmp_path / name), [rows[seed]])
        assert_same(said[seed].answer, wanted)
