"""The contract of a method, kept by each of the seven on every family."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM

from pipeline.config import MethodConfig
from pipeline.core.adapters import anatomy
from pipeline.core.adapters.checkpoint import fingerprint
from pipeline.core.methods import METHODS, lora
from pipeline.core.tasks.model import TaskModel
from pipeline.errors import ConfigError
from tests.families import CONFIGS, inputs, make

WIDE = {"width": 4}
EXTRA: Mapping[str, dict[str, Any]] = {"houlsby": WIDE | {"norms": True}, "full": {}, "probe": {}}
UNCHANGED = ("houlsby", "pfeiffer", "parallel", "lora", "full", "probe")
"""Those that begin with the checkpoint's own output."""


def config(name: str, **changes: Any) -> MethodConfig:
    return MethodConfig(name=name, **{**EXTRA.get(name, WIDE), **changes})  # type: ignore[arg-type]


def hidden(model: nn.Module, family: str) -> Tensor:
    return TaskModel(model, nn.Identity(), pooling="last").hidden(inputs(family))


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("name", METHODS)
def test_it_prepares_trains_saves_and_leaves_the_base_as_it_was(name: str, family: str) -> None:
    base = make(family)
    names, before = list(base.state_dict()), fingerprint(base.state_dict())
    with torch.no_grad():
        plain = hidden(base, family)
    method, settings = METHODS[name], config(name)  # type: ignore[index]

    model = method.attach(base, settings, 1)
    out = hidden(model, family)
    assert out.shape == plain.shape
    if name in UNCHANGED:
        # Where the position bias has a gradient, torch computes T5's attention by another kernel.
        torch.testing.assert_close(out, plain, rtol=0, atol=1e-5 if name == "full" else 0)
    else:
        assert not torch.allclose(out, plain, atol=1e-2)

    trained = [p for p in model.parameters() if p.requires_grad]
    state = method.state(model)
    assert sum(p.numel() for p in trained) == sum(t.numel() for t in state.values())
    if trained:
        torch.autograd.backward(out.pow(2).sum())
        assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
        with torch.no_grad():
            for parameter in trained:
                parameter.add_(0.1)
    with torch.no_grad():
        changed = hidden(model, family)
    kept = {key: tensor.clone() for key, tensor in method.state(model).items()}
    method.undo(model)
    assert torch.equal(hidden(base, family), plain)
    assert (list(base.state_dict()), fingerprint(base.state_dict())) == (names, before)
    assert not any(p.requires_grad for p in base.parameters())

    again = method.attach(base, settings, 2)
    method.load(again, kept)
    with torch.no_grad():
        assert torch.equal(hidden(again, family), changed)
    assert torch.equal(changed, plain) == (name == "probe")
    method.undo(again)


@pytest.mark.parametrize("name", METHODS)
def test_weights_that_have_no_place_are_refused(name: str) -> None:
    model = METHODS[name].attach(make("bert"), config(name), 1)  # type: ignore[index]
    with pytest.raises(RuntimeError):
        METHODS[name].load(model, METHODS[name].state(model) | {"surplus": torch.zeros(1)})  # type: ignore[index]


@pytest.mark.parametrize(("name", "dropped"), [("full", True), ("lora", True), ("probe", False), ("pfeiffer", False)])
def test_dropout_is_on_where_it_is_trained(name: str, dropped: bool) -> None:
    settings = config(name, dropout=0.5) if name == "lora" else config(name)
    model = METHODS[name].attach(make("bert"), settings, 1)  # type: ignore[index]
    if name == "lora":
        lora.load(model, {key: tensor + 0.1 for key, tensor in lora.state(model).items()})
    task_model = TaskModel(model, nn.Identity(), pooling="mean").train()
    once, twice = (task_model.hidden(inputs()) for _ in range(2))
    assert torch.equal(once, twice) != dropped
    task_model.eval()
    assert torch.equal(task_model.hidden(inputs()), task_model.hidden(inputs()))


def test_a_private_copy_shares_no_memory_with_the_checkpoint() -> None:
    base = make("t5")
    model = METHODS["full"].attach(base, config("full"), 1)
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in base.parameters()}


def test_lora_computes_its_formula_on_query_and_value() -> None:
    base = make("bert")
    query = base.encoder.layer[0].attention.self.query
    METHODS["lora"].attach(base, config("lora", scaling=2.0), 1)
    lora.load(base, {key: tensor + 0.1 for key, tensor in lora.state(base).items()})
    state = lora.state(base)
    a, b = (state[f"encoder.layer.0.attention.self.query.lora_{part}.weight"] for part in "AB")
    assert a.shape == (4, 16) and b.shape == (16, 4) and len(state) == 3 * 2 * 2
    x = torch.randn(5, 16)
    with torch.no_grad():
        expected = query(x) + 2.0 * x @ a.T @ b.T
        torch.testing.assert_close(base.encoder.layer[0].attention.self.query(x), expected)


def test_lora_takes_the_chosen_layers() -> None:
    base = make("bart")
    METHODS["lora"].attach(base, config("lora", layers="top-1"), 1)
    paths = {key.rpartition(".lora_")[0] for key in lora.state(base)}
    assert paths == {
        f"decoder.layers.1.{attention}.{projection}"
        for attention in ("self_attn", "encoder_attn")
        for projection in ("q_proj", "v_proj")
    }


@pytest.mark.parametrize("named", [(), ("query_of_another_family",)])
def test_lora_is_refused_where_it_has_no_place(named: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    entry = dataclasses.replace(anatomy.ANATOMIES["albert"], lora=named)  # peft knows no ALBERT
    monkeypatch.setattr(anatomy, "ANATOMIES", {**anatomy.ANATOMIES, "albert": entry})
    base = make("albert")
    base.name_or_path = "some/albert"
    with pytest.raises(ConfigError) as caught:
        METHODS["lora"].attach(base, config("lora"), 1)
    message = str(caught.value)
    assert message.startswith("method: 'lora' has no place in albert, the family of the checkpoint some/albert: ")
    assert message.endswith("in pipeline/core/adapters/anatomy.py, or choose another method.")
    assert not any(parameter.requires_grad for parameter in base.parameters())


def test_lora_sits_where_peft_puts_it() -> None:
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as THEIRS

    ours = {family: list(entry.lora) for family, entry in anatomy.ANATOMIES.items()}
    assert all(ours.values())
    assert {family: ends for family, ends in ours.items() if family in THEIRS} == {
        family: ends for family, ends in THEIRS.items() if family in ours
    }


@pytest.mark.parametrize("model_class", [AutoModel, AutoModelForCausalLM])
def test_peft_reads_what_lora_writes(model_class: Any, tmp_path: Path) -> None:
    from peft import PeftModel

    base, settings = make("llama", model_class), config("lora", scaling=2.0)
    METHODS["lora"].attach(base, settings, 1)
    lora.load(base, {key: tensor + 0.1 for key, tensor in lora.state(base).items()})
    expected, state = hidden(base, "llama"), lora.state(base)
    lora.undo(base)
    lora.save(tmp_path / "out", base, settings, state, "some/llama", card="# A card\n")
    assert (tmp_path / "out" / "README.md").read_text("utf-8") == "# A card\n"
    read = PeftModel.from_pretrained(make("llama", model_class), str(tmp_path / "out"))
    assert torch.equal(hidden(read.get_base_model(), "llama"), expected)


def test_a_prompt_begins_as_words_and_takes_positions() -> None:
    base = make("albert")
    model = METHODS["prompt"].attach(base, config("prompt", width=3), 1)
    (prompt,) = METHODS["prompt"].state(model).values()
    assert prompt.shape == (3, 8)  # the width of ALBERT's embeddings, not of its hidden states
    words = base.embeddings.word_embeddings.weight
    assert all(any(torch.equal(row, word) for word in words) for row in prompt)
    assert [config(name).virtual_tokens for name in METHODS] == [4 * (name == "prompt") for name in METHODS]


@pytest.mark.parametrize("name", ["pfeiffer", "lora", "prompt"])
def test_the_seed_decides_the_initial_weights(name: str) -> None:
    def first(seed: int) -> Tensor:
        model = METHODS[name].attach(make("bert"), config(name), seed)  # type: ignore[index]
        return next(iter(METHODS[name].state(model).values()))  # type: ignore[index]

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
