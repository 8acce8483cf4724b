"""A number for a text or a pair of texts."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import TaskConfig, signed
from pipeline.core.data.rows import Dataset, Row
from pipeline.core.tasks import metrics
from pipeline.core.tasks.correlation import PEARSON, SPEARMAN
from pipeline.core.tasks.faults import row_fault, text_faults
from pipeline.core.tasks.figures import Figure, Scatter
from pipeline.core.tasks.model import LinearHead, TaskModel
from pipeline.core.tasks.scores import Scores
from pipeline.core.tasks.task import Answer, Batch, Encoded, Example, Output, Task
from pipeline.core.tasks.tensors import answered, encode_texts, mean_of, of_examples, pad_inputs, to_arrays, weighed
from pipeline.errors import Fault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LARGEST = 1e18
"""The largest score: its square is a number of 32 bits, in which losses are computed."""


@final
class Regression(Task):
    """One linear output from the pooled text; a pair of texts is one input with a separator between.

    It is learnt in units in which the training rows' scores have the mean 0 and the standard deviation 1. Both are kept
    in the head, by which answers are in the scores' own unit again.
    """

    pooled = True

    def __init__(
        self,
        config: TaskConfig,
        labels: Sequence[str] = (),
        shares: Mapping[str, float] | None = None,
        *,
        unit: tuple[float, float] | None = None,
    ) -> None:
        """As any task; `unit` is mean and standard deviation of the training rows, None in a task that was restored."""
        super().__init__(config, labels, shares)
        self.unit = unit

    @classmethod
    def from_rows(cls, config: TaskConfig, rows: Sequence[Row]) -> Self:
        return cls(config, unit=_unit([row.fields["score"] for row in rows]) if rows else None)

    @classmethod
    def input_faults(cls, row: Row) -> Iterator[Fault]:
        yield from text_faults(row)

    @classmethod
    def target_faults(cls, row: Row) -> Iterator[Fault]:
        """Nothing: that a score is a finite number is seen where it is read."""
        yield from ()

    @classmethod
    def split_faults(cls, config: TaskConfig, dataset: Dataset, known: Collection[str] = ()) -> Iterator[Fault]:
        first = dataset.train.rows[0]
        largest = max(dataset.train.rows, key=lambda row: abs(row.fields["score"]))
        if abs(largest.fields["score"]) > _LARGEST:
            rule = "is too large to be learnt: the square of a score has to be a number of 32 bits"
            yield row_fault(largest, largest.fields["score"], rule, "Write the scores in a larger unit")
        if len({row.fields["score"] for row in dataset.train.rows}) == 1:
            rule = "is the score of every row of train: there is nothing to learn"
            yield row_fault(first, first.fields["score"], rule, "Add training rows with other scores")

    def number_of(self, row: Row) -> float:
        return float(row.fields["score"])

    def encode(self, rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> Encoded:
        encoded = encode_texts(rows, tokenizer, self.limit(tokenizer))
        for row, example in zip(rows, encoded.examples, strict=True):
            if "score" in row.fields:
                example["score"] = row.fields["score"]
        return encoded

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        batch = {**of_examples(examples), **pad_inputs(examples, pad_token_id)}
        if all("score" in example for example in examples):
            batch["scores"] = torch.tensor([example["score"] for example in examples])
        return batch

    def head(self, hidden_size: int, dropout: float) -> LinearHead:
        mean, std = self.unit or (0.0, 1.0)
        unit = {"mean": torch.tensor([mean]), "std": torch.tensor([std])}
        return LinearHead(hidden_size, 1, dropout=dropout, kept=unit)

    def loss(self, model: TaskModel, batch: Batch) -> tuple[Tensor, int]:
        """The mean squared error, in the unit in which it is learnt."""
        mean, std = _kept(model)
        found_B = model.logits(model.pooled(batch))[:, 0]
        loss_B = (found_B - (batch["scores"].to(found_B) - mean) / std) ** 2
        return weighed(loss_B, batch).mean(), len(loss_B)

    def loss_of(self, examples: Sequence[Example], outputs: Sequence[Output]) -> float:
        known, scores_B1 = answered("score", examples, outputs)
        _, std = self.unit or (0.0, 1.0)
        return mean_of([((scores_B1[:, 0] - torch.tensor(known)) / std) ** 2] if known else [])

    @torch.no_grad()
    def outputs(self, model: TaskModel, batch: Batch) -> list[Output]:
        """The score in its own unit, (1,) each."""
        mean, std = _kept(model)
        scores_B = model.logits(model.pooled(batch))[:, 0] * std + mean
        return to_arrays(scores_B, [1] * len(scores_B))

    def exported(self, head: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean and standard deviation go into the linear map, which then puts out the score in its own unit."""
        weight, bias = head["linear.weight"] * head["std"], head["linear.bias"] * head["std"] + head["mean"]
        return {"linear.weight": weight, "linear.bias": bias}

    def answers(self, rows: Sequence[Row], encoded: Encoded, outputs: Sequence[Output]) -> list[Answer]:
        """`{"score": ...}`, with as many digits as float32 has."""
        return [{"score": float(str(output[0]))} for output in outputs]

    def score(self, rows: Sequence[Row], answers: Sequence[Answer]) -> Scores:
        """Spearman's and Pearson's correlation, and the root of the mean squared error (RMSE).

        The baseline answers the mean of the training rows, or in a restored task of the scored rows themselves. That
        has no correlation, which is 0. As RMSE is in the scores' own unit, the gate is given that in standard
        deviations of the scores: what `gate.margin` then allows is the same for stars and for per cent.
        """
        gold_N = np.array([row.fields["score"] for row in rows], np.float64)
        said_N = np.array([answer["score"] for answer in answers], np.float64)
        both_N2, error = np.stack([gold_N, said_N], axis=1), _rmse(gold_N, said_N)
        values = {
            "spearman": metrics.value_of(SPEARMAN, both_N2),
            "pearson": metrics.value_of(PEARSON, both_N2),
            "rmse": error,
        }
        if self.config.primary != "rmse":
            statistic = SPEARMAN if self.config.primary == "spearman" else PEARSON
            return self.scores(values, both_N2, statistic, baseline=0.0)
        mean, std = self.unit or _unit(gold_N)
        counts = metrics.value_counts((((gold_N - said_N) / std) ** 2).tolist())
        found = self.scores(values, counts, metrics.minus_root_of, baseline=signed("rmse", _rmse(gold_N, mean)))
        return dataclasses.replace(found, primary=signed("rmse", error), low=found.low * std, high=found.high * std)

    def figures(self, gold: Sequence[Any], answers: Sequence[Answer]) -> Iterator[Figure]:
        if gold:
            yield Scatter(gold=gold, said=[answer["score"] for answer in answers])


def _unit(scores: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation; 1 for that of equal scores, by which nothing can be divided."""
    scores_N = np.asarray(scores, np.float64)
    return float(scores_N.mean()), float(scores_N.std()) or 1.0


def _rmse(gold_N: NDArray[np.float64], said_N: NDArray[np.float64] | float) -> float:
    return float(np.sqrt(((gold_N - said_N) ** 2).mean()))


def _kept(model: TaskModel) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the targets, (1,) each."""
    assert isinstance(model.head, LinearHead)
    return model.head.get_buffer("mean"), model.head.get_buffer("std")
