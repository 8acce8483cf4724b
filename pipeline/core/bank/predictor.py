"""Answer items with bundles that share one resident checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from pipeline.core.adapters.checkpoint import Checkpoint, build_base, load_tensors, load_tokenizer
from pipeline.core.data.rows import Row
from pipeline.core.engine.assemble import bundle_model, release
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.evaluate import answer
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.task import Answer


class Predictor:
    """One checkpoint in memory; a bundle is attached for a call and taken off again."""

    def __init__(self, checkpoint: Checkpoint, base: PreTrainedModel | None = None) -> None:
        """Load the checkpoint, unless its `base` is there already."""
        self.checkpoint = checkpoint
        self.tokenizer = load_tokenizer(checkpoint)
        self.base = base if base is not None else build_base(checkpoint, load_tensors(checkpoint))

    def predict(self, folder: Path, items: Sequence[Any], where: Sequence[str] = ()) -> list[Answer]:
        """Answer items as a user writes them.

        Args:
            folder: The bundle.
            items: Texts, or mappings with the fields of the task.
            where: What to call each item in messages; `ITEM` if left out.

        Returns:
            One answer an item, as plain data.

        Raises:
            DataError: An item lacks a field, or is empty.
            BundleError: The bundle is damaged or belongs to another checkpoint.
        """
        record = read_bundle(folder).record
        task = restore(record.task, record.labels, record.method.virtual_tokens)
        names = where or ["ITEM"] * len(items)
        return self.answer(folder, [task.parse_item(i, where=name) for i, name in zip(items, names, strict=True)])

    def answer(self, folder: Path, rows: Sequence[Row]) -> list[Answer]:
        """Answer rows; their targets, if any, are not looked at."""
        bundle = read_bundle(folder)
        model, task = bundle_model(self.base, self.checkpoint, bundle)
        try:
            encoded = task.encode(rows, self.tokenizer)
            return answer(model, task, rows, encoded, bundle.record.engine, self.tokenizer.pad_token_id)
        finally:
            release(model, bundle.record.method)
