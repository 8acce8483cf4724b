from pathlib import Path

import pytest
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from pipeline.config import CheckpointConfig
from pipeline.core.adapters.anatomy import ANATOMIES
from pipeline.core.adapters.checkpoint import build_base, load_tensors, open_checkpoint
from pipeline.core.engine import base as frozen
from pipeline.core.engine.base import SharedBase
from tests.families import CONFIGS, make

LM = {"encoder": AutoModel, "decoder": AutoModelForCausalLM, "encoder-decoder": AutoModelForSeq2SeqLM}


@pytest.mark.parametrize("family", CONFIGS)
def test_a_process_has_no_copy_of_a_checkpoint_that_it_maps_and_watches_all_of_a_copy(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(family, LM[ANATOMIES[family].kind]).save_pretrained(tmp_path)
    checkpoint = open_checkpoint(CheckpointConfig(name=family, source="path", location=str(tmp_path)))
    mapped = load_tensors(checkpoint)
    assert not SharedBase(checkpoint, mapped, 0, "cpu")._copies
    copied = {name: tensor.clone() for name, tensor in mapped.items()}  # as on a GPU
    monkeypatch.setattr(frozen, "build_base", lambda checkpoint, tensors: build_base(checkpoint, copied))
    assert SharedBase(checkpoint, mapped, 0, "cpu")._copies.keys() == mapped.keys()
