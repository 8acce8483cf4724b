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
    scores: Mapping[str, Mapping[str, float]]
    """Entity type -> precision, recall, f1, support."""

    def records(self) -> list[dict[str, Any]]:
        return [{"type": type_, **values} for type_, values in self.scores.items()]
