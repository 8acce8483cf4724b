"""What was computed of frozen layers, kept in files that processes map into their memory; a bound in bytes holds.

    <folder>/<section>/<name>.kept    some rows that were computed together: written once, whole, and never changed
    <folder>/<section>/<number>.lock  held by whoever computes rows

A section is named by all that what is kept depends on. A file says in its header which section and which rows it has,
and of header and rows it has the sha256; one with a wrong byte, or that says it belongs elsewhere, is removed, and its
rows are computed anew. Any number of processes may read and write: a file is there whole or not at all
(`pipeline.files.new_file`), and one that is removed stays readable for those that have mapped it.
"""

import hashlib
import json
import logging
import mmap
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

import torch
from filelock import FileLock, Timeout  # which torch needs itself
from torch import Tensor

from pipeline.files import make_folder, new_file

log = logging.getLogger(__name__)

Row = tuple[Tensor, ...]
"""What is kept of a row."""

_ENDING = ".kept"
_HASH = hashlib.sha256().digest_size
_SIZE = 8  # bytes of the header's length
_ALIGN = 64  # bytes at a multiple of which a tensor begins
_LOCKS = 64
_PATIENCE_S = 600.0  # for a process that computes rows; one that was stopped in between holds its lock for ever


def own_shelf(limit: int) -> "Shelf | None":
    """What this user keeps on this node: `adapters/prefix` in the folder of caches, as the XDG Base Directory
    Specification places it. None where the limit is 0, or the user has no home."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Shelf(Path(caches) / "adapters" / "prefix", limit) if limit and os.path.isabs(caches) else None


class ShelfFullError(Exception):
    """There is no room for what is to be kept."""


@final
class Shelf:
    """The sections of a folder, which together take no more than `limit` bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._sections: dict[str, Section] = {}

    def section(self, key: Mapping[str, Any]) -> "Section":
        """The section of what depends on nothing but the key."""
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        if name not in self._sections:
            self._sections[name] = Section(self, name)
        return self._sections[name]

    def make_room(self, wanted: int, keep: Collection[Path]) -> None:
        """Remove what was not used for longest, until so many bytes fit beside the rest.

        Args:
            keep: Files that are used now.

        Raises:
            ShelfFullError: They do not fit.
        """
        found = []
        for file in self.folder.glob(f"*/*{_ENDING}*"):  # with what writers have begun: a killed one leaves that
            with suppress(FileNotFoundError):  # another process has removed it
                stat = file.stat()
                found.append((stat.st_mtime_ns, stat.st_size, file))
        excess = sum(size for _, size, _ in found) + wanted - self.limit
        for _, size, file in sorted(found):
            if excess <= 0:
                return
            if file not in keep:
                file.unlink(missing_ok=True)
                excess -= size
        if excess > 0:
            raise ShelfFullError


@final
class Section:
    """Rows of one kind, by their digests."""

    def __init__(self, shelf: Shelf, name: str) -> None:
        self._shelf, self.name, self.folder = shelf, name, shelf.folder / name
        self.rows: dict[str, Row] = {}
        """Those that were found, in mapped memory."""
        self._headers: dict[Path, dict[str, Any]] = {}
        self._mapped: set[Path] = set()

    def let_go(self, wanted: Collection[str]) -> None:
        """Unmap the files that have none of these rows."""
        for file in [file for file in self._mapped if self._headers[file]["rows"].keys().isdisjoint(wanted)]:
            self._mapped.remove(file)
            for digest in self._headers[file]["rows"]:
                self.rows.pop(digest, None)

    def look(self, wanted: Collection[str]) -> list[str]:
        """Map the files that have some of these rows; return the rows that none has."""
        missing = [digest for digest in wanted if digest not in self.rows]
        for file in sorted(self.folder.glob(f"*{_ENDING}")) if missing else ():
            if file not in self._headers and (header := _header(file, self.name)):
                self._headers[file] = header
        for file, header in list(self._headers.items()) if missing else ():
            if file in self._mapped or header["rows"].keys().isdisjoint(missing):
                continue
            rows = _rows(file, header)
            if rows is None:
                del self._headers[file]
            else:
                self.rows |= rows
                self._mapped.add(file)
        return [digest for digest in missing if digest not in self.rows]

    def touch(self) -> None:
        """Say that what is mapped of the section is in use: it is removed last."""
        for file in self._mapped:
            with suppress(OSError):
                os.utime(file)

    @contextmanager
    def claimed(self, number: int, *, wait: bool) -> Iterator[bool]:
        """Let nobody else compute what is told by this number meanwhile; false if somebody does, and `wait` is not."""
        if not self.folder.is_dir():
            make_folder(self.folder)
            self._shelf.folder.chmod(0o700)  # what is kept is made of the rows' texts
        lock = FileLock(self.folder / f"{number % _LOCKS}.lock")
        try:
            lock.acquire(timeout=_PATIENCE_S if wait else 0)
        except Timeout:
            yield wait  # after so long it is computed twice, rather than never
            return
        try:
            yield True
        finally:
            lock.release()

    def put(self, rows: Mapping[str, Row]) -> None:
        """Write rows, on the CPU, into a file, and take them in.

        Raises:
            ShelfFullError: There is no room for them.
            OSError: They cannot be written.
        """
        placed, body = _laid_out(rows)
        described = {"section": self.name, "sha256": hashlib.sha256(body).hexdigest(), "rows": placed}
        header = json.dumps(described, sort_keys=True).encode()
        header += b" " * (-(len(header) + _HASH + _SIZE) % _ALIGN)  # the body begins at a multiple, too
        start = len(header).to_bytes(_SIZE, "little") + header
        digest = hashlib.sha256(start).digest()
        file = self.folder / f"{hashlib.sha256(digest + body).hexdigest()[:32]}{_ENDING}"
        with FileLock(self._shelf.folder / "room.lock"):  # or two would find the same room
            self._shelf.make_room(len(start) + _HASH + len(body), self._mapped)
            with new_file(file) as draft, draft.open("wb") as stream:
                for part in (digest, start, body):
                    stream.write(part)
        if self.look(list(rows)):  # others needed the room at once
            raise ShelfFullError


def _laid_out(rows: Mapping[str, Row]) -> tuple[dict[str, Any], bytearray]:
    """Digest -> type, shape and place of each tensor; and their bytes."""
    placed: dict[str, Any] = {}
    body = bytearray()
    for digest, row in rows.items():
        placed[digest] = []
        for tensor in row:
            placed[digest].append([str(tensor.dtype).removeprefix("torch."), list(tensor.shape), len(body)])
            body += tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
            body += bytes(-len(body) % _ALIGN)
    return placed, body


def _header(file: Path, section: str) -> dict[str, Any] | None:
    """Read what a file of the section says that it has; remove it if that is not whole, or not for the section."""
    try:
        with file.open("rb") as stream:
            digest, size = stream.read(_HASH), stream.read(_SIZE)
            text = stream.read(min(int.from_bytes(size, "little"), file.stat().st_size))
    except FileNotFoundError:  # another process has removed it
        return None
    if hashlib.sha256(size + text).digest() == digest:
        header: dict[str, Any] = json.loads(text)
        header["start"] = _HASH + _SIZE + len(text)
        if header["section"] == section:
            return header
    _refuse(file)
    return None


def _rows(file: Path, header: Mapping[str, Any]) -> dict[str, Row] | None:
    """Map the rows of a file; None, and no file any more, if they are not as they were written."""
    try:
        with file.open("rb") as stream:
            memory = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)  # for torch, which would warn of read-only
    except (FileNotFoundError, ValueError):  # removed by another process, or empty by now
        return None
    start: int = header["start"]
    if hashlib.sha256(memoryview(memory)[start:]).hexdigest() != header["sha256"]:
        _refuse(file)
        return None
    return {
        digest: tuple(_tensor(memory, getattr(torch, dtype), shape, start + place) for dtype, shape, place in row)
        for digest, row in header["rows"].items()
    }


def _tensor(memory: mmap.mmap, dtype: torch.dtype, shape: Sequence[int], offset: int) -> Tensor:
    count = torch.Size(shape).numel()
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=offset).view(shape)


def _refuse(file: Path) -> None:
    log.warning("%s is damaged, or not of its folder: what it had is computed anew", file)
    file.unlink(missing_ok=True)
