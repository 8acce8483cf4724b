"""Any bundle at all: it is read, or refused by one clear error."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, TaskConfig
from pipeline.core.engine.bundle import BundleRecord, read_bundle, write_bundle
from pipeline.errors import BundleError
from tests.fuzz import DEEP, bounded, one_of, spoiled, values, written

pytestmark = pytest.mark.long

RECORD = BundleRecord(
    job="t/d",
    task=TaskConfig(name="t", kind="classification"),
    labels=["a", "b"],
    method=MethodConfig(name="pfeiffer"),
    engine=EngineConfig(),
    checkpoint=CheckpointConfig(name="c", source="path", location="x"),
    checkpoint_sha256="0",
    seed=0,
    epoch=1,
    validation={},
    data={},
    num_trained=1,
    num_checkpoint=1,
)


def test_a_bundle_of_which_a_file_was_spoiled(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_bundle(folder, RECORD, {"head.weight": torch.zeros(2, 4)})
    whole = {file: file.read_bytes() for file in folder.iterdir()}
    described = json.loads(whole[folder / "bundle.json"])

    @bounded
    @given(data=st.data())
    def spoil(data: st.DataObject) -> None:
        file = one_of(data, whole)
        one = st.sampled_from(sorted(described))
        changed = st.builds(lambda key, value: written({**described, key: value}), one, values)
        other = changed | values.map(written) | st.just(DEEP.encode())
        content = data.draw(spoiled(whole[file]) | (other if file.suffix == ".json" else st.nothing()))
        file.write_bytes(content)
        try:
            read_bundle(folder).tensors()
        except BundleError as error:
            assert error.faults

    spoil()


def test_weights_of_any_bytes_with_the_right_checksum(tmp_path: Path) -> None:
    """Whoever makes a bundle makes its checksum too."""
    folder = tmp_path / "bundle"
    write_bundle(folder, RECORD, {"head.weight": torch.zeros(2, 4)})
    weights, file = folder / "weights.safetensors", folder / "bundle.json"
    whole, described = weights.read_bytes(), json.loads(file.read_bytes())

    @bounded
    @given(content=spoiled(whole) | st.binary(max_size=64))
    def spoil(content: bytes) -> None:
        weights.write_bytes(content)
        made: dict[str, Any] = {**described, "weights_sha256": hashlib.sha256(content).hexdigest()}
        file.write_bytes(written(made))
        try:
            read_bundle(folder).tensors()
        except BundleError as error:
            assert error.faults

    spoil()
