"""Rows from Parquet: by the columns that are read, with the names of classes that `datasets` leaves in the file."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pipeline.core.data.columns import pick
from pipeline.core.data.readers.reading import Reading, Record, of_one_name
from pipeline.core.data.readers.text import COMPRESSIONS, misnamed, open_bytes
from pipeline.errors import DataError, fault


def read_columnar(reading: Reading) -> Iterator[Record]:
    """Read a Parquet file; rows are counted from 1."""
    import pyarrow
    from pyarrow import parquet

    path = reading.path
    try:
        if wrong := misnamed(path):
            raise DataError(wrong)
        compressed = path.suffix.lower()[1:] in COMPRESSIONS
        source = pyarrow.BufferReader(open_bytes(path).read()) if compressed else path
        with parquet.ParquetFile(source) as file:
            names = file.schema_arrow.names
            if faults := reading.columns.missing(names, str(path)):
                raise DataError(faults)
            if twice := [name for name in reading.columns.tops() if names.count(name) > 1]:
                raise DataError([fault(path, name, *of_one_name(names.count(name))) for name in sorted(twice)])
            features = _features(file.schema_arrow.metadata or {})
            places = reading.columns.places.items()
            classes = {name: found for name, place in places if (found := class_names(pick(features, place)))}
            reading.columns = replace(reading.columns, names=classes)
            wanted = [name for name in names if name in reading.columns.tops()]
            batches = file.iter_batches(columns=wanted)
            rows = (row for batch in batches for row in batch.to_pylist(maps_as_pydicts="strict"))
            yield from enumerate(rows, start=1)
    except (
        pyarrow.ArrowException,
        OSError,
        EOFError,
        ValueError,
        OverflowError,  # a year 10,000
        KeyError,  # a key twice in a map
    ) as error:
        raise reading.stop(None, f"is not valid Parquet: {error}", "Write the file again") from error


def class_names(feature: Any) -> list[str] | None:
    """The names that a column's numbers stand for, or those in its lists; `feature` is as `datasets` writes it."""
    if isinstance(feature, list) and len(feature) == 1:
        return class_names(feature[0])
    if not isinstance(feature, Mapping):
        return None
    if "feature" in feature:
        return class_names(feature["feature"])
    names = feature.get("names")
    return [str(name) for name in names] if feature.get("_type") == "ClassLabel" and names else None


def _features(metadata: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, Mapping) else {}
