"""One label for a text or a pair of texts."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config import TaskConfig
from pipeline.core.data.labels import learnt
from pipeline.core.data.rows import Dataset, Row, Split
from pipeline.core.tasks import metrics
from pipeline.core.tasks.faults import (
    empty_faults,
    fraction_faults,
    row_fault,
    text_faults,
    unlisted_faults,
    unseen_faults,
)
from pipeline.core.tasks.figures import Confusion, Figure
from pipeline.core.tasks.model import LinearHead, TaskModel
from pipeline.core.tasks.scores import Scores
from pipeline.core.tasks.task import Answer, Batch, Encoded, Example, Output, RightCounts, Task, shares_of
from pipeline.core.tasks.tensors import (
    answered,
    encode_texts,
    held_back,
    mean_of,
    of_examples,
    pad_inputs,
    ranked,
    softmax,
    to_arrays,
    weighed,
)
from pipeline.errors import Fault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@final
class Classification(Task):
    """Softmax over the labels from the pooled text; a pair of texts is one input with a separator between."""

    pooled = True
    has_labels = True
    ranks = True

    @classmethod
    def from_rows(cls, config: TaskConfig, rows: Sequence[Row]) -> Self:
        shares = shares_of(row.fields["label"] for row in rows)
        return cls(config, config.labels if config.labels is not None else list(shares), shares)

    @classmethod
    def input_faults(cls, row: Row) -> Iterator[Fault]:
        yield from text_faults(row)

    @classmethod
    def target_faults(cls, row: Row) -> Iterator[Fault]:
        yield from empty_faults(row, "label")

    @classmethod
    def split_faults(cls, config: TaskConfig, dataset: Dataset, known: Collection[str] = ()) -> Iterator[Fault]:
        found = _first_rows(dataset.train)
        yield from unlisted_faults(config, found, what="label")
        if len({*found, *known}) == 1:
            (row,) = found.values()
            rule = "is the only label in train: there is nothing to tell apart"
            yield row_fault(row, row.fields["label"], rule, "Add training rows with at least one other label")
        if config.labels is None:
            yield from fraction_faults({label: row for label, row in found.items() if label not in known})
        yield from unseen_faults(config, dataset, {*found, *known}, lambda row: (row.fields["label"],), what="label")

    def encode(self, rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> Encoded:
        encoded = encode_texts(rows, tokenizer, self.limit(tokenizer))
        for row, example in zip(rows, encoded.examples, strict=True):
            if row.fields.get("label") in self.number:
                example["label"] = self.number[row.fields["label"]]
        return encoded

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        batch = {**of_examples(examples), **pad_inputs(examples, pad_token_id)}
        if all("label" in example for example in examples):
            batch["labels"] = torch.tensor([example["label"] for example in examples])
        return batch

    def head(self, hidden_size: int, dropout: float) -> LinearHead:
        shares = [] if self.config.class_weights else self.prior()
        return LinearHead(hidden_size, len(self.labels), dropout=dropout, shares=shares)

    def loss(self, model: TaskModel, batch: Batch) -> tuple[Tensor, int]:
        loss_B = self._losses(model.logits(model.pooled(batch)), batch["labels"])
        return weighed(loss_B, batch).mean(), len(loss_B)

    def _losses(self, logits_BL: Tensor, labels_B: Tensor) -> Tensor:
        """The loss of each target."""
        weights = self.weights().to(logits_BL) if self.config.class_weights else None
        return F.cross_entropy(logits_BL, labels_B, weight=weights, reduction="none")

    def weights(self) -> Tensor:
        """Weight of each label, `1 / (labels in train * its share)`; the training rows' mean weight is 1."""
        even = 1 / len(self.shares)
        return torch.tensor([even / self.shares.get(label, even) for label in self.labels])

    @torch.no_grad()
    def outputs(self, model: TaskModel, batch: Batch) -> list[Output]:
        """Logits over the labels, (labels,) each."""
        logits_BL = model.logits(model.pooled(batch))
        return [row[0] for row in to_arrays(logits_BL, [1] * len(logits_BL))]

    def tuned(
        self, model: TaskModel, rows: Sequence[Row], encoded: Encoded, outputs: Sequence[Output]
    ) -> Sequence[Output]:
        if not self.fresh:
            return outputs
        targets = [row.fields["label"] for row in rows]
        held_L = held_back(model, self.labels, self.fresh, targets, np.stack(outputs))
        return [logits_L - held_L for logits_L in outputs]

    def loss_of(self, examples: Sequence[Example], outputs: Sequence[Output]) -> float:
        known, logits_BL = answered("label", examples, outputs)
        return mean_of([self._losses(logits_BL, torch.tensor(known))] if known else [])

    def answers(self, rows: Sequence[Row], encoded: Encoded, outputs: Sequence[Output]) -> list[Answer]:
        """`{"label": ..., "score": its probability, "scores": {label: probability}}`."""
        answers = []
        for logits in outputs:
            scores = dict(zip(self.labels, softmax(logits).tolist(), strict=True))
            label = self.labels[int(logits.argmax())]
            answers.append({"label": label, "score": scores[label], "scores": scores})
        return answers

    @classmethod
    def parts(cls, row: Row, answer: Answer) -> list[dict[str, Any]]:
        """`[{label, score}]`."""
        return ranked(answer["scores"])

    def score(self, rows: Sequence[Row], answers: Sequence[Answer]) -> Scores:
        """Accuracy and macro F1, and Matthews' correlation or the second label's F1 where that is what selects.

        The baseline is the same metric of the majority label, which is that of the training rows, or in a restored task
        that of the scored rows. Of the second label's F1 it is that of always saying this label: any other has 0.
        """
        gold = [row.fields["label"] for row in rows]
        predicted = [learnt(answer["label"], "label", self.config) for answer in answers]
        shares, found = self.shares or Counter(gold), metrics.found_labels(gold, predicted)
        said = self.labels[-1] if self.config.primary == "f1" else max(shares, key=lambda label: shares[label])
        counts, statistic, labels = self._counts(gold, predicted)
        constant, _, _ = self._counts(gold, [said] * len(gold))
        values = {"accuracy": metrics.accuracy(gold, predicted), "macro_f1": metrics.macro_f1(gold, predicted)}
        values.setdefault(self.config.primary, metrics.value_of(statistic, counts))
        baseline = metrics.value_of(statistic, constant)
        return self.scores(values, counts, statistic, baseline=baseline, labels=labels, found=found)

    def right_counts(self, rows: Sequence[Row]) -> RightCounts:
        gold = [row.fields["label"] for row in rows]
        return self._counts(gold, gold)

    def _counts(self, gold: Sequence[str], predicted: Sequence[str]) -> RightCounts:
        """What each row adds to the primary metric."""
        if self.config.primary == "macro_f1":
            labels = self._labels_with(gold)
            return metrics.label_counts(gold, predicted, labels), metrics.macro_f1_of, tuple(labels)
        if self.config.primary == "matthews":
            return self._matthews_counts(gold, predicted), metrics.matthews_of, ()
        if self.config.primary == "f1":
            return metrics.label_counts(gold, predicted, self.labels[-1:])[:, :3], metrics.f1_of, ()
        return metrics.match_counts(gold, predicted), metrics.mean_of, ()

    def _matthews_counts(self, gold: Sequence[str], predicted: Sequence[str]) -> metrics.Counts:
        """Counts of the task's labels, and of all others together: as many columns whatever rows and answers have."""
        wanted, said = ([label if label in self.number else "" for label in side] for side in (gold, predicted))
        return metrics.label_counts(wanted, said, [*self.labels, ""])

    def _labels_with(self, gold: Sequence[str]) -> list[str]:
        """The task's labels, and what else the rows have."""
        return [*self.labels, *sorted({*gold} - {*self.labels})]

    def figures(self, gold: Sequence[Any], answers: Sequence[Answer]) -> Iterator[Figure]:
        yield Confusion(gold=gold, said=[answer["label"] for answer in answers], labels=self.labels)


def _first_rows(split: Split) -> dict[str, Row]:
    """Label -> the first row of the split with it."""
    return {row.fields["label"]: row for row in reversed(split.rows)}
