"""The contract of a task kind, and what all kinds share: checking rows, reading items, padding batches.

A task knows rows, tokens, logits and answers, and nothing of adapters, optimisers or where rows come from:

    rows ──encode──► examples ──collate──► batch ──loss──► a step of training
                                             └──outputs──► logits ──answers──► answers ──score──► Scores
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import BatchEncoding, PreTrainedTokenizerBase

from pipeline.config import TaskConfig
from pipeline.core.data.rows import Dataset, Row, Split, make_row
from pipeline.core.tasks import metrics
from pipeline.core.tasks.metrics import Counts, Statistic
from pipeline.core.tasks.model import TaskModel
from pipeline.errors import DataError, Fault

Example = dict[str, Any]
"""One input of the model: `row` (index of its row), `length` (for bucketing), and what the kind adds."""
Batch = Mapping[str, Tensor]
Answer = dict[str, Any]
"""What is said about one row; goes into JSON as it is."""
Output = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """Rows as model inputs; one example a row, but several where a row is cut into windows."""

    examples: list[Example]
    num_rows: int
    num_truncated: int
    """Rows of which the model does not see everything."""
    tokenizer: PreTrainedTokenizerBase | None = None
    """Of generation, whose outputs are sub-tokens."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scores:
    """How well answers fit their rows, from 0 to 1."""

    primary: float
    """The metric that trials are selected by."""
    metrics: Mapping[str, float]
    """Every metric of the kind; `primary` is one of them."""
    low: float
    """Lower end of the 95 % bootstrap interval of `primary`."""
    high: float
    """Upper end."""
    baseline: float
    """The primary metric of an answer that needs no model, on the same rows."""
    counts: Counts
    """(N, K) what each row adds to `primary`, which is `statistic` of their sum."""
    statistic: Statistic


class Task(ABC):
    """One kind of task, as configured. Holds config and labels only, so that it pickles small.

    Args:
        config: The task.
        labels: What the head's outputs stand for, in order; empty where the kind has no labels.
        shares: Label -> its share of the targets in train. Empty where the kind has no labels, and in a task that
            was restored from a bundle, which trains no more.
    """

    target: str
    """The canonical field that is predicted."""
    reserved: int = 0
    """Positions of the model that the method takes from the text."""

    def __init__(
        self, config: TaskConfig, labels: Sequence[str] = (), shares: Mapping[str, float] | None = None
    ) -> None:
        self.config = config
        self.target = config.target
        self.labels = tuple(labels)
        self.shares = dict(shares or {})
        self.number = {label: i for i, label in enumerate(self.labels)}

    @classmethod
    def from_rows(cls, config: TaskConfig, rows: Sequence[Row]) -> Self:
        """Build the task, its labels taken from the config or else from training rows."""
        return cls(config)

    # Rows: are they good?

    @classmethod
    def check(cls, config: TaskConfig, dataset: Dataset, known: Collection[str] = ()) -> None:
        """Check what the rows of all three splits mean.

        Args:
            config: The task.
            dataset: All splits.
            known: Labels or entity types that a warm start has learnt, which the training rows may lack.

        Raises:
            DataError: With every fault of every bad row; where the rows are good, of the splits.
        """
        splits = (dataset.train, dataset.validation, dataset.test)
        faults = [fault for split in splits for row in split.rows for fault in cls.row_faults(row)]
        raise_faults(faults or list(cls.split_faults(config, dataset, known)))

    @classmethod
    def row_faults(cls, row: Row) -> Iterator[Fault]:
        """What is wrong with one row that has a target."""
        yield from cls.input_faults(row)
        yield from cls.target_faults(row)

    @classmethod
    @abstractmethod
    def input_faults(cls, row: Row) -> Iterator[Fault]:
        """What is wrong with the fields that are given in prediction too."""

    @classmethod
    @abstractmethod
    def target_faults(cls, row: Row) -> Iterator[Fault]:
        """What is wrong with the target of a row."""

    @classmethod
    def split_faults(cls, config: TaskConfig, dataset: Dataset, known: Collection[str] = ()) -> Iterator[Fault]:
        """What is wrong with the splits as a whole; asked only when every row is good."""
        yield from ()

    # Items: what a user asks about

    def parse_item(self, item: Any, *, where: str = "ITEM") -> Row:
        """Turn a user's item into a row without a target.

        Args:
            item: A mapping with canonical or mapped column names, or the bare value where the task reads one
                field. Further keys, the target's among them, are ignored.
            where: What to call the item in messages.

        Raises:
            DataError: A field is missing, has the wrong type or is empty.
        """
        inputs = {name: column for name, column in self.config.columns.items() if name != self.target}
        values = {name: self.parse_field(name, value) for name, value in _named(item, inputs, where).items()}
        if isinstance(item, Mapping) and "id" in item:
            values["id"] = item["id"]
        made = list(make_row(values, self.config, where, without=self.target))
        raise_faults([one for one in made if isinstance(one, Fault)])
        (row,) = (one for one in made if isinstance(one, Row))
        raise_faults(list(self.input_faults(row)))
        return row

    def parse_field(self, name: str, value: Any) -> Any:
        """Convert what a user may write for a field into its canonical form."""
        return value

    # Rows -> examples -> batches

    @abstractmethod
    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Tokenise rows; without a target, or with a label that the task lacks, an example has none."""

    @abstractmethod
    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Pad examples to the longest of them and stack them into a batch."""

    def limit(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """The longest input in sub-tokens that config and model both allow."""
        return min(self.config.max_length, int(tokenizer.model_max_length) - self.reserved)

    # Batches -> loss and outputs

    @abstractmethod
    def head(self, hidden_size: int, dropout: float) -> nn.Module:
        """A freshly initialised head."""

    def prior(self) -> list[float]:
        """The share of each output's label, in order; empty where the shares are not known."""
        return [self.shares.get(label, 0.0) for label in self.labels] if self.shares else []

    @abstractmethod
    def loss(self, model: TaskModel, batch: Batch) -> tuple[Tensor, int]:
        """The mean loss over the batch's targets, and how many they are."""

    @abstractmethod
    def outputs(self, model: TaskModel, batch: Batch) -> list[Output]:
        """The logits of every example, without gradients, on the CPU."""

    # Outputs -> answers -> scores

    @abstractmethod
    def answers(self, rows: Sequence[Row], encoded: Encoded, outputs: Sequence[Output]) -> list[Answer]:
        """One answer a row; `outputs` are in the order of `encoded.examples`."""

    @abstractmethod
    def score(self, rows: Sequence[Row], answers: Sequence[Answer]) -> Scores:
        """Compare answers with the rows' targets."""

    def scores(
        self,
        values: Mapping[str, float],
        counts: metrics.Counts,
        statistic: metrics.Statistic,
        *,
        baseline: float,
    ) -> Scores:
        """Put together what `score` returns; counts and statistic are the primary metric's."""
        low, high = metrics.interval(counts, statistic)
        primary = values[self.config.primary]
        return Scores(
            primary=primary,
            metrics=dict(values),
            low=low,
            high=high,
            baseline=baseline,
            counts=counts,
            statistic=statistic,
        )


def shares_of(targets: Iterable[str]) -> dict[str, float]:
    """Label -> its share of the targets, sorted by label."""
    counts = Counter(targets)
    return {label: count / counts.total() for label, count in sorted(counts.items())}


def raise_faults(faults: Sequence[Fault]) -> None:
    """Raise a DataError with `faults`, if there are any."""
    if faults:
        raise DataError(faults)


def fault(row: Row, value: object, rule: str, remedy: str) -> Fault:
    """A fault of one row, located by file and line."""
    return Fault(where=row.origin, value=shorten(value), rule=rule, remedy=remedy)


def shorten(value: object, limit: int = 60) -> str:
    """A value as it is shown in a message."""
    text = str(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def empty_faults(row: Row, *names: str) -> Iterator[Fault]:
    """One fault for each of the named texts that is empty or blank."""
    for name in names:
        if not row.fields[name].strip():
            yield fault(row, "", f"has an empty {name}", f"Write a {name}, or remove the row")


def option_faults(row: Row) -> Iterator[Fault]:
    """What is wrong with the options of a question."""
    options = row.fields["options"]
    if len(options) < 2:
        yield fault(row, options, "has fewer than 2 options", "Give at least two options")
    for i, option in enumerate(options):
        if not option.strip():
            rule = f"has an empty option at position {i}, from 0"
            yield fault(row, options, rule, "Write the option, or remove it")


def answer_faults(row: Row) -> Iterator[Fault]:
    """Whether the answer is a position in the options."""
    answer, last = row.fields["answer"], len(row.fields["options"]) - 1
    if not 0 <= answer <= last:
        rule = f"is out of range: the answer is a position in options, from 0 to {last}"
        yield fault(row, answer, rule, "Count the options from 0")


def unseen_faults(split: Split, seen: Iterable[str], found: Mapping[str, Row], *, what: str) -> Iterator[Fault]:
    """One fault for each label or entity type of a split that the training rows lack.

    Args:
        split: The validation or test split.
        seen: What the training rows have, or a warm start has learnt.
        found: Label -> the first row of the split with it.
        what: `label` or `entity type`.
    """
    for label in sorted(set(found) - set(seen)):
        if split.cut_from:
            rule = f"is a {what} that only the rows have which were cut off train for {split.name}"
            remedy = f"Add rows with it, remove them, or give a {split.name} file"
        else:
            rule = f"is no {what} of train, but stands in {split.name}: it cannot be learned"
            remedy = f"Add training rows with it, or remove it from {split.name}"
        yield fault(found[label], label, rule, remedy)


def unlisted_faults(config: TaskConfig, found: Mapping[str, Row], *, what: str) -> Iterator[Fault]:
    """One fault for each label or entity type of the training rows that the config's list does not have."""
    if config.labels is None:
        return
    for label in sorted(set(found) - set(config.labels)):
        rule = f"is no {what} of task {config.name}, which lists {', '.join(config.labels)}"
        yield fault(found[label], label, rule, f"Mend the row, or add it to labels of task.{config.name}")


def is_truncated(encoding: Any) -> bool:
    """Whether the tokenizer left something of this one input out."""
    return bool(encoding.overflowing)


def pieces(encoded: BatchEncoding, index: int) -> Example:
    """What the model reads of one tokenised input: `input_ids`, and `token_type_ids` if there are any."""
    names = ("input_ids", "token_type_ids")
    return {name: encoded[name][index] for name in names if name in encoded}


def pad(sequences: Sequence[Sequence[Any]], value: int | bool) -> Tensor:
    """Stack sequences into (len(sequences), longest), filled up with `value`."""
    longest = max(map(len, sequences))
    return torch.tensor([[*sequence, *[value] * (longest - len(sequence))] for sequence in sequences])


def pad_inputs(inputs: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
    """Pad `input_ids` and `token_type_ids`, and make the attention mask."""
    batch = {
        "input_ids": pad([one["input_ids"] for one in inputs], pad_token_id),
        "attention_mask": pad([[1] * len(one["input_ids"]) for one in inputs], 0),
    }
    if "token_type_ids" in inputs[0]:
        batch["token_type_ids"] = pad([one["token_type_ids"] for one in inputs], 0)
    return batch


def row_numbers(examples: Sequence[Example]) -> Tensor:
    """Which row each example belongs to, (B,)."""
    return torch.tensor([example["row"] for example in examples])


def to_arrays(logits: Tensor, sizes: Sequence[int]) -> list[Output]:
    """Cut logits, (sum(sizes), ...), into one float32 array on the CPU for each example."""
    parts = torch.split(logits.float().cpu(), list(sizes))
    return [part.numpy() for part in parts]


def softmax(logits: Output) -> NDArray[np.float64]:
    """Probabilities over the last axis, in double precision."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))


def _named(item: Any, inputs: Mapping[str, str], where: str) -> dict[str, Any]:
    """The input fields of a user's item by canonical name; a bare value is the only field of its task."""
    remedy = "Give {" + ", ".join(f'"{column}": ...' for column in inputs.values()) + "}"
    if not isinstance(item, Mapping):
        if len(inputs) == 1:
            return {name: item for name in inputs}
        rule = f"must be an object with {' and '.join(inputs.values())}"
        raise DataError(Fault(where=where, value=shorten(item), rule=rule, remedy=remedy))
    missing = [column for name, column in inputs.items() if column not in item and name not in item]
    if missing:
        rule = f"has no {' and no '.join(missing)}"
        raise DataError(Fault(where=where, value=shorten(dict(item)), rule=rule, remedy=remedy))
    return {name: item[column] if column in item else item[name] for name, column in inputs.items()}
