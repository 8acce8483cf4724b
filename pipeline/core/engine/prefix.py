"""What lies below the first adapter, computed once a row and kept: for epochs, trials, processes, sweeps and passes.

What is kept of a row depends on the row alone, to the bit. It is computed in batches of one size, filled up with a row
that stands there already, and padded to one of a few lengths; it is kept without padding. So it is the same whether
all, some or none of the rows are there, and whichever process computes them.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain, groupby
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import EngineConfig, MethodConfig
from pipeline.core.adapters.anatomy import anatomy_of
from pipeline.core.adapters.checkpoint import Checkpoint
from pipeline.core.adapters.entry import Entrance, entry_of
from pipeline.core.engine.batches import move
from pipeline.core.engine.precision import is_halved, precision
from pipeline.core.engine.shelf import Row, Section, Shelf, ShelfFullError
from pipeline.core.tasks.model import KEPT, TaskModel
from pipeline.core.tasks.task import Encoded, Example
from pipeline.core.tasks.tensors import pad_inputs

log = logging.getLogger(__name__)

_BATCH = 16
_SHARE = 8  # batches: little enough that several processes share the work
_FORMAT = 1  # of what is kept; another one is another section
_FINE, _COARSE = 64, 256


@final
@dataclass(frozen=True, slots=True)
class Prefix:
    """What is kept for trials on a checkpoint."""

    shelf: Shelf
    checkpoint: Checkpoint
    pad_token_id: int

    def known(
        self, model: TaskModel, method: MethodConfig, config: EngineConfig, parts: Sequence[Encoded], *, pooled: bool
    ) -> Sequence[Encoded] | None:
        """Compute what is not known of the rows yet, and give it to them.

        Args:
            model: With its adapters; its `entrance` is set.
            method: That these were made with.
            config: Says in which precision the model computes.
            parts: Tokenised rows.
            pooled: Whether the head reads one vector of a text.

        Returns:
            The same rows, to be computed from where they are known; None where that is nowhere, or where it cannot be
            kept. Then they are computed whole, as always.
        """
        entry = entry_of(method, model.base, model.pooling if pooled else "")
        inputs = {digest_of(one): one for part in parts for example in part.examples for one in _inputs(example)}
        if entry is None or not inputs:
            return None
        model.entrance = Entrance(model.base, entry)
        section = self.shelf.section(self._key(model, config))
        try:
            section.let_go(inputs)
            self._fill(section, model, config, inputs)
        except ShelfFullError:
            log.warning("cluster.prefix_bytes is too little for what lies below the adapters: it is not kept")
            return None
        except OSError as error:
            log.warning("What lies below the adapters is not kept: %s", error)
            return None
        section.touch()
        return [replace(part, examples=[_with(one, section.rows) for one in part.examples]) for part in parts]

    def _key(self, model: TaskModel, config: EngineConfig) -> dict[str, Any]:
        """All that what is kept of a row depends on, beside its tokens."""
        assert model.entrance is not None
        entry, device = model.entrance.entry, model.device
        dtype = torch.bfloat16 if is_halved(device, config) else next(model.base.parameters()).dtype
        on = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else torch.cuda.get_device_name(device)
        return {
            "format": _FORMAT,
            "weights": self.checkpoint.sha256,
            "reading": self.checkpoint.reading,
            "entry": [entry.layer, entry.place, entry.pooling],
            "dtype": str(dtype),
            "device": f"{device.type} {on}",
            "torch": torch.__version__,
            "transformers": version("transformers"),
        }

    def _fill(self, section: Section, model: TaskModel, config: EngineConfig, inputs: Mapping[str, Example]) -> None:
        """Compute the rows that are missing; those that another process computes meanwhile are waited for."""
        missing = section.look(list(inputs))
        if not missing:
            return
        begun = time.monotonic()
        if sum(_bytes(model, one) for one in inputs.values()) > self.shelf.limit:
            raise ShelfFullError
        model.eval()
        left = _shares({digest: inputs[digest] for digest in missing}, _most(model))
        wait = False
        while left:
            before = len(left)
            for share in list(left):
                with section.claimed(int(share[0], 16), wait=wait) as mine:
                    if not mine:
                        continue
                    if still := section.look(share):
                        with torch.inference_mode(), precision(model.device, config):
                            rows = self._computed(model, {digest: inputs[digest] for digest in still})
                        section.put(rows)
                    left.remove(share)
                if wait:  # meanwhile others may be free again
                    break
            wait = len(left) == before
        log.info("computed %d rows below the adapters in %.1f s", len(missing), time.monotonic() - begun)

    def _computed(self, model: TaskModel, inputs: Mapping[str, Example]) -> dict[str, Row]:
        """What is kept of each row."""
        rows: dict[str, Row] = {}
        for length, batch in _batches(inputs, _most(model)):
            filled = [*batch, *[batch[0]] * (_BATCH - len(batch))]
            padded = self._pad([inputs[digest] for digest in filled], length)
            states = [tensor.cpu() for tensor in model.states(move(padded, model.device))]
            for place, digest in enumerate(batch):
                size = len(inputs[digest]["input_ids"])
                rows[digest] = tuple(one[place, :size] if one.ndim == 3 else one[place] for one in states)
        return rows

    def _pad(self, inputs: Sequence[Example], length: int) -> dict[str, Tensor]:
        batch = pad_inputs(inputs, self.pad_token_id)
        fillers = {"input_ids": self.pad_token_id}
        return {name: F.pad(one, (0, length - one.shape[1]), value=fillers.get(name, 0)) for name, one in batch.items()}


def digest_of(tokens: Example) -> str:
    """Name a row by what a model reads of it, which is what the tokenizer has left of it."""
    said = json.dumps([tokens["input_ids"], tokens.get("token_type_ids")])
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _padded(length: int, most: int) -> int:
    """The length that a row is padded to: one of a few, and none that the model lacks positions for."""
    step = 8 if length <= _FINE else 32 if length <= _COARSE else 64
    return max(min(-(-length // step) * step, most), length)


def _most(model: TaskModel) -> int:
    """Positions that the model has; T5 has any number."""
    positions = getattr(model.base.config, "max_position_embeddings", None)
    offset = model.base.config.pad_token_id + 1 if anatomy_of(model.base.config).behind_padding else 0
    return 2**31 if positions is None else positions - offset


def _bytes(model: TaskModel, tokens: Example) -> int:
    """About what is kept of a row."""
    assert model.entrance is not None
    length = 1 if model.entrance.entry.pooling else len(tokens["input_ids"])
    width = model.base.config.hidden_size * next(model.base.parameters()).element_size()
    return int(length * width * model.entrance.num_states)


def _batches(inputs: Mapping[str, Example], most: int) -> Iterator[tuple[int, list[str]]]:
    """The length that some rows are padded to, and no more of them than are computed at once."""
    length_of = {digest: _padded(len(one["input_ids"]), most) for digest, one in inputs.items()}
    for length, some in groupby(sorted(inputs, key=lambda one: (length_of[one], one)), lambda one: length_of[one]):
        digests = list(some)
        yield from ((length, digests[first : first + _BATCH]) for first in range(0, len(digests), _BATCH))


def _shares(inputs: Mapping[str, Example], most: int) -> list[list[str]]:
    """What is computed under one claim, and kept in one file: some batches, the longest rows first."""
    batches = [batch for _, batch in _batches(inputs, most)][::-1]
    return [[*chain(*batches[first : first + _SHARE])] for first in range(0, len(batches), _SHARE)]


def _inputs(example: Example) -> Iterator[Example]:
    """What the model reads of an example: itself, or where it reads several texts of it, each of them."""
    if "input_ids" in example:
        yield example
        return
    for value in example.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield from _inputs(one)


def _with(example: Example, rows: Mapping[str, Row]) -> Example:
    """The example, with what is known of all that the model reads of it."""
    if "input_ids" in example:
        return {**example, KEPT: rows[digest_of(example)]}

    def given(value: Any) -> Any:
        if isinstance(value, list):
            return [given(one) for one in value]
        return _with(value, rows) if isinstance(value, dict) else value

    return {name: given(value) for name, value in example.items()}
