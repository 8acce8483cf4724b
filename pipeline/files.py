"""A file or folder that is there whole, or not at all: filled beside its place, and renamed into it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import BundleError, fault


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to be filled, beside `folder`, and rename it into its place when the block has ended well.

    Raises:
        BundleError: Something is there already.
    """
    if folder.exists():
        raise BundleError(fault(folder, "", "is there already", "Give another folder, or remove this one"))
    draft = _draft(folder)
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        yield draft
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def new_file(file: Path) -> Iterator[Path]:
    """Yield a path to be written to, beside `file`, which it replaces when the block has ended well.

    What is written is not forced to the disk: it survives the death of the process, not a power cut.
    """
    draft = _draft(file)
    try:
        yield draft
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)


def _draft(place: Path) -> Path:
    """Hidden, so that nobody who lists the folder takes it for the thing itself."""
    return place.with_name(f".{place.name}.{os.getpid()}")
