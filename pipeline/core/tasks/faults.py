"""What can be wrong with the rows of several kinds of tasks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pipeline.config import TaskConfig
from pipeline.core.data.rows import Row, Split
from pipeline.errors import DataError, Fault, fault


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


def empty_faults(row: Row, *names: str) -> Iterator[Fault]:
    """One fault for each of the named texts that is empty or blank."""
    for name in names:
        if not row.fields[name].strip():
            yield row_fault(row, "", f"has an empty {name}", f"Write a {name}, or remove the row")


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


def unseen_faults(split: Split, seen: Iterable[str], found: Mapping[str, Row], *, what: str) -> Iterator[Fault]:
    """One fault for each label or entity type (`what`) of a split that the training rows lack.

    Args:
        seen: What the training rows have, or a warm start has learnt.
        found: Label -> the first row of the split with it.
    """
    for label in sorted(set(found) - set(seen)):
        if split.cut_from:
            rule = f"is a {what} that only the rows have which were cut off train for {split.name}"
            remedy = f"Add rows with it, remove them, or give a {split.name} file"
        else:
            rule = f"is no {what} of train, but stands in {split.name}: it cannot be learned"
            remedy = f"Add training rows with it, or remove it from {split.name}"
        yield row_fault(found[label], label, rule, remedy)


def unlisted_faults(config: TaskConfig, found: Mapping[str, Row], *, what: str) -> Iterator[Fault]:
    """One fault for each label or entity type of the training rows that the config's list does not have."""
    if config.labels is None:
        return
    for label in sorted(set(found) - set(config.labels)):
        rule = f"is no {what} of task {config.name}, which lists {', '.join(config.labels)}"
        yield row_fault(found[label], label, rule, f"Mend the row, or add it to labels of task.{config.name}")
