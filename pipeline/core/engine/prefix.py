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

from pipeline.config import EngineConfig, MethodConfig
from pipeline.core.adapters.checkpoint import Checkpoint
from pipeline.core.adapters.entry import Entrance, entry_of
from pipeline.core.engine.batches import move
from pipeline.core.engine.lengths import padded, positions_of
from pipeline.core.engine.precision import is_halved, precision
from pipeline.core.engine.shelf import Row, Section, Shelf, ShelfFullError
from pipeline.core.tasks.model import KEPT, TaskModel
from pipeline.core.tasks.task import Encoded, Example
from pipeline.core.tasks.tensors import WIDTH, inputs_in, pad_inputs, with_inputs

log = logging.getLogger(__name__)

_BATCH = 16
_SHARE = 8  # batches: little enough that several processes share the work
_FORMAT = 1  # of what is kept; another one is another section


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
        inputs = {digest_of(one): one for part in parts for example in part.examples for one in inputs_in(example)}
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

        def given(one: Example) -> Example:
            return {**one, KEPT: section.rows[digest_of(one)]}

        return [replace(part, examples=[with_inputs(one, given) for one in part.examples]) for part in parts]

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
        left = _shares({digest: inputs[digest] for digest in missing}, positions_of(model))
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
        for length, batch in _batches(inputs, positions_of(model)):
            filled = [*batch, *[batch[0]] * (_BATCH - len(batch))]
            batch_of = pad_inputs([{**inputs[digest], WIDTH: length} for digest in filled], self.pad_token_id)
            states = [tensor.cpu() for tensor in model.states(move(batch_of, model.device))]
            for place, digest in enumerate(batch):
                size = len(inputs[digest]["input_ids"])
                rows[digest] = tuple(one[place, :size] if one.ndim == 3 else one[place] for one in states)
        return rows


def digest_of(tokens: Example) -> str:
    """Name a row by what a model reads of it, which is what the tokenizer has left of it."""
    said = json.dumps([tokens["input_ids"], tokens.get("token_type_ids")])
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _bytes(model: TaskModel, tokens: Example) -> int:
    """About what is kept of a row."""
    assert model.entrance is not None
    length = 1 if model.entrance.entry.pooling else len(tokens["input_ids"])
    width = model.base.config.hidden_size * next(model.base.parameters()).element_size()
    return int(length * width * model.entrance.num_states)


def _batches(inputs: Mapping[str, Example], most: int) -> Iterator[tuple[int, list[str]]]:
    """The length that some rows are padded to, and no more of them than are computed at once."""
    length_of = {digest: padded(len(one["input_ids"]), most) for digest, one in inputs.items()}
    for length, some in groupby(sorted(inputs, key=lambda one: (length_of[one], one)), lambda one: length_of[one]):
        digests = list(some)
        yield from ((length, digests[first : first + _BATCH]) for first in range(0, len(digests), _BATCH))


def _shares(inputs: Mapping[str, Example], most: int) -> list[list[str]]:
    """What is computed under one claim, and kept in one file: some batches, the longest rows first."""
    batches = [batch for _, batch in _batches(inputs, most)][::-1]
    return [[*chain(*batches[first : first + _SHARE])] for first in range(0, len(batches), _SHARE)]
