"""What can be wrong with the rows of several kinds of tasks."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from pipeline.config import TaskConfig
from pipeline.core.data.labels import FRACTION
from pipeline.core.data.rows import Dataset, Row, Split
from pipeline.errors import DataError, Fault, fault

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.I)
LabelsOf = Callable[[Row], Iterable[str]]


def raise_faults(faults: Sequence[Fault]) -> None:
    """Raise a DataError with `faults`, if there are any."""
    if faults:
        raise DataError(faults)


def row_fault(row: Row, value: object, rule: str, remedy: str) -> Fault:
    """A fault of one row, located by file and line."""
    return fault(row.origin, shorten(value), rule, remedy)


def shorten(value: object, limit: int = 60) -> str:
    """A value as it is shown in a message."""
    text = str(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def with_article(what: str) -> str:
    """A label, an entity type."""
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"


def empty_faults(row: Row, *names: str) -> Iterator[Fault]:
    """One fault for each of the named texts that is empty or blank."""
    for name in names:
        if not row.fields[name].strip():
            remedy = "set data.no_label=[null]" if name == "label" else "remove the row"
            yield row_fault(row, "", f"has an empty {name}", f"Write a {name}, or {remedy}")


def text_faults(row: Row) -> Iterator[Fault]:
    """One fault for the text, or each of a pair of texts, that is empty or blank."""
    yield from empty_faults(row, *(name for name in ("text", "text_pair") if name in row.fields))


def fraction_faults(found: Mapping[str, Row]) -> Iterator[Fault]:
    """One fault where all labels are numbers and not all of them are whole, which looks like a score."""
    fractions = [label for label in found if "." in label]
    if fractions and all(_NUMBER.fullmatch(label) for label in found):
        yield row_fault(found[fractions[0]], fractions[0], *FRACTION)


def option_faults(row: Row) -> Iterator[Fault]:
    """What is wrong with the options of a question."""
    options = row.fields["options"]
    if len(options) < 2:
        yield row_fault(row, options, "has fewer than 2 options", "Give at least two options")
    for i, option in enumerate(options):
        if not option.strip():
            rule = f"has an empty option at position {i}, from 0"
            yield row_fault(row, options, rule, "Write the option, or remove it")


def answer_faults(row: Row) -> Iterator[Fault]:
    """Whether the answer is a position in the options."""
    answer, last = row.fields["answer"], len(row.fields["options"]) - 1
    if not 0 <= answer <= last:
        rule = f"is out of range: the answer is a position in options, from 0 to {last}"
        yield row_fault(row, answer, rule, "Count the options from 0")


def unseen_faults(
    config: TaskConfig,
    dataset: Dataset,
    seen: Collection[str],
    labels_of: LabelsOf,
    *,
    what: str,
    first_rows: Callable[[Split], Mapping[str, Row]] | None = None,
) -> Iterator[Fault]:
    """What is wrong with labels or entity types (`what`) of validation and test that cannot be predicted.

    They are counted as wrong, as long as they are few (`data.max_unseen`) and the config does not list what there is.

    Args:
        config: The task as the user has it.
        dataset: Its rows.
        seen: What the training rows have, or a champion has learnt.
        labels_of: The labels of a row, one for each place where it has one.
        first_rows: Label -> the first row of a split with it, at the place of the label in it. None: that of the row.
    """
    for split in (dataset.validation, dataset.test):
        strange, share = unseen(split, seen, labels_of)
        if strange and first_rows:
            placed = first_rows(split)
            strange = {label: placed[label] for label in strange}
        if config.labels is not None:
            listed = {label: row for label, row in strange.items() if label in config.labels}
            yield from unlisted_faults(config, strange, what=what)
            for label, row in listed.items():
                listing = f"that task.{config.name} lists and no training row has"
                rule = f"is {with_article(what)} {listing}: it cannot be learned"
                remedy = f"Add training rows with it, or take it out of labels and {split.name}"
                yield row_fault(row, label, rule, remedy)
        elif share > dataset.max_unseen:
            first, *others = strange
            more = ", nor is 1 other" if len(others) == 1 else f", nor are {len(others)} others" if others else ""
            unpredictable = f"{share:.1%} of the {what}s of {split.name} cannot be predicted"
            rule = f"is no {what} of train{more}: {unpredictable}, more than {dataset.max_unseen:.0%}"
            remedy = f"Add training rows with it, remove it from {split.name}, or raise data.max_unseen"
            yield row_fault(strange[first], first, rule, remedy)


def unseen(split: Split, seen: Collection[str], labels_of: LabelsOf) -> tuple[dict[str, Row], float]:
    """Find what of the labels of a split is not `seen`: label -> its first row, sorted; and its share of all."""
    counts = Counter[bool]()
    strange: dict[str, Row] = {}
    for row in split.rows:
        for label in labels_of(row):
            counts[label in seen] += 1
            if label not in seen:
                strange.setdefault(label, row)
    return dict(sorted(strange.items())), counts[False] / max(counts.total(), 1)


def unlisted_faults(config: TaskConfig, found: Mapping[str, Row], *, what: str) -> Iterator[Fault]:
    """One fault for each label or entity type of the training rows that the config's list does not have."""
    if config.labels is None:
        return
    for label in sorted(set(found) - set(config.labels)):
        rule = f"is no {what} of task {config.name}, which lists {', '.join(config.labels)}"
        yield row_fault(found[label], label, rule, f"Mend the row, or add it to labels of task.{config.name}")
