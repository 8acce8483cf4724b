"""What a sweep says of the layers below its adapters."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config import ClusterConfig, MethodConfig, Range, SearchConfig
from pipeline.steps.prefix import prefix_notes
from tests.families import make


@pytest.mark.parametrize(
    ("family", "settings", "tried", "said"),
    [
        ("bert", {"name": "houlsby"}, None, []),
        ("bert", {"name": "houlsby", "layers": "top-2"}, None, ["The lowest 1 of 3 layers have no adapter"]),
        ("bert", {"name": "houlsby"}, ["all", "top-2", "top-1"], ["The lowest 1 or 2 of 3 layers have no adapter"]),
        ("bert", {"name": "probe"}, None, ["The lowest 3 of 3 layers have no adapter"]),
        ("albert", {"name": "pfeiffer", "layers": "top-1"}, None, ["The layers of albert share weights"]),
    ],
)
def test_it_says_what_is_kept_and_what_cannot_be(
    family: str, settings: dict[str, Any], tried: list[Any] | None, said: list[str]
) -> None:
    space = {"method.layers": Range(choice=tried)} if tried else {}
    job = SimpleNamespace(
        settings=SimpleNamespace(method=MethodConfig(**settings)), task=SimpleNamespace(decoding=None), space=None
    )
    config: Any = SimpleNamespace(search=SearchConfig(space=space), cluster=ClusterConfig())
    base = make(family, num_hidden_groups=3) if family == "albert" else make(family)
    prepared: Any = SimpleNamespace(base=base, jobs=[job], slots=1)
    notes = list(prefix_notes(config, prepared))
    assert len(notes) == len(said)
    assert all(note.startswith(one) for note, one in zip(notes, said, strict=True))
    config.search = SearchConfig(space={**space, "engine.learning_rate": Range(uniform=[1e-4, 1e-3])})
    for together in (ClusterConfig(pack=4), ClusterConfig(gpus_per_trial=1)):  # trials that compute it once a batch
        config.cluster = together
        assert not any("and kept" in note for note in prefix_notes(config, prepared))
    config.cluster = ClusterConfig(prefix_bytes=0)
    assert not list(prefix_notes(config, prepared))
