"""What a trial leaves: a folder with `weights.safetensors` (adapter and head) and `bundle.json`.

Written beside its place and renamed into it, so that no half-written bundle is ever seen. No pickle.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor

from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, TaskConfig
from pipeline.config.strict import build
from pipeline.config.training import stored_method
from pipeline.core.data.labels import restored
from pipeline.errors import BundleError, ConfigError, fault
from pipeline.files import new_folder

FORMAT = 1
"""Version of the format; a reader refuses any other."""
_WEIGHTS, _RECORD = "weights.safetensors", "bundle.json"
_CHANGED = "does not have the checksum that bundle.json states"
_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors")


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleRecord:
    """`bundle.json`: what is needed to use the weights, and where they come from."""

    job: str
    """`sentiment/films`."""
    task: TaskConfig
    labels: list[str]
    method: MethodConfig
    engine: EngineConfig
    rate: float = 1.0
    """The engine's learning rate as a share of a cold start's; below 1 where it began with a champion's weights."""
    cold_epochs: int = 0
    """Epochs of the last cold start; 0 where it was written before that was kept."""
    searched: Mapping[str, list[float]] = field(default_factory=dict)
    """Config key -> the lowest and the highest value that the first search tried: no retraining goes beyond."""
    checkpoint: CheckpointConfig
    checkpoint_sha256: str
    checkpoint_reading: str = ""
    """`Checkpoint.reading`; empty where it was written before that was kept, or converted for weights alone."""
    seed: int
    epoch: int
    """Epoch that the weights are of: the best by validation."""
    validation: Mapping[str, float]
    """Metrics on the validation rows at that epoch."""
    data: Mapping[str, str]
    """train, validation, test -> fingerprint of the rows."""
    cut: int = 1
    """Version of the rule by which a missing split was cut off train: a retraining keeps to it."""
    num_trained: int
    """Parameters of adapter and head."""
    num_checkpoint: int
    """Parameters of the checkpoint."""
    weights_sha256: str = ""
    """Of weights.safetensors; filled in when it is written."""
    format: int = FORMAT
    versions: Mapping[str, str] = field(default_factory=lambda: {name: version(name) for name in _PACKAGES})
    """Packages that it was trained with."""

    @property
    def share(self) -> float:
        """Trained parameters over those of the checkpoint."""
        return self.num_trained / self.num_checkpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A bundle on disk whose checksum and format are right."""

    folder: Path
    record: BundleRecord

    @property
    def num_bytes(self) -> int:
        """Size on disk."""
        return sum(file.stat().st_size for file in self.folder.iterdir())

    def answering_in(self, precision: Literal["float32", "bfloat16"]) -> "Bundle":
        """The same weights, which answer in another precision than they were trained in."""
        engine = dataclasses.replace(self.record.engine, precision=precision)
        return dataclasses.replace(self, record=dataclasses.replace(self.record, engine=engine))

    def tensors(self) -> dict[str, Tensor]:
        """Load the weights: `adapter.<name>` and `head.<name>`.

        Raises:
            BundleError: They are not there any more, or no safetensors.
        """
        try:
            return load_file(self.folder / _WEIGHTS)
        except (SafetensorError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def verified(self) -> dict[str, Tensor]:
        """Load the weights as `tensors` does, into memory of their own, and compare their checksum again.

        What becomes of the file later reaches nobody who holds them.

        Raises:
            BundleError: They are not there any more, are others, or lie outside the folder.
        """
        file = self.folder / _WEIGHTS
        if file.resolve().parent != self.folder.resolve():
            raise _refuse(file, f"leads out of its folder, to {file.resolve()}", "Put the file itself there")
        try:
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != self.record.weights_sha256:
                raise _refuse(file, _CHANGED, "Fetch the bundle again")
            return load(content)
        except (SafetensorError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> BundleError:
        rule = f"cannot be read as tensors ({' '.join(str(error).split())[:100]})"
        return _refuse(self.folder / _WEIGHTS, rule, "Fetch the bundle again")


def write_bundle(folder: Path, record: BundleRecord, tensors: Mapping[str, Tensor]) -> None:
    """Write a bundle to `folder`, which must not be there yet."""
    with new_folder(folder) as draft:
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        (draft / _WEIGHTS).write_bytes(content)  # save_file hides what the system says of a full disk
        record = dataclasses.replace(record, weights_sha256=_sha256(draft / _WEIGHTS))
        (draft / _RECORD).write_text(json.dumps(dataclasses.asdict(record), indent=2, sort_keys=True) + "\n", "utf-8")


def read_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle.

    Raises:
        BundleError: It is not there, of another format, or damaged.
    """
    try:
        values: Any = json.loads((folder / _RECORD).read_text("utf-8"))
    except OSError as error:
        raise _refuse(folder, f"holds no readable {_RECORD}", "Give the folder that a sweep recorded") from error
    except (ValueError, RecursionError) as error:
        raise _refuse(folder / _RECORD, "is not valid JSON", "Fetch the bundle again") from error
    if not isinstance(values, dict):
        raise _refuse(folder / _RECORD, "is no JSON object", "Fetch the bundle again")
    if values.get("format") != FORMAT:
        rule = f"has format {values.get('format')}, this version reads {FORMAT}"
        raise _refuse(folder, rule, "Use the version of the pipeline that wrote it")
    try:
        record = build(BundleRecord, {**values, "method": stored_method(values.get("method"))})
    except ConfigError as error:
        raise _refuse(folder / _RECORD, f"is damaged: {error}", "Fetch the bundle again") from error
    record = dataclasses.replace(record, labels=restored(record.labels, record.task))
    weights = folder / _WEIGHTS
    if not weights.is_file() or _sha256(weights) != record.weights_sha256:
        raise _refuse(weights, _CHANGED, "Fetch the bundle again")
    return Bundle(folder=folder, record=record)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _refuse(where: Path, rule: str, remedy: str) -> BundleError:
    return BundleError(fault(where, "", rule, remedy))
