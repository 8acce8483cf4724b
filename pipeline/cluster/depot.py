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

from pipeline.core.engine.trainer import TrialFolder
from pipeline.files import make_folder, new_file

Files = Mapping[str, bytes]
"""Path relative to a trial's folder -> contents."""


@final
class Depot:
    """Where the trials' folders are; small, and travels to the workers."""

    def __init__(self, root: Path, *, shared: bool) -> None:
        """Say where on this node they are; where there may be other nodes, start the actor that serves those."""
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

    def folder(self, name: str, scratch: Path) -> TrialFolder:
        """Open the folder of the trial with that key from the process that calls; on another node in `scratch`."""
        if self._keeper is None or ray.get_runtime_context().get_node_id() == self._node:
            return TrialFolder(self.root / name)
        return _Copy(name, scratch / name, self._keeper)


@final
class _Copy(TrialFolder):
    """A copy of a trial's folder on another node."""

    def __init__(self, name: str, path: Path, keeper: Any) -> None:
        super().__init__(path)
        self._name, self._keeper = name, keeper
        shutil.rmtree(path, ignore_errors=True)
        write_files(path, ray.get(keeper.read.remote(name)))
        self._sent = _signatures(path)
        """What the depot has: relative path -> (time of change in ns, size)."""

    def push(self) -> None:
        """Let the depot have what has changed; when this returns it is on the command's disk.

        Raises:
            OSError: That disk is full, or may not be written to.
        """
        now = _signatures(self.path)
        changed = {name: (self.path / name).read_bytes() for name in now if self._sent.get(name) != now[name]}
        try:
            ray.get(self._keeper.write.remote(self._name, changed, list(now)))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        self._sent = now

    def close(self) -> None:
        """Drop the copy."""
        shutil.rmtree(self.path, ignore_errors=True)


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
    make_folder(folder)
    for name in sorted(files):
        target = folder / name
        make_folder(target.parent)
        with new_file(target) as draft:
            draft.write_bytes(files[name])


def _signatures(folder: Path) -> dict[str, tuple[int, int]]:
    """The files that are there, without drafts."""
    files = [file for file in folder.rglob("*") if file.is_file()] if folder.is_dir() else []
    shown = [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.stat().st_size) for file in shown}
