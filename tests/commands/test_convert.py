"""`python -m jobs.convert`, as a user would call it."""

import json
import shutil
from pathlib import Path

from pipeline.core.engine.bundle import read_bundle
from tests.commands.workplace import Call
from tests.conftest import TinyBert
from tests.foreign import FIXTURES

BERT = f"checkpoint={FIXTURES / 'bert' / 'base'}"
TASK = "kind: classification\nlabels: [bad, fair, good]\n"


def test_an_adapter_becomes_a_bundle_and_the_bundle_an_adapter(call: Call, tmp_path: Path) -> None:
    own, bundle, adapter = tmp_path / "own", tmp_path / "bundle", tmp_path / "adapter"
    own.mkdir()
    (own / "opinion.yaml").write_text(TASK, "utf-8")
    source = FIXTURES / "bert" / "seq_bn"
    done = call("convert", f"source={source}", f"target={bundle}", BERT, "job=opinion/films", f"conf={own}")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "pfeiffer, width 4, relu, all 3 layers: 495 parameters",
        "Head: classification: bad, fair, good",
        f"Bundle for opinion/films on base: {bundle}",
    ]
    assert read_bundle(bundle).record.job == "opinion/films"
    done = call("convert", f"source={bundle}", f"target={adapter}", "name=probe")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[1:] == ["Head: classification", f"Adapter 'probe' for load_adapter: {adapter}"]
    written, original = (
        json.loads((folder / "adapter_config.json").read_text("utf-8")) for folder in (adapter, source)
    )
    assert {**written, "model_name": ""} == {**original, "model_name": ""}
    assert {file.name for file in adapter.iterdir()} == {file.name for file in source.iterdir()} | {"README.md"}
    card = (adapter / "README.md").read_text("utf-8")
    assert card.startswith('---\nlibrary_name: "adapter-transformers"\nlicense: "unknown"\n')
    assert 'model.set_active_adapters(model.load_adapter("adapter", use_safetensors=False))' in card


def test_a_converted_bundle_knows_the_tokenizer_of_its_checkpoint(
    call: Call, tmp_path: Path, tiny_bert: TinyBert
) -> None:
    own, base = tmp_path / "own", tmp_path / "base"
    own.mkdir()
    (own / "opinion.yaml").write_text(TASK, "utf-8")
    shutil.copytree(FIXTURES / "bert" / "base", base)
    words = ("convert", f"source={FIXTURES / 'bert' / 'seq_bn'}", f"checkpoint={base}", "job=opinion", f"conf={own}")
    assert call(*words, f"target={tmp_path / 'without'}").code == 0
    assert read_bundle(tmp_path / "without").record.checkpoint_reading == ""
    tiny_bert()[1].save_pretrained(base)
    assert call(*words, f"target={tmp_path / 'with'}").code == 0
    assert len(read_bundle(tmp_path / "with").record.checkpoint_reading) == 64


def test_a_new_head_is_told_of(call: Call, tmp_path: Path) -> None:
    source = FIXTURES / "bert" / "partial"
    done = call("convert", f"source={source}", f"target={tmp_path / 'x'}", BERT, "job=sentiment")
    assert done.code == 0
    assert done.out.splitlines()[:2] == [
        "houlsby, reduction factors 0: 2, default: 8, gelu, layers [0, 2] of 3: 762 parameters",
        "The source has no head: the bundle's is new, with random weights, and wants training.",
    ]
    method = read_bundle(tmp_path / "x").record.method
    assert (method.reduction_factor, method.scaling) == ({"0": 2.0, "default": 8.0}, "learned")


def test_what_is_missing_or_wrong_is_told_and_nothing_is_written(call: Call, tmp_path: Path) -> None:
    source, target = f"source={FIXTURES / 'bert' / 'seq_bn'}", tmp_path / "target"
    there = tmp_path / "there"
    there.mkdir()
    for arguments, message in [
        ((), "source: is missing"),
        ((source,), "target: is missing"),
        ((source, f"target={there}"), "is there already"),
        ((f"source={there}", f"target={target}"), "holds no bundle.json and no adapter_config.json"),
        ((source, f"target={target}", BERT), "job: is no task. Name the task that the adapter is for"),
        ((source, f"target={target}", BERT, "job=sentimant"), "Did you mean sentiment"),
        ((source, f"target={target}", "job=sentiment"), "hidden_size: '16' must be the checkpoint's, which is 384"),
        ((source, f"target={target}", BERT, "job=ner"), "is another kind than the head"),
        ((source, f"target={target}", BERT, "job=sentiment"), "are not the head's, which are bad, fair, good"),
        ((source, f"target={target}", "to=tflite"), "to: 'tflite' must be one of auto, bundle, adapterhub"),
        ((source, f"target={target}", "to=adapterhub"), "holds no readable bundle.json"),
    ]:
        done = call("convert", *arguments)
        assert done.code == 2, done
        assert message in done.err
        assert [*tmp_path.glob("*target*"), *there.iterdir()] == []
