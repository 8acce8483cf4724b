import pytest
from transformers import PreTrainedModel

from pipeline.core.adapters import insert
from pipeline.core.adapters.checkpoint import build_base, load_tensors
from pipeline.interop.adapterhub import Shape
from tests.foreign import Base, checkpoint


@pytest.fixture(scope="module")
def base() -> Base:
    """Family -> its tiny model, without adapters."""
    made: dict[str, PreTrainedModel] = {}

    def make(family: str) -> PreTrainedModel:
        if family not in made:
            made[family] = build_base(checkpoint(family), load_tensors(checkpoint(family)))
        insert.undo(made[family])
        return made[family]

    return make


@pytest.fixture(scope="module")
def bert(base: Base) -> Shape:
    return Shape.of(base("bert"))
