"""JSON and tensors in folders of other programs, and their faults."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.errors import BundleError, Fault, fault


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BundleError: It is none.
    """
    remedy = "Give the folder as it was saved"
    try:
        record = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise BundleError(fault(file, "", f"cannot be read ({error.strerror})", remedy)) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(fault(file, "", "is not valid JSON", remedy)) from error
    if not isinstance(record, dict):
        raise BundleError(fault(file, record, "must be a JSON object", remedy))
    return record


def read_tensors(folder: Path, names: Sequence[str]) -> tuple[Path, dict[str, Tensor]]:
    """Read the first of the named files that is there, in float32; a pickle may hold tensors alone.

    Raises:
        BundleError: None is there, or it cannot be read.
    """
    remedy = "Give the folder as it was saved"
    file = next((file for name in names if (file := folder / name).is_file()), None)
    if file is None:
        raise BundleError(fault(folder, "", f"holds no {' and no '.join(names)}", remedy))
    try:
        safe = file.suffix == ".safetensors"
        tensors = load_file(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of a pickle that was spoiled torch's reader says anything: IndexError, TypeError ...
        rule = f"cannot be read as tensors ({' '.join(str(error).split())[:100]})"
        raise BundleError(fault(file, "", rule, remedy)) from error
    if not isinstance(tensors, dict) or not all(isinstance(one, Tensor) for one in tensors.values()):
        raise BundleError(fault(file, "", "must be tensors by name", remedy))
    return file, {str(key): tensor.float() for key, tensor in tensors.items()}


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors in the format that the file's name says."""
    plain = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    if file.suffix == ".safetensors":
        save_file(plain, file)
    else:
        torch.save(plain, file)


def raise_faults(faults: Iterable[Fault]) -> None:
    """Raise what there is as one error."""
    if found := list(faults):
        raise BundleError(found)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of JSON is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)
