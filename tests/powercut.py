"""What a disk has after a power cut: the worst that a file system may do with what nobody has waited for.

A file has the contents that it was synced with. Of the names in a folder those are sure that were there, or were gone,
when it was synced: for what has happened since, a file system may have kept any part. Three of these stand for all.
"""

import os
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import pytest

Left = Literal["synced", "now", "least"]
"""Which names are left: those of the last sync, so that what was deleted is back; those that are there now, so that
there are files without contents; or only what both have, so that the new is lost and the deleted is gone."""
_Names = Mapping[str, tuple[int, bool]]
"""Name in a folder -> inode, and whether it is a folder."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """What is on the disk at one moment below one folder, whose own name is there."""

    root: int
    contents: Mapping[int, bytes]
    synced: Mapping[int, _Names]
    now: Mapping[int, _Names]

    def files(self, left: Left) -> dict[str, bytes | None]:
        """What a power cut leaves: path below the root -> contents; None for a folder, which comes before its files."""
        found: dict[str, bytes | None] = {}

        def walk(inode: int, path: str) -> None:
            for name, (inner, is_folder) in sorted(self._names(inode, left).items()):
                found[path + name] = None if is_folder else self.contents.get(inner, b"")
                if is_folder:
                    walk(inner, f"{path}{name}/")

        walk(self.root, "")
        return found

    def _names(self, inode: int, left: Left) -> _Names:
        synced, now = self.synced.get(inode, {}), self.now.get(inode, {})
        if left == "least":
            return {name: found for name, found in now.items() if name in synced}
        return synced if left == "synced" else now


@final
class PowerCut:
    """Watches `os.fsync`, also of several threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, before: Callable[[Path], None] | None = None) -> None:
        """Begin to watch.

        Args:
            monkeypatch: Ends it.
            before: Called with what is about to be synced; nothing else is synced meanwhile.
        """
        self._contents: dict[int, bytes] = {}
        self._synced: dict[int, _Names] = {}
        self._before = before
        self._lock = threading.RLock()
        self._held: dict[int, int] = {}
        """Inode -> a descriptor: the number of what is open is given to no other file, even if it is deleted."""
        weakref.finalize(self, _close, self._held)
        self.count = 0
        monkeypatch.setattr(os, "fsync", self._fsync)

    def settle(self, root: Path) -> None:
        """Let the disk have all that is below a folder: it was written long ago."""
        for path in (root, *root.rglob("*")):
            descriptor = os.open(path, os.O_RDONLY)
            self._take_in(descriptor)
            os.close(descriptor)

    def disk(self, root: Path) -> Disk:
        """What is on the disk at this moment below `root`."""
        with self._lock:
            now: dict[int, _Names] = {}
            for folder, _, _ in os.walk(root):
                with suppress(FileNotFoundError):
                    now[Path(folder).stat().st_ino] = _names_in(Path(folder))
            contents, synced = dict(self._contents), dict(self._synced)
            return Disk(root=root.stat().st_ino, contents=contents, synced=synced, now=now)

    def left(self, root: Path, target: Path) -> Path:
        """Write what was synced of `root` to `target`."""
        target.mkdir()
        write(self.disk(root).files("synced"), target)
        return target

    def _fsync(self, descriptor: int) -> None:
        with self._lock:
            self.count += 1
            if self._before is not None:
                self._before(_path_of(descriptor))
            self._take_in(descriptor)

    def _take_in(self, descriptor: int) -> None:
        path, inode = _path_of(descriptor), os.fstat(descriptor).st_ino
        if inode not in self._held:
            self._held[inode] = os.dup(descriptor)
        if path.is_dir():
            self._synced[inode] = _names_in(path)
        else:
            self._contents[inode] = path.read_bytes()


def write(files: Mapping[str, bytes | None], folder: Path) -> None:
    """Write what `Disk.files` has found into a folder that is there."""
    for path, contents in files.items():
        if contents is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(contents)


def _path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").resolve()


def _names_in(folder: Path) -> _Names:
    """What is there; another thread may remove some of it meanwhile."""
    names: dict[str, tuple[int, bool]] = {}
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            names[path.name] = path.stat().st_ino, path.is_dir()
    return names


def _close(held: Mapping[int, int]) -> None:
    for descriptor in held.values():
        os.close(descriptor)
