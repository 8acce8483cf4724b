"""What readers are fed by hypothesis: the same examples in each run, as many as fit into a second or two."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

bounded = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=5_000,  # milliseconds for one example: a reader takes no longer
    suppress_health_check=list(HealthCheck),
)

texts = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(["", "\ud83d", "a\x00b", "\u202e", "1e999"])
"""Half of a surrogate pair too, as JSON may have it."""
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
"""Anything that JSON can be, and what Python takes for it: NaN, numbers of any size."""
DEEP = "[" * 100_000


def written(value: Any) -> bytes:
    """JSON in UTF-8, with what is no character escaped."""
    return json.dumps(value).encode()


@st.composite
def spoiled(draw: st.DrawFn, good: bytes) -> bytes:
    """A file that was good: cut off, with bytes changed, put in, or taken out."""
    content = bytearray(good)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(start + draw(st.integers(0, 12)), len(content))
        content[start:end] = draw(st.binary(max_size=12))
    return bytes(content[: draw(st.integers(0, len(content)))]) if draw(st.booleans()) else bytes(content)


def one_of(data: st.DataObject, whole: Mapping[Path, bytes]) -> Path:
    """Give all files of a folder their good contents back, and choose the one that is spoiled next."""
    for file, content in whole.items():
        file.write_bytes(content)
    return data.draw(st.sampled_from(sorted(whole)))
