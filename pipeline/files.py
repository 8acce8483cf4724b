"""A file or folder that is there whole, or not at all: filled beside its place, and renamed into it.

That holds after a power cut too: `put` has the disk take the contents before the name. It costs some milliseconds a
file, which is little beside the epoch of training that a file is written for.
"""

import errno
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
        make_folder(folder.parent)
        draft.mkdir()
        yield draft
        put(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def new_file(file: Path) -> Iterator[Path]:
    """Yield a path to be written to, beside `file`, which it replaces when the block has ended well."""
    draft = _draft(file)
    try:
        yield draft
        put(draft, file)
    finally:
        draft.unlink(missing_ok=True)


def put(draft: Path, place: Path) -> None:
    """Rename a file or folder into its place; after a power cut there is all of it, or what was there before.

    A rename may reach the disk before the contents do, so these are waited for, and then the name.
    """
    sync(draft)
    os.replace(draft, place)
    _sync(place.parent)


def sync(path: Path) -> None:
    """Wait until the disk has a file, or a folder with all that is in it; what is above it is not looked at."""
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            _sync(Path(folder) / name)
        _sync(Path(folder))
    if not path.is_dir():
        _sync(path)


def sync_below(root: Path, path: Path) -> None:
    """Wait until the disk has `path` and the names of all folders that lead to it from `root`, which is above it."""
    sync(path)
    for parent in path.parents:
        if parent.is_relative_to(root):
            _sync(parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are not there, and wait until the disk has their names."""
    if not folder.is_dir():
        if folder.exists() and not folder.is_dir():  # which another process may have made meanwhile
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _draft(place: Path) -> Path:
    """Hidden, so that nobody who lists the folder takes it for the thing itself."""
    return place.with_name(f".{place.name}.{os.getpid()}")
