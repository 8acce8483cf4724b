from pathlib import Path

import pytest
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from pipeline.cluster import weights
from pipeline.cluster.weights import SharedBase, SharedWeights
from pipeline.config import CheckpointConfig
from pipeline.core.adapters.anatomy import ANATOMIES
from pipeline.core.adapters.checkpoint import build_base, load_tensors, open_checkpoint
from tests.families import CONFIGS, make

LM = {"encoder": AutoModel, "decoder": AutoModelForCausalLM, "encoder-decoder": AutoModelForSeq2SeqLM}
NOT_STORED = SharedWeights(tensors=None, sha256="")


@pytest.mark.parametrize("family", CONFIGS)
def test_a_process_has_no_copy_of_a_checkpoint_that_it_maps_and_watches_all_of_a_copy(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(family, LM[ANATOMIES[family].kind]).save_pretrained(tmp_path)
    checkpoint = open_checkpoint(CheckpointConfig(name=family, source="path", location=str(tmp_path)))
    mapped = load_tensors(checkpoint)
    monkeypatch.setattr(weights, "_mapped", lambda shared: mapped)
    assert not SharedBase(checkpoint, NOT_STORED, 0, "cpu")._copies
    copied = {name: tensor.clone() for name, tensor in mapped.items()}  # as on a GPU
    monkeypatch.setattr(weights, "build_base", lambda checkpoint, tensors: build_base(checkpoint, copied))
    assert SharedBase(checkpoint, NOT_STORED, 0, "cpu")._copies.keys() == mapped.keys()
