"""Any folder of AdapterHub at all: it is read, or refused by one clear error; no pickle is run."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import BundleError, ConfigError
from pipeline.interop.adapterhub import Shape, read
from tests.foreign import changed
from tests.fuzz import DEEP, bounded, one_of, spoiled, values, written


def test_a_folder_of_which_a_file_was_spoiled(tmp_path: Path, bert: Shape) -> None:
    folder = changed(tmp_path)
    whole = {file: file.read_bytes() for file in folder.iterdir()}
    records = {file: json.loads(content) for file, content in whole.items() if file.suffix == ".json"}
    read(folder, bert)

    @bounded
    @given(data=st.data())
    def spoil(data: st.DataObject) -> None:
        file = one_of(data, whole)
        contents = spoiled(whole[file])
        if file in records:
            record, inner = records[file], records[file].get("config") or {}
            outer = st.builds(lambda key, value: {**record, key: value}, st.sampled_from(sorted(record)), values)
            contents |= outer.map(written) | values.map(written) | st.just(DEEP.encode())
            if inner:
                key = st.sampled_from(sorted(inner))
                config = st.builds(lambda key, value: {**record, "config": {**inner, key: value}}, key, values)
                contents |= config.map(written)
        file.write_bytes(data.draw(contents))
        try:
            read(folder, bert)
        except (BundleError, ConfigError) as error:
            assert error.faults

    spoil()
