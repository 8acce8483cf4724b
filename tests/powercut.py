"""What a disk has after a power cut: the worst that a file system may do with what nobody has waited for."""

import os
from pathlib import Path
from typing import final

import pytest


@final
class PowerCut:
    """Watches `os.fsync`; a file has the contents that it was synced with, a folder the names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self.count = 0
        monkeypatch.setattr(os, "fsync", self._fsync)

    def left(self, root: Path, target: Path) -> Path:
        """Write what would be left of `root`, whose own name is there, to `target`."""
        self._write(root.stat().st_ino, target)
        return target

    def _write(self, inode: int, target: Path) -> None:
        if inode not in self._names:
            target.write_bytes(self._contents.get(inode, b""))  # renamed, and nothing in it
            return
        target.mkdir()
        for name, inner in self._names[inode].items():
            self._write(inner, target / name)

    def _fsync(self, descriptor: int) -> None:
        self.count += 1
        path, found = Path(f"/proc/self/fd/{descriptor}").resolve(), os.fstat(descriptor)
        if path.is_dir():
            self._names[found.st_ino] = {one.name: one.stat().st_ino for one in path.iterdir()}
        else:
            self._contents[found.st_ino] = path.read_bytes()
