"""The trials' folders, as processes on every node reach them: no shared file system is needed.

They lie on the node of the command. A process there works in them directly; one on another node works in a
folder of its own, fetches what is there when it takes a trial up, and sends back what has changed.
"""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self, cast, final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.files import new_file

Files = Mapping[str, bytes]
"""Path relative to a trial's folder -> contents."""


@final
class Depot:
    """Where the trials' folders are; small, and travels to the workers."""

    def __init__(self, root: Path, *, shared: bool) -> None:
        """Say where they are, and start the actor that reads and writes for the other nodes.

        Args:
            root: On this node; holds a folder for each trial.
            shared: Whether there may be other nodes.
        """
        self.root = root
        self._node, self._keeper = "", cast(Any, None)
        if shared:
            self._node = ray.get_runtime_context().get_node_id()
            here = NodeAffinitySchedulingStrategy(self._node, soft=False)
            self._keeper = ray.remote(_Keeper).options(num_cpus=0, scheduling_strategy=here).remote(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._keeper is not None:
            ray.kill(self._keeper)

    def folder(self, name: str, scratch: Path) -> "Folder":
        """Open a trial's folder from the process that calls.

        Args:
            name: The trial's key.
            scratch: Where its files may lie if this is another node.
        """
        is_here = self._keeper is None or ray.get_runtime_context().get_node_id() == self._node
        return Folder(name, self.root / name, None if is_here else scratch / name, self._keeper)


@final
class Folder:
    """One trial's folder, seen from one process."""

    def __init__(self, name: str, home: Path, copy: Path | None, keeper: Any) -> None:
        self._name, self._home, self._keeper = name, home, keeper
        self._copy = copy
        self._sent: dict[str, tuple[int, int]] = {}
        """What the depot has: relative path -> (time of change in ns, size)."""
        if copy is not None:
            shutil.rmtree(copy, ignore_errors=True)
            write_files(copy, ray.get(keeper.read.remote(name)))
            self._sent = _signatures(copy)

    @property
    def path(self) -> Path:
        """Where its files are in this process."""
        return self._home if self._copy is None else self._copy

    def at_home(self, path: Path | None) -> Path | None:
        """Say where something in the folder is for the command."""
        return None if path is None else self._home / path.relative_to(self.path)

    def push(self) -> None:
        """Let the depot have what has changed; when this returns it is on the command's disk.

        Raises:
            OSError: That disk is full, or may not be written to.
        """
        if self._copy is None:
            return
        now = _signatures(self._copy)
        changed = {name: (self._copy / name).read_bytes() for name in now if self._sent.get(name) != now[name]}
        try:
            ray.get(self._keeper.write.remote(self._name, changed, list(now)))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        self._sent = now

    def close(self) -> None:
        """Drop the copy."""
        if self._copy is not None:
            shutil.rmtree(self._copy, ignore_errors=True)


class _Keeper:
    """The actor on the command's node."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> Files:
        folder = self._root / name
        return {path: (folder / path).read_bytes() for path in _signatures(folder)}

    def write(self, name: str, changed: Files, kept: Collection[str]) -> None:
        folder = self._root / name
        write_files(folder, changed)
        for path in set(_signatures(folder)) - set(kept):
            (folder / path).unlink()
        for emptied in [inner for inner in folder.iterdir() if inner.is_dir() and not any(inner.iterdir())]:
            emptied.rmdir()


def write_files(folder: Path, files: Files) -> None:
    """Write files below a folder, each of them whole or not at all, in the order of their names.

    A bundle is there before the snapshot that points to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(files):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with new_file(target) as draft:
            draft.write_bytes(files[name])


def _signatures(folder: Path) -> dict[str, tuple[int, int]]:
    """The files that are there, without drafts."""
    files = [file for file in folder.rglob("*") if file.is_file()] if folder.is_dir() else []
    shown = [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.stat().st_size) for file in shown}
