"""When new rows are worth a retraining."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.config.faults import above, between
from pipeline.errors import Fault


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftConfig:
    """How far new rows have to differ from what the champion has seen, as `pipeline.rules.drift` measures it.

    A difference counts when it is both significant, that is no accident of few rows, and large, that is worth the
    work: with enough rows any difference is significant.
    """

    policy: Literal["always", "drift"] = "always"
    """`always` retrains whenever there are enough new rows, `drift` only where they differ by one of the thresholds."""
    min_new_rows: int = 50
    """Fewer new rows than this are left to wait for more."""
    significance: float = 0.05
    """Probability, at most, that one or more of the tests finds a difference where there is none; each of the K tests
    has significance / K (Bonferroni), as Rabanser et al. 2019 combine theirs."""
    label_distance: float = 0.1
    """Least total variation distance between the label shares of old and new: the share of the new labels that would
    have to be others. A label that the old rows lack counts at any distance. Of targets that are numbers the
    Kolmogorov-Smirnov distance."""
    length_distance: float = 0.2
    """Least Kolmogorov-Smirnov distance between the lengths, from 0 to 1."""
    embedding_auc: float = 0.6
    """Least AUC with which the embeddings tell new rows from old: 0.5 is by chance, 1 always."""
    score_drop: float = 0.03
    """Least drop of the champion's score, in the metric's own unit, from its past slice to the new rows; one that the
    95 % interval of the new rows' score bridges does not count, since it may be chance."""
    max_rows: int = 500
    """Rows a side whose embeddings are compared; time and memory grow with their square."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from above(f"{where}.min_new_rows", self.min_new_rows)
        yield from between(f"{where}.significance", self.significance, 0.01, 0.5)
        for name in ("label_distance", "length_distance", "score_drop"):
            yield from above(f"{where}.{name}", getattr(self, name))
            yield from between(f"{where}.{name}", getattr(self, name), 0, 1)
        yield from between(f"{where}.embedding_auc", self.embedding_auc, 0.5, 1)
        yield from between(f"{where}.max_rows", self.max_rows, 20, 5000)
