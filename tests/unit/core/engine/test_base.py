import dataclasses
from pathlib import Path

import pytest
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from pipeline.config import CheckpointConfig, Pooling
from pipeline.core.adapters.anatomy import ANATOMIES
from pipeline.core.adapters.checkpoint import build_base, load_tensors, open_checkpoint
from pipeline.core.engine import base as frozen
from pipeline.core.engine.base import SharedBase
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.trials import trial_of
from tests.conftest import TinyBert
from tests.families import CONFIGS, make
from tests.tiny import tiny_checkpoint, tiny_job

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


@pytest.mark.parametrize("pooling", [None, "first"])
def test_a_job_makes_vectors_of_texts_in_its_own_way(
    pooling: Pooling | None, tiny_bert: TinyBert, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(*tiny_bert(), tmp_path / "checkpoint")
    job = dataclasses.replace(tiny_job("mood", checkpoint), pooling=pooling)
    base = SharedBase(checkpoint, load_tensors(checkpoint), 0, "cpu")
    watched = base.session(job, trial_of(job, 0, {"engine.epochs": 1}), tmp_path / "trial")
    assert watched.session.model.pooling == (pooling or "mean")
    list(watched.events())
    watched.close()
    assert read_bundle(tmp_path / "trial" / "bundle-1").record.checkpoint.pooling == (pooling or "auto")
