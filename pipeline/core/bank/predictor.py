"""Answer items with bundles that share one resident checkpoint."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, final

from transformers import PreTrainedModel

from pipeline.core.adapters.checkpoint import Checkpoint, build_base, load_tensors, load_tokenizer, open_checkpoint
from pipeline.core.data.rows import Row
from pipeline.core.engine.assemble import bundle_model, release
from pipeline.core.engine.bundle import Bundle
from pipeline.core.engine.evaluate import answer
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.task import Answer, Scores, Task


class Predictor:
    """One checkpoint in memory; a bundle is attached for a call and taken off again."""

    def __init__(self, checkpoint: Checkpoint, base: PreTrainedModel | None = None) -> None:
        """Load the checkpoint, unless its `base` is there already."""
        self.checkpoint = checkpoint
        self.tokenizer = load_tokenizer(checkpoint)
        self.base = base if base is not None else build_base(checkpoint, load_tensors(checkpoint))

    def predict(self, bundle: Bundle, items: Sequence[Any], where: Sequence[str] = ()) -> list[Answer]:
        """Answer items as a user writes them.

        Args:
            bundle: What answers.
            items: Texts, or mappings with the fields of the task.
            where: What to call each item in messages; `ITEM` if left out.

        Returns:
            One answer an item, as plain data.

        Raises:
            DataError: An item lacks a field, or is empty.
            BundleError: The bundle belongs to another checkpoint.
        """
        record = bundle.record
        task = restore(record.task, record.labels, record.method.virtual_tokens)
        names = where or ["ITEM"] * len(items)
        return self.answer(bundle, [task.parse_item(i, where=name) for i, name in zip(items, names, strict=True)])

    def answer(self, bundle: Bundle, rows: Sequence[Row]) -> list[Answer]:
        """Answer rows; their targets, if any, are not looked at."""
        model, task = bundle_model(self.base, self.checkpoint, bundle)
        try:
            encoded = task.encode(rows, self.tokenizer)
            return answer(model, task, rows, encoded, bundle.record.engine, self.tokenizer.pad_token_id)
        finally:
            release(model, bundle.record.method)


@final
class Scorer:
    """Scores bundles on rows, by the task as it is now, on the checkpoint that is resident."""

    def __init__(self, checkpoint: Checkpoint, base: PreTrainedModel, task: Task) -> None:
        self._task = task
        self._predictors = {checkpoint.sha256: Predictor(checkpoint, base)}

    def __call__(
        self, bundle: Bundle, rows: Sequence[Row], answers: Mapping[str, Any] = MappingProxyType({})
    ) -> Scores:
        """Answer the rows and compare.

        Args:
            bundle: What answers.
            rows: The rows.
            answers: What it is known to answer, by the digest of the row; it is asked unless all rows are there.
        """
        if all(row.digest in answers for row in rows):
            return self._task.score(rows, [answers[row.digest] for row in rows])
        record = bundle.record
        if record.checkpoint_sha256 not in self._predictors:  # a champion on another checkpoint
            self._predictors[record.checkpoint_sha256] = Predictor(open_checkpoint(record.checkpoint))
        return self._task.score(rows, self._predictors[record.checkpoint_sha256].answer(bundle, rows))
