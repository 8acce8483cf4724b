"""The contract of a task kind, and what all kinds share: checking rows, reading items, putting scores together.

A task knows rows, tokens, logits and answers, and nothing of adapters, optimisers or where rows come from:

    rows ──encode──► examples ──collate──► batch ──loss──► a step of training
                                             └──outputs──► logits ──answers──► answers ──score──► Scores
"""

import dataclasses
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.config import TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint
from pipeline.core.data.columns import columns_of, is_in
from pipeline.core.data.rows import Dataset, Row, make_row
from pipeline.core.tasks import metrics
from pipeline.core.tasks.faults import raise_faults, shorten
from pipeline.core.tasks.figures import Figure
from pipeline.core.tasks.metrics import Counts, Found, Metric
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.notes import label_notes, position_notes
from pipeline.core.tasks.scores import Scores
from pipeline.errors import DataError, Fault, fault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Example = dict[str, Any]
"""One input of the model: `row` (index of its row), `length` (for bucketing), and what the kind adds."""
Batch = Mapping[str, Tensor]
Answer = dict[str, Any]
"""What is said about one row; goes into JSON as it is."""
Output = NDArray[np.float32]
RightCounts = tuple[Counts, Metric, tuple[str, ...]]
"""Counts, statistic and labels, as in `Scores`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """Rows as model inputs; one example a row, but several where a row is cut into windows."""

    examples: list[Example]
    num_rows: int
    truncated: frozenset[int] = frozenset()
    """Rows of which the model does not see everything."""
    tokenizer: "PreTrainedTokenizerBase | None" = None
    """Of generation, whose outputs are sub-tokens."""

    @property
    def num_truncated(self) -> int:
        """Rows of which the model does not see everything."""
        return len(self.truncated)

    def weighted(self, weights: Sequence[float]) -> "Encoded":
        """Let rows count in training by their weights, one a row, above 0: divided by their mean, so that the learning
        rate stays what it is."""
        mean = sum(weights) / len(weights)
        examples = [{**example, "weight": weights[example["row"]] / mean} for example in self.examples]
        return dataclasses.replace(self, examples=examples)


class Task(ABC):
    """One kind of task, as configured: whatever depends on the kind. Holds config and labels only, so it pickles small.

    Args:
        config: The task.
        labels: What the head's outputs stand for, in order; empty where the kind has no labels.
        shares: Label -> its share of the targets in train. Empty where the kind has no labels, and in a task that
            was restored from a bundle, which trains no more.
    """

    pooled: ClassVar[bool] = False
    """Whether the head reads one vector of a text; else each token's."""
    ranks: ClassVar[bool] = False
    """Whether an answer ranks labels or options, of which who asks may want the first ones alone."""
    has_labels: ClassVar[bool] = False
    """Whether the head's outputs stand for labels, which the config lists or the training rows have."""
    may_lack_labels: ClassVar[bool] = False
    """Whether a row may have no label; where no row of a split has one, the labels are hidden."""
    label_name: ClassVar[str] = "label"
    """What one of `names` is called in messages."""
    pipeline_tag: ClassVar[str] = "text-classification"
    """What the Hugging Face hub calls the kind, in the front matter of a model card."""
    target: str
    """The canonical field that is predicted."""
    reserved: int = 0
    """Positions of the model that the method takes from the text."""
    fresh: tuple[str, ...] = ()
    """Labels whose outputs are trained beside others that stay as they are, and held back in answers."""

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
            config: The task as the user has it.
            dataset: Its rows.
            known: Labels or entity types that a champion has learnt, which the training rows may lack.

        Raises:
            DataError: With every fault of every bad row; where the rows are good, of the splits.
        """
        rows = [row for split in dataset.splits for row in split.rows]
        faults = [fault for row in rows for fault in cls.row_faults(row)]
        raise_faults(faults or list(cls.split_faults(config, dataset, known)))

    @classmethod
    def row_faults(cls, row: Row) -> Iterator[Fault]:
        """What is wrong with what a row says."""
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

    def notes(self, dataset: Dataset) -> Iterator[str]:
        """What a user should know of the labels: what cannot be predicted, and what may not be meant as they stand."""
        if self.has_labels:
            yield from label_notes(dataset, self.names(), self.labels_of, self.label_name)
        elif self.target == "answer":
            yield from position_notes(dataset)

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
        named = _named(item, self.config, where)
        values = {name: self.parse_field(name, value) for name, value in named.items()}
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

    # Rows: what they say

    def text_of(self, row: Row) -> str:
        """What is read of a row, its target left out: all its texts, a line each."""
        read = [row.fields[name] for name in self.config.field_names if name != self.target]
        return "\n".join(text for value in read for text in (value if isinstance(value, list) else [str(value)]))

    def labels_of(self, row: Row) -> tuple[str, ...]:
        """The labels of a row's target, whichever field that is: its label, the position of its answer, or none."""
        return (str(row.fields[self.target]),) if self.target in ("label", "answer") else ()

    def labels_in(self, rows: Iterable[Row]) -> set[str]:
        """The labels that any of these rows has."""
        return {label for row in rows for label in self.labels_of(row)}

    def number_of(self, row: Row) -> float | None:
        """The number that a row's target is; None where it is none."""
        return None

    def names(self) -> list[str]:
        """The labels as a config lists them."""
        return list(self.labels)

    def outputs_of(self, names: Collection[str]) -> set[str]:
        """Those of `labels` that stand for some of `names`."""
        return {label for label in self.labels if label in names}

    def grown(self, rows: Sequence[Row]) -> list[str] | None:
        """What the config's `labels` are when rows come in: as they were, or where they are read from rows, those of
        this task in their order and behind them those that appear for the first time."""
        if self.config.labels is not None or not self.has_labels:
            return self.config.labels
        known = self.names()
        return [*known, *sorted(self.labels_in(rows) - set(known))]

    def example(self, row: Row) -> str | dict[str, Any]:
        """The row as an item that `parse_item` takes: its text where it has nothing else, or its fields by column."""
        given = {name: column for name, column in self.config.field_names.items() if name != self.target}
        if list(given) == ["text"]:
            return str(row.fields["text"])
        return {column: row.fields[name] for name, column in given.items()}

    def unfit(self, checkpoint: Checkpoint) -> Iterator[Fault]:
        """Why this task cannot be trained on a checkpoint, or not here."""
        yield from ()

    # Rows -> examples -> batches

    @abstractmethod
    def encode(self, rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> Encoded:
        """Tokenise rows; without a target, or with a label that the task lacks, an example has none."""

    def encode_train(self, rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> Encoded:
        """Tokenise rows to train on; as rows to answer, unless a kind reads more of those than it trains on."""
        return self.encode(rows, tokenizer)

    def encoded(self, dataset: Dataset, tokenizer: "PreTrainedTokenizerBase") -> dict[str, Encoded]:
        """Tokenise every split: train, validation, test -> examples."""
        train, *others = dataset.splits
        answered = {split.name: self.encode(split.rows, tokenizer) for split in others}
        return {train.name: self.encode_train(train.rows, tokenizer), **answered}

    @abstractmethod
    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Pad examples to the longest of them and stack them into a batch."""

    def limit(self, tokenizer: "PreTrainedTokenizerBase") -> int:
        """The longest input in sub-tokens that config and model both allow."""
        return min(self.config.max_length, int(tokenizer.model_max_length) - self.reserved)

    @property
    def answers_untrained(self) -> bool:
        """Whether the checkpoint answers without any training, so that this is what training is compared with."""
        return False

    @property
    def decoding(self) -> Hashable:
        """What tasks must have in common for one of them to make the outputs of all; None where outputs are made of
        hidden states, which the base computes for rows of any tasks together."""
        return None

    def truncation(self, tokenizer: "PreTrainedTokenizerBase") -> str:
        """What becomes of rows that are longer than the model reads, in words."""
        return f"truncated to {self.limit(tokenizer)} sub-tokens"

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

    def loss_of(self, examples: Sequence[Example], outputs: Sequence[Output]) -> float | None:
        """The mean loss over the targets of the examples, as in training; None where outputs do not show it.

        Examples without a target that the task knows are left out; where there is no other, the loss is infinite.
        """
        return None

    def tuned(
        self, model: TaskModel, rows: Sequence[Row], encoded: Encoded, outputs: Sequence[Output]
    ) -> Sequence[Output]:
        """Set by the outputs of validation rows what answers depend on beside the trained weights, such as thresholds.

        It is kept in the head (`LinearHead.kept`, `held`), and so goes wherever the weights do. Returns the outputs of
        a model that has it.
        """
        return outputs

    def exported(self, head: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The head's tensors with what is kept beside the weights put into them, for programs that know those alone."""
        return dict(head)

    # Outputs -> answers -> scores

    @abstractmethod
    def answers(self, rows: Sequence[Row], encoded: Encoded, outputs: Sequence[Output]) -> list[Answer]:
        """One answer a row; `outputs` are in the order of `encoded.examples`."""

    @abstractmethod
    def score(self, rows: Sequence[Row], answers: Sequence[Answer]) -> Scores:
        """Compare answers with the rows' targets."""

    @classmethod
    def parts(cls, row: Row, answer: Answer) -> list[dict[str, Any]]:
        """An answer as Hugging Face's inference API has it: a list, of what is ranked the likeliest first."""
        return [dict(answer)]

    def right_counts(self, rows: Sequence[Row]) -> RightCounts:
        """What the right answers to rows add to the primary metric: which of them carry it needs no model."""
        return metrics.value_counts([1.0] * len(rows)), metrics.mean_of, ()

    def figures(self, gold: Sequence[Any], answers: Sequence[Answer]) -> Iterator[Figure]:
        """What is worth a picture in the answers to rows whose targets are `gold`, beside their score."""
        yield from ()

    def scores(
        self,
        values: Mapping[str, float],
        counts: Counts,
        statistic: Metric,
        *,
        baseline: float,
        labels: Sequence[str] = (),
        found: Mapping[str, Found] | None = None,
    ) -> Scores:
        """Put together what `score` returns; counts, statistic and labels are the primary metric's."""
        low, high = metrics.interval(counts, statistic)
        return Scores(
            primary=values[self.config.primary],
            metrics=dict(values),
            low=low,
            high=high,
            baseline=baseline,
            counts=counts,
            statistic=statistic,
            labels=tuple(labels),
            found=found or {},
        )


def shares_of(targets: Iterable[str]) -> dict[str, float]:
    """Label -> its share of the targets, sorted by label."""
    counts = Counter(targets)
    return {label: count / counts.total() for label, count in sorted(counts.items())}


def _named(item: Any, config: TaskConfig, where: str) -> dict[str, Any]:
    """The input fields of a user's item by canonical name: it is a row as in a file, whose columns may be paths and
    lists of columns, or has the fields' own names. A bare value is the only field of its task."""
    columns = columns_of(config, config.columns, labelled=False)
    paths = {name: [place] if isinstance(place, str) else place for name, place in columns.places.items()}
    shown = [path for place in paths.values() for path in place]
    remedy = "Give {" + ", ".join(f'"{path}": ...' for path in shown) + "}"
    if not isinstance(item, Mapping):
        if len(paths) == 1:
            return {name: item for name in paths}
        rule = f"must be an object with {' and '.join(shown)}"
        raise DataError(fault(where, shorten(item), rule, remedy))
    mapped = [name for name, place in paths.items() if all(is_in(item, path) for path in place)]
    lacking = [place for name, place in paths.items() if name not in item and name not in mapped]
    missing = [path for place in lacking for path in place if not is_in(item, path)]
    if missing:
        rule = f"has no {' and no '.join(missing)}"
        raise DataError(fault(where, shorten(dict(item)), rule, remedy))
    read = columns.canonical(item)
    return {name: read[name] if name in mapped else item[name] for name in paths}
