"""What a kind of task has to show of its answers, as data; `pipeline.reports.plots` draws it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


class Figure:
    """One picture, and perhaps a table."""

    name: ClassVar[str]
    """Of its files."""

    def records(self) -> list[dict[str, Any]]:
        """Its numbers as a table; empty where the answers themselves are table enough."""
        return []


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion(Figure):
    """How often each label was answered with which."""

    name = "confusion"
    gold: Sequence[str]
    """True label of each row."""
    said: Sequence[str]
    """What was answered."""
    labels: Sequence[str]
    """All labels in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entities(Figure):
    """How well the entities of each type were found."""

    name = "entities"
    what: ClassVar[str] = "entity types"
    """Of what each bar is."""
    key: ClassVar[str] = "type"
    """Of the table's first column."""
    scores: Mapping[str, Mapping[str, float]]
    """Entity type -> precision, recall, f1, support."""

    def records(self) -> list[dict[str, Any]]:
        return [{self.key: name, **values} for name, values in self.scores.items()]


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels(Entities):
    """How well each label was found, where a row has any number of them."""

    name = "labels"
    what = "labels"
    key = "label"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scatter(Figure):
    """Predicted numbers beside the true ones."""

    name = "scatter"
    gold: Sequence[float]
    """True number of each row."""
    said: Sequence[float]
    """What was answered."""
