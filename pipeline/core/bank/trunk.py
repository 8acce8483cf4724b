"""Rows of several adapters answered together: the resident base reads them in one pass, each group with its own."""

from collections import Counter
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.core.adapters.checkpoint import Resident
from pipeline.core.adapters.sites import Sites
from pipeline.core.bank.adapter import Adapter, load_adapter
from pipeline.core.bank.encoded import joined
from pipeline.core.data.rows import Row
from pipeline.core.engine.assemble import attached, release
from pipeline.core.engine.batches import collated, evaluation_batches, made_ahead, move
from pipeline.core.engine.bundle import Bundle
from pipeline.core.engine.evaluate import answer
from pipeline.core.engine.precision import precision
from pipeline.core.engine.view import inputs_of
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.task import Answer, Encoded, Output

_IDS, _MASK, _TYPES = "input_ids", "attention_mask", "token_type_ids"


@final
@dataclass(kw_only=True, slots=True)
class _Questions:
    """What one adapter is asked."""

    adapter: Adapter
    places: list[int] = field(default_factory=list)
    """Of the rows among all that is asked."""
    rows: list[Row] = field(default_factory=list)
    encoded: Encoded
    outputs: dict[int, Output] = field(default_factory=dict)


_Batch = dict[str, Tensor]
_Group = tuple[_Questions, list[int]]
"""Examples of one adapter, by their numbers, in a batch."""


@final
class Trunk:
    """A resident checkpoint, and how adapters sit in it.

    Any number of threads may call: they are answered one after another.
    """

    def __init__(self, resident: Resident) -> None:
        self.resident = resident
        with resident.lock:
            self._sites = Sites(resident.base)
            self._model = TaskModel(resident.base, nn.Identity(), pooling=resident.checkpoint.pooling)

    def adapter(self, bundle: Bundle) -> Adapter:
        """Make a bundle resident; no batch that runs waits for it, but where it is to have batches of its own.

        Raises:
            BundleError: As `load_adapter` says.
        """
        return load_adapter(self._sites, self.resident, bundle)

    def answer(
        self, asked: Sequence[tuple[Adapter, Row]], encoded: Sequence[Encoded | None] | None = None
    ) -> list[Answer]:
        """Answer rows, each by its adapter, in their order; their targets, if any, are not looked at.

        A row that the model did not see whole says `"truncated": true`.

        Args:
            encoded: Of each row what the adapter's task has made of it alone, where that is known.
        """
        if not asked:
            return []
        with self.resident.lock:
            questions = self._questions(asked, encoded or [None] * len(asked))
            together: dict[Hashable, list[_Questions]] = {}
            for one in questions:
                together.setdefault(one.adapter.together, []).append(one)
            answers: list[Answer] = [{}] * len(asked)
            for some in together.values():
                self._compute(some)
            for one in questions:
                for place, said in zip(one.places, self._said(one), strict=True):
                    answers[place] = said
            return answers

    def _questions(self, asked: Sequence[tuple[Adapter, Row]], encoded: Sequence[Encoded | None]) -> list[_Questions]:
        by_adapter: dict[int, tuple[Adapter, list[int]]] = {}
        for place, (adapter, _) in enumerate(asked):
            by_adapter.setdefault(id(adapter), (adapter, []))[1].append(place)
        questions = []
        for adapter, places in by_adapter.values():
            rows = [asked[place][1] for place in places]
            known = [one for place in places if (one := encoded[place]) is not None]
            whole = len(known) == len(rows)
            tokenizer = self.resident.tokenizer
            its = joined(known, tokenizer) if whole else adapter.task.encode(rows, tokenizer)
            questions.append(_Questions(adapter=adapter, places=places, rows=rows, encoded=its))
        return questions

    def _said(self, one: _Questions) -> list[Answer]:
        task, engine = one.adapter.task, one.adapter.engine
        if one.adapter.placed is not None:
            outputs = [one.outputs[number] for number in range(len(one.outputs))]
            answers = task.answers(one.rows, one.encoded, outputs)
        else:
            resident, bundle = self.resident, one.adapter.bundle
            model, task = attached(resident.base, resident.checkpoint, bundle, one.adapter.tensors)
            try:
                answers = answer(model, task, one.rows, one.encoded, engine, self._pad)
            finally:
                release(model, bundle.record.method)
        for number in one.encoded.truncated:
            answers[number]["truncated"] = True
        return answers

    @property
    def _pad(self) -> int:
        return cast(int, self.resident.tokenizer.pad_token_id)

    def _compute(self, questions: Sequence[_Questions]) -> None:
        """Fill in the outputs of adapters that may share batches."""
        if questions[0].adapter.placed is None:
            return
        examples = [(one, number) for one in questions for number in range(len(one.encoded.examples))]
        lengths = [one.encoded.examples[number]["length"] for one, number in examples]
        size = min(one.adapter.engine.eval_batch_size for one in questions)
        order = {id(one): (one.adapter.order, place) for place, one in enumerate(questions)}
        batches = []
        for batch in evaluation_batches(lengths, size):
            counts = Counter(id(examples[number][0]) for number in batch)
            neighbours = {key: (order[key][0], count, order[key][1]) for key, count in counts.items()}
            chosen = sorted((examples[number] for number in batch), key=lambda example: neighbours[id(example[0])])
            grouped = groupby(chosen, lambda example: id(example[0]))
            some = [list(group) for _, group in grouped]
            batches.append([(group[0][0], [number for _, number in group]) for group in some])
        first = questions[0].adapter
        writing = first.task.decoding is not None
        with torch.inference_mode(), precision(self._model.device, first.engine, writing=writing):
            for groups, made in zip(batches, made_ahead(batches, self._collated), strict=True):
                for (one, numbers), outputs in zip(groups, self._outputs(groups, made), strict=True):
                    one.outputs.update(zip(numbers, outputs, strict=True))

    def _collated(self, groups: Sequence[_Group]) -> list[_Batch]:
        """A batch for each group; only one for all where one of the tasks decodes."""
        task = groups[0][0].adapter.task
        examples = [[one.encoded.examples[number] for number in numbers] for one, numbers in groups]
        if task.decoding is not None:
            return [collated(task, [*chain(*examples)], self._pad, self._model)]
        each = zip(groups, examples, strict=True)
        return [collated(one.adapter.task, some, self._pad, self._model) for (one, _), some in each]

    def _outputs(self, groups: Sequence[_Group], made: Sequence[_Batch]) -> list[list[Output]]:
        """The outputs of each group."""
        batches = [move(batch, self._model.device) for batch in made]
        adapters = [one.adapter for one, _ in groups]
        if adapters[0].task.decoding is not None:
            sizes = [len(numbers) for _, numbers in groups]
            with self._carrying(sizes, adapters):
                outputs = iter(adapters[0].task.outputs(self._model, batches[0]))
            return [list(islice(outputs, size)) for size in sizes]
        inputs = [inputs_of(batch) for batch in batches]
        sizes = [sum(len(one[_IDS]) for one in some) for some in inputs]
        if len(groups) == 1:  # as it is in training, to the last bit
            with self._carrying(sizes, adapters):
                return [adapters[0].task.outputs(adapters[0].seen, batches[0])]
        joined = _joined([one for some in inputs for one in some], self._pad)
        with self._carrying(sizes, adapters):
            hidden_BTH = self._model.hidden(joined)
        try:
            for adapter, some, rows in zip(adapters, inputs, torch.split(hidden_BTH, sizes), strict=True):
                parts = torch.split(rows, [len(one[_IDS]) for one in some])
                for one, part in zip(some, parts, strict=True):
                    adapter.seen.computed[id(one[_IDS])] = part[:, : one[_IDS].shape[1]]
            each = zip(adapters, batches, strict=True)
            return [adapter.task.outputs(adapter.seen, batch) for adapter, batch in each]
        finally:
            for adapter in adapters:
                adapter.seen.computed.clear()

    def _carrying(self, sizes: Sequence[int], adapters: Sequence[Adapter]) -> AbstractContextManager[None]:
        return self._sites.carrying([(size, one.placed or {}) for size, one in zip(sizes, adapters, strict=True)])


def _joined(inputs: Sequence[_Batch], pad_token_id: int) -> _Batch:
    """All rows below one another, padded on the right to the longest."""
    longest = max(one[_IDS].shape[1] for one in inputs)

    def stacked(name: str, value: int) -> Tensor:
        rows = [F.pad(one[name], (0, longest - one[name].shape[1]), value=value) for one in inputs]
        return torch.cat(rows)

    fillers = {_IDS: pad_token_id, _MASK: 0, _TYPES: 0}
    return {name: stacked(name, value) for name, value in fillers.items() if name in inputs[0]}
