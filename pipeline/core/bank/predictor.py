"""Answer items with bundles that share one resident checkpoint, one bundle at a time."""

import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, final

from pipeline.config import METHOD_TRAITS
from pipeline.core.adapters.checkpoint import Resident, load_checkpoint, open_checkpoint
from pipeline.core.bank.adapter import Adapter
from pipeline.core.bank.trunk import Trunk
from pipeline.core.data.rows import Row
from pipeline.core.engine.assemble import bundle_model
from pipeline.core.engine.bundle import Bundle
from pipeline.core.engine.evaluate import answer
from pipeline.core.engine.precision import answering
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.scores import Scores
from pipeline.core.tasks.task import Answer, Task


class Predictor:
    """One checkpoint in memory, and beside it the bundle that was asked last; of `full` its own copy.

    Any number of threads may call: they are answered one after another.
    """

    def __init__(self, resident: Resident) -> None:
        self.resident = resident
        self._trunk = Trunk(resident)
        self._lock = threading.Lock()
        self._last: tuple[Bundle, Adapter | TaskModel] | None = None

    def predict(self, bundle: Bundle, items: Sequence[Any], where: Sequence[str] = ()) -> list[Answer]:
        """Answer items as a user writes them: one answer an item, as plain data.

        Args:
            items: Texts, or mappings with the fields of the task.
            where: What to call each item in messages; `ITEM` if left out.

        Raises:
            DataError: An item lacks a field, or is empty.
            BundleError: The bundle belongs to another checkpoint.
        """
        record = bundle.record
        task = restore(record.task, record.labels, record.method.virtual_tokens)
        names = where or ["ITEM"] * len(items)
        return self.answer(bundle, [task.parse_item(i, where=name) for i, name in zip(items, names, strict=True)])

    def answer(self, bundle: Bundle, rows: Sequence[Row]) -> list[Answer]:
        """Answer rows; their targets, if any, are not looked at. One that the model did not see whole says
        `"truncated": true`."""
        if not rows:
            return []
        model = self._model(bundle)
        if isinstance(model, Adapter):
            return self._trunk.answer([(model, row) for row in rows])
        record, tokenizer = bundle.record, self.resident.tokenizer
        task = restore(record.task, record.labels)
        with self.resident.lock:
            encoded = task.encode(rows, tokenizer)
            engine = answering(record.engine, model.device.type)
            answers = answer(model, task, rows, encoded, engine, tokenizer.pad_token_id)
        for number in encoded.truncated:
            answers[number]["truncated"] = True
        return answers

    def _model(self, bundle: Bundle) -> Adapter | TaskModel:
        with self._lock:
            if self._last is None or self._last[0] != bundle:
                self._last = None  # first let go: a copy is as large as the checkpoint
                self._last = bundle, self._loaded(bundle)
            return self._last[1]

    def _loaded(self, bundle: Bundle) -> Adapter | TaskModel:
        if METHOD_TRAITS[bundle.record.method.name].shares_base:
            return self._trunk.adapter(bundle)
        with self.resident.lock:
            return bundle_model(self.resident.base, self.resident.checkpoint, bundle)[0]


@final
class Scorer:
    """Scores bundles on rows, by the task as it is now, on the checkpoint that is resident."""

    def __init__(self, resident: Resident, task: Task) -> None:
        self._task = task
        self._predictors = {resident.checkpoint.sha256: Predictor(resident)}

    def __call__(
        self, bundle: Bundle, rows: Sequence[Row], answers: Mapping[str, Any] = MappingProxyType({})
    ) -> Scores:
        """Answer the rows and compare; the bundle is not asked where `answers`, by digest, has those of all rows."""
        if all(row.digest in answers for row in rows):
            return self._task.score(rows, [answers[row.digest] for row in rows])
        record = bundle.record
        if record.checkpoint_sha256 not in self._predictors:  # a champion on another checkpoint
            other = load_checkpoint(open_checkpoint(record.checkpoint))
            self._predictors[record.checkpoint_sha256] = Predictor(other)
        return self._task.score(rows, self._predictors[record.checkpoint_sha256].answer(bundle, rows))
