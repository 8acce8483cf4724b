"""What holds for a trial on every model family: trained by the engine itself, and read again by another process."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, MethodName
from pipeline.core.adapters.anatomy import ANATOMIES
from pipeline.core.adapters.checkpoint import build_base, fingerprint, load_tensors, load_tokenizer, open_checkpoint
from pipeline.core.adapters.layouts import LAYOUTS
from pipeline.core.engine.assemble import bundle_model, fresh_model, release
from pipeline.core.engine.batches import move
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.events import StepDone
from pipeline.core.engine.loop import fit
from pipeline.core.engine.precision import precision
from pipeline.core.engine.session import Session
from pipeline.core.engine.trials import Job, Settings, trial_of
from tests.families import CONFIGS, make
from tests.processes import forked

if TYPE_CHECKING:
    from conftest import Lab  # type: ignore[import-not-found]

pytestmark = pytest.mark.long

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def logits(model: Any, batch: dict[str, Tensor], arithmetic: Precision) -> Tensor:
    with torch.no_grad(), precision(DEVICE, EngineConfig(precision=arithmetic)):
        return model.eval().logits(model.pooled(batch)).cpu()  # type: ignore[no-any-return]


def read(folder: Path) -> dict[Precision, Tensor]:
    """What the bundles that `check` left in `folder` say of the batch there."""
    batch = {key: value.to(DEVICE) for key, value in torch.load(folder / "batch.pt", weights_only=True).items()}
    config = CheckpointConfig(name=folder.name, source="path", location=str(folder / "base"))
    checkpoint = open_checkpoint(config)
    base, said = build_base(checkpoint, load_tensors(checkpoint)).to(DEVICE), {}
    for arithmetic in PRECISIONS:
        bundle = read_bundle(folder / arithmetic)
        model, _ = bundle_model(base, checkpoint, bundle)
        said[arithmetic] = logits(model, batch, arithmetic)
        release(model, bundle.record.method)
    return said


def job_for(job: Job, tokenizer: PreTrainedTokenizerBase, arithmetic: Precision) -> Job:
    """The laboratory's job, tokenised again and cut short."""
    encoded = {split.name: job.task.encode(split.rows, tokenizer) for split in job.dataset.splits}
    engine = EngineConfig(epochs=1, batch_size=8, learning_rate=5e-3, precision=arithmetic)
    return replace(job, encoded=encoded, settings=Settings(method=MethodConfig(name="houlsby", width=4), engine=engine))


def check(family: str, folder: Path, lab: "Lab") -> dict[Precision, Tensor]:
    """Train a bundle in both precisions; leave them, the base and a batch in `folder`; return what the bundles say."""
    tokenizer = lab.tokenizer
    make(family, vocab_size=len(tokenizer)).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    checkpoint = open_checkpoint(CheckpointConfig(name=family, source="path", location=str(folder / "base")))
    tokenizer, tensors = load_tokenizer(checkpoint), load_tensors(checkpoint)
    base = build_base(checkpoint, tensors).to(DEVICE)
    before = fingerprint(base.state_dict())
    said: dict[Precision, Tensor] = {}
    for arithmetic in PRECISIONS:
        job = job_for(lab.job, tokenizer, arithmetic)
        settings = job.settings
        examples = job.encoded["test"].examples[:6]
        assert len({example["length"] for example in examples}) > 1, "nothing is padded"
        batch = move(job.task.collate(examples, tokenizer.pad_token_id), DEVICE)
        torch.save({key: value.cpu() for key, value in batch.items()}, folder / "batch.pt")

        probe = fresh_model(base, checkpoint, job.task, MethodConfig(name="probe"), settings.engine, seed=1)
        plain = logits(probe, batch, arithmetic)
        for layout in LAYOUTS:
            method = MethodConfig(name=cast(MethodName, layout), width=4, scaling="learned", norms=True)
            zero = fresh_model(base, checkpoint, job.task, method, settings.engine, seed=1)
            assert torch.equal(logits(zero, batch, arithmetic), plain), f"zero-initialised {layout} is not the identity"
            release(zero, method)

        session = Session(base, checkpoint, tokenizer.pad_token_id, job, trial_of(job, 0, {}), folder / "trial")
        _, step = next(fit([session.training], job.task, job.encoded["train"], tokenizer.pad_token_id, lambda _: []))
        assert isinstance(step, StepDone)
        for name, parameter in session.model.named_parameters():
            is_ours = name.startswith("graft.") or name.startswith("head.")
            assert (parameter.grad is not None) == is_ours, name
        list(session.events())
        assert session.bundle is not None
        session.bundle.rename(folder / arithmetic)
        session.close()
        for left in (folder / "trial").iterdir():
            left.unlink()
        bundle = read_bundle(folder / arithmetic)
        assert bundle.record.method.input_norm == ANATOMIES[family].input_norm, "left to what auto will mean then"
        model, _ = bundle_model(base, checkpoint, bundle)
        said[arithmetic] = logits(model, batch, arithmetic)
        release(model, bundle.record.method)
        assert not torch.equal(said[arithmetic], plain)
    assert fingerprint(base.state_dict()) == before, "training changed the checkpoint"
    return said


@pytest.fixture(scope="module")
def another() -> Iterator[ProcessPoolExecutor]:
    """Another process, which reads what this one wrote."""
    with ProcessPoolExecutor(1, mp_context=forked()) as pool:
        yield pool


@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_keeps_its_weights_begins_as_itself_and_is_read_bit_for_bit_by_another_process(
    family: str, lab: "Lab", tmp_path: Path, another: ProcessPoolExecutor
) -> None:
    """In float32 and in bfloat16; only adapter and head get gradients."""
    said = check(family, tmp_path / family, lab)
    again = another.submit(read, tmp_path / family).result()
    for arithmetic in PRECISIONS:
        assert torch.equal(again[arithmetic], said[arithmetic]), arithmetic
