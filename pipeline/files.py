"""A folder that is there whole, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import BundleError, Fault


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to be filled, beside `folder`, and rename it into its place when the block has ended well.

    Raises:
        BundleError: Something is there already.
    """
    if folder.exists():
        remedy = "Give another folder, or remove this one"
        raise BundleError(Fault(where=str(folder), value="", rule="is there already", remedy=remedy))
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        yield draft
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
