"""Any number of labels for a text or a pair of texts, also none."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import TaskConfig
from pipeline.core.data.rows import WARNING, Dataset, Row, Split
from pipeline.core.tasks import metrics
from pipeline.core.tasks.faults import row_fault, text_faults, unlisted_faults, unseen_faults
from pipeline.core.tasks.figures import Figure, Labels
from pipeline.core.tasks.metrics import Counts
from pipeline.core.tasks.model import LinearHead, TaskModel
from pipeline.core.tasks.scores import Scores
from pipeline.core.tasks.task import Answer, Batch, Encoded, Example, Output, RightCounts, Task
from pipeline.core.tasks.tensors import (
    answered,
    encode_texts,
    mean_of,
    of_examples,
    pad_inputs,
    ranked,
    to_arrays,
    weighed,
)
from pipeline.errors import Fault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MOST_SHARE = 1 - 1e-4
"""A share that stands for any higher one, such as that of a label that all training rows have."""
_MARKS = (",", ";", "|", "/")
"""What often stands between labels that are written as one text."""
_LEAST_ROWS = 10
"""Validation rows with a label that a threshold of its own needs: of fewer it would be chance."""


@final
class MultiLabel(Task):
    """A sigmoid for each label from the pooled text; a pair of texts is one input with a separator between.

    A label is answered where its logit is above its threshold. The thresholds are those with which the validation rows
    have the best score; they are kept in the head.
    """

    pooled = True
    has_labels = True
    may_lack_labels = True
    ranks = True

    @classmethod
    def from_rows(cls, config: TaskConfig, rows: Sequence[Row]) -> Self:
        """As any task; the shares are those of the rows that have a label, and need not sum to 1."""
        counts = Counter(label for row in rows for label in row.fields["labels"])
        shares = {label: count / len(rows) for label, count in sorted(counts.items())}
        return cls(config, config.labels if config.labels is not None else list(shares), shares)

    @classmethod
    def input_faults(cls, row: Row) -> Iterator[Fault]:
        yield from text_faults(row)

    @classmethod
    def target_faults(cls, row: Row) -> Iterator[Fault]:
        if not all(row.fields["labels"]):
            yield row_fault(row, row.fields["labels"], "has an empty label", "Write the label, or remove it")

    @classmethod
    def split_faults(cls, config: TaskConfig, dataset: Dataset, known: Collection[str] = ()) -> Iterator[Fault]:
        found, first = _first_rows(dataset.train), dataset.train.rows[0]
        yield from unlisted_faults(config, found, what="label")
        if not found and not known:
            yield row_fault(first, "", "has no label, nor has any row of train", "Add training rows with labels")
        elif not known and len({tuple(row.fields["labels"]) for row in dataset.train.rows}) == 1:
            rule = "are the labels of every row of train: there is nothing to tell apart"
            yield row_fault(first, ", ".join(first.fields["labels"]), rule, "Add training rows with other labels")
        seen = {*found, *known}
        yield from unseen_faults(config, dataset, seen, lambda row: row.fields["labels"], what="label")

    def labels_of(self, row: Row) -> tuple[str, ...]:
        return tuple(row.fields["labels"])

    def notes(self, dataset: Dataset) -> Iterator[str]:
        """As of any labels, and where one looks as if it were several with another mark between."""
        yield from super().notes(dataset)
        for mark in _MARKS:
            for label in self.labels if mark != self.config.separator else ():
                parts = [part.strip() for part in label.split(mark)]
                if len(parts) > 1 and (known := next((part for part in parts if part in self.number), None)):
                    said = f"{label!r} is one label here, and {known!r} is one too"
                    remedy = f"If `{mark}` separates labels, set `separator: '{mark}'` in {self.config.name}.yaml"
                    yield f"{WARNING}{said}. {remedy}."
                    break

    def encode(self, rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> Encoded:
        encoded = encode_texts(rows, tokenizer, self.limit(tokenizer))
        for row, example in zip(rows, encoded.examples, strict=True):
            if all(label in self.number for label in row.fields.get("labels", [None])):
                example["labels"] = [self.number[label] for label in row.fields["labels"]]
        return encoded

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Besides the inputs: `labels`, (B, L), 1 where a row has the label."""
        batch = {**of_examples(examples), **pad_inputs(examples, pad_token_id)}
        if all("labels" in example for example in examples):
            batch["labels"] = torch.zeros(len(examples), len(self.labels))
            for i, example in enumerate(examples):
                batch["labels"][i, example["labels"]] = 1.0
        return batch

    def head(self, hidden_size: int, dropout: float) -> LinearHead:
        shares = [min(share, _MOST_SHARE) for share in self.prior()]
        odds = [share / (1 - share) for share in shares]  # of which a sigmoid's bias is the logarithm
        thresholds = {"thresholds": torch.zeros(len(self.labels))}
        return LinearHead(hidden_size, len(self.labels), dropout=dropout, shares=odds, kept=thresholds)

    def loss(self, model: TaskModel, batch: Batch) -> tuple[Tensor, int]:
        logits_BL = model.logits(model.pooled(batch))
        loss_BL = F.binary_cross_entropy_with_logits(logits_BL, batch["labels"].to(logits_BL), reduction="none")
        return weighed(loss_BL, batch).mean(), loss_BL.numel()

    def loss_of(self, examples: Sequence[Example], outputs: Sequence[Output]) -> float:
        known, both_BCL = answered("labels", examples, outputs)
        if not known:
            return math.inf
        gold_BL = torch.zeros(len(known), len(self.labels))
        for i, labels in enumerate(known):
            gold_BL[i, labels] = 1.0
        return mean_of([F.binary_cross_entropy_with_logits(both_BCL[:, 0], gold_BL, reduction="none")])

    @torch.no_grad()
    def outputs(self, model: TaskModel, batch: Batch) -> list[Output]:
        """The labels' logits, and behind them the thresholds: (2, labels) each."""
        logits_BL = model.logits(model.pooled(batch))
        thresholds_BL = _thresholds(model).expand_as(logits_BL)
        both_CL = torch.stack([logits_BL, thresholds_BL], dim=1).flatten(0, 1)
        return to_arrays(both_CL, [2] * len(logits_BL))

    def tuned(
        self, model: TaskModel, rows: Sequence[Row], encoded: Encoded, outputs: Sequence[Output]
    ) -> Sequence[Output]:
        gold_NL = np.zeros((len(rows), len(self.labels)), np.bool_)
        for i, row in enumerate(rows):
            gold_NL[i, [self.number[label] for label in row.fields["labels"] if label in self.number]] = True
        logits_NL = np.stack([output[0] for output in outputs])
        thresholds_L = _thresholds(model).cpu().numpy().copy()
        tuned_L = np.array([not self.fresh or label in self.fresh for label in self.labels])  # others stay as they are
        each = self.config.primary == "macro_f1"
        thresholds_L[tuned_L] = best_thresholds(logits_NL[:, tuned_L], gold_NL[:, tuned_L], each=each)
        _thresholds(model).copy_(torch.from_numpy(thresholds_L))
        return [np.stack([logits_L, thresholds_L]) for logits_L in logits_NL]

    def exported(self, head: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The thresholds go into the bias, so that a label is answered where its probability is above a half."""
        return {"linear.weight": head["linear.weight"], "linear.bias": head["linear.bias"] - head["thresholds"]}

    def answers(self, rows: Sequence[Row], encoded: Encoded, outputs: Sequence[Output]) -> list[Answer]:
        """`{"labels": those above their thresholds, "scores": {label: probability}}`."""
        answers: list[Answer] = []
        for logits_L, thresholds_L in outputs:
            said = [label for label, is_said in zip(self.labels, logits_L > thresholds_L, strict=True) if is_said]
            chances = torch.from_numpy(logits_L).double().sigmoid().tolist()
            answers.append({"labels": said, "scores": dict(zip(self.labels, chances, strict=True))})
        return answers

    @classmethod
    def parts(cls, row: Row, answer: Answer) -> list[dict[str, Any]]:
        """`[{label, score, said}]`: whether it is above the label's own threshold."""
        return [{**one, "said": one["label"] in answer["labels"]} for one in ranked(answer["scores"])]

    def score(self, rows: Sequence[Row], answers: Sequence[Answer]) -> Scores:
        """Micro F1, macro F1 and the share of rows of which the labels are exactly right.

        The baseline gives every row the labels that more than half of the rows have, or the most frequent one where
        there is none: of the training rows, or in a restored task of the scored rows themselves.
        """
        gold = [row.fields["labels"] for row in rows]
        said = [answer["labels"] for answer in answers]
        named, macro = self._labels_with(gold), self.config.primary == "macro_f1"
        counts_NLK = _label_counts(gold, said, named)
        exact = [float({*wanted} == {*given}) for wanted, given in zip(gold, said, strict=True)]
        by_label = counts_NLK.reshape(len(gold), -1)
        values = {
            "micro_f1": metrics.value_of(metrics.f1_of, counts_NLK.sum(1)),
            "macro_f1": metrics.value_of(metrics.macro_f1_of, by_label),
            "subset_accuracy": sum(exact) / len(exact),
        }
        usual = _label_counts(gold, [self._majority(gold)] * len(gold), named)
        found = {
            label: (int(right), int(there))
            for label, (right, _, there) in zip(named, counts_NLK.sum(0), strict=False)
            if there
        }
        if macro:
            baseline = metrics.value_of(metrics.macro_f1_of, usual.reshape(len(gold), -1))
            statistic = metrics.macro_f1_of
            return self.scores(values, by_label, statistic, baseline=baseline, labels=named, found=found)
        baseline = metrics.value_of(metrics.f1_of, usual.sum(1))
        return self.scores(values, counts_NLK.sum(1), metrics.f1_of, baseline=baseline, found=found)

    def right_counts(self, rows: Sequence[Row]) -> RightCounts:
        """Of micro F1 a row without a label carries nothing."""
        gold = [row.fields["labels"] for row in rows]
        labels = self._labels_with(gold)
        counts_NLK = _label_counts(gold, gold, labels)
        if self.config.primary == "macro_f1":
            return counts_NLK.reshape(len(rows), -1), metrics.macro_f1_of, tuple(labels)
        return counts_NLK.sum(1), metrics.f1_of, ()

    def figures(self, gold: Sequence[Any], answers: Sequence[Answer]) -> Iterator[Figure]:
        labels = self._labels_with(gold)
        sums_LK = _label_counts(gold, [answer["labels"] for answer in answers], labels).sum(0)
        yield Labels(
            scores={
                label: {
                    "precision": right / max(said, 1),
                    "recall": right / max(there, 1),
                    "f1": 2 * right / (said + there),
                    "support": there,
                }
                for label, (right, said, there) in zip(labels, sums_LK.tolist(), strict=False)
                if said + there
            }
        )

    def _majority(self, gold: Sequence[Sequence[str]]) -> list[str]:
        counts = Counter(label for labels in gold for label in labels)
        shares = self.shares or {label: count / len(gold) for label, count in counts.items()}
        if usual := [label for label, share in shares.items() if share > 0.5]:
            return usual
        return [max(shares, key=lambda label: shares[label])] if shares else []

    def _labels_with(self, gold: Sequence[Sequence[str]]) -> list[str]:
        """The task's labels, and what else the rows have."""
        return [*self.labels, *sorted({label for labels in gold for label in labels} - {*self.labels})]


def best_thresholds(logits_NL: Output, gold_NL: NDArray[np.bool_], *, each: bool) -> Output:
    """The thresholds above which labels are answered so that F1 is best on these rows.

    One for all first, by the F1 of all labels together. Then, the commonest label first, one of its own for each label
    that enough rows have, while the others stay as they are.

    Args:
        logits_NL: Of N rows and L labels.
        gold_NL: Which labels the rows have.
        each: The F1 of each label by itself is to be best, rather than that of all labels together.

    Returns:
        (L,), each halfway between two of the logits.
    """
    shared, _ = _best(logits_NL.ravel(), gold_NL.ravel(), 0, 0)
    thresholds_L = np.full(gold_NL.shape[1], shared, np.float32)
    said_NL = logits_NL > thresholds_L
    right_L, total_L = (gold_NL & said_NL).sum(0), gold_NL.sum(0) + said_NL.sum(0)
    for label in np.argsort(-gold_NL.sum(0), kind="stable"):
        if gold_NL[:, label].sum() < _LEAST_ROWS:
            break
        others = (0, 0) if each else (right_L.sum() - right_L[label], total_L.sum() - total_L[label])
        thresholds_L[label], (right_L[label], total_L[label]) = _best(logits_NL[:, label], gold_NL[:, label], *others)
    return thresholds_L


def _best(logits_N: Output, gold_N: NDArray[np.bool_], right: int, total: int) -> tuple[float, tuple[int, int]]:
    """The threshold with the best F1, beside other answers of which so many are right, of so many said and gold ones;
    and how many are right then, of how many."""
    order_N = np.argsort(-logits_N, kind="stable")
    sorted_N = logits_N[order_N].astype(np.float64)
    right_N = gold_N[order_N].cumsum()
    total_N = np.arange(1, len(logits_N) + 1) + gold_N.sum()
    scores_N = 2 * (right + right_N) / (total + total_N)
    scores_N[:-1][sorted_N[:-1] == sorted_N[1:]] = -1.0  # equal logits are answered alike
    place = int(scores_N.argmax())
    if 2 * right / max(total + gold_N.sum(), 1) >= scores_N[place]:  # better to answer it nowhere
        return float(sorted_N[0]), (0, int(gold_N.sum()))
    below = sorted_N[place + 1] if place + 1 < len(sorted_N) else sorted_N[place] - 1.0
    return float((sorted_N[place] + below) / 2), (int(right_N[place]), int(total_N[place]))


def _thresholds(model: TaskModel) -> Tensor:
    assert isinstance(model.head, LinearHead)
    return model.head.get_buffer("thresholds")


def _label_counts(gold: Sequence[Sequence[str]], said: Sequence[Sequence[str]], labels: Sequence[str]) -> Counts:
    """True positives, predicted and gold by row and label, (N, L, 3): `labels`, then what else is said, sorted."""
    names = [*labels, *sorted({label for given in said for label in given} - {*labels})]
    number = {label: i for i, label in enumerate(names)}
    counts_NLK = np.zeros((len(gold), len(names), 3))
    for i, (wanted, given) in enumerate(zip(gold, said, strict=True)):
        counts_NLK[i, [number[label] for label in {*wanted} & {*given}], 0] = 1
        counts_NLK[i, [number[label] for label in given], 1] = 1
        counts_NLK[i, [number[label] for label in wanted], 2] = 1
    return counts_NLK


def _first_rows(split: Split) -> dict[str, Row]:
    """Label -> the first row of the split with it."""
    return {label: row for row in reversed(split.rows) for label in row.fields["labels"]}
