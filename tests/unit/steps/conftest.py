"""A tiny checkpoint in memory."""

import pytest

from pipeline.core.adapters.checkpoint import Resident
from tests.conftest import TinyBert
from tests.tiny import tiny_checkpoint


@pytest.fixture
def resident(tiny_bert: TinyBert, tmp_path_factory: pytest.TempPathFactory) -> Resident:
    base, tokenizer = tiny_bert()
    checkpoint = tiny_checkpoint(base, tokenizer, tmp_path_factory.mktemp("checkpoint"))
    return Resident(checkpoint=checkpoint, tokenizer=tokenizer, base=base)
