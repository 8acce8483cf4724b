"""Resident checkpoints of every family, tiny and random, and bundles on them, for tests of the bank."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PreTrainedTokenizerBase

from pipeline.config import CheckpointConfig, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint, Resident
from pipeline.core.engine.assemble import fresh_model, release
from pipeline.core.engine.bundle import Bundle, read_bundle
from pipeline.core.tasks.kinds import restore
from tests import bundles
from tests.families import make


def resident(
    family: str, tokenizer: PreTrainedTokenizerBase, model_class: Any = AutoModel, **changes: object
) -> Resident:
    """A random model of the family, and a tokenizer whose padding it knows."""
    base = make(family, model_class, vocab_size=len(tokenizer), **changes)
    if family in ("roberta", "xlm-roberta"):  # which tell padding by its id
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(base.config.pad_token_id)
    checkpoint = Checkpoint(
        config=CheckpointConfig(name=family, source="path", location="."),
        folder=Path(),
        sha256="0" * 64,
        architecture=base.config,
        has_lm_head=model_class is not AutoModel,
    )
    return Resident(checkpoint=checkpoint, tokenizer=tokenizer, base=base)


def bundle(
    on: Resident, folder: Path, task: TaskConfig, labels: Sequence[str], method: MethodConfig, seed: int
) -> Bundle:
    """A bundle with random weights, large enough to tell adapters by their answers."""
    built = restore(task, labels, method.virtual_tokens)
    model = fresh_model(on.base, on.checkpoint, built, method, bundles.ENGINE, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.empty_like(parameter).normal_(std=0.3, generator=generator))
    bundles.write(folder, model, checkpoint=on.checkpoint, task=task, labels=labels, method=method, seed=seed)
    release(model, method)
    return read_bundle(folder)
