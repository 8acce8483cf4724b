"""A task, and where its rows come from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import ClassVar, Literal

from pipeline.config.faults import above, between
from pipeline.errors import Fault, fault

Kind = Literal[
    "classification", "multi_label", "regression", "tagging", "multiple_choice", "extractive_qa", "generation"
]

FIELDS: Mapping[Kind, Mapping[str, type]] = {
    "classification": {"text": str, "text_pair": str, "label": str},
    "multi_label": {"text": str, "text_pair": str, "labels": list},
    "regression": {"text": str, "text_pair": str, "score": float},
    "tagging": {"tokens": list, "tags": list},
    "multiple_choice": {"question": str, "options": list, "answer": int},
    "extractive_qa": {"question": str, "context": str, "answers": dict},
    "generation": {
        "text": str,
        "text_pair": str,
        "question": str,
        "context": str,
        "options": list,
        "answer": int,
        "label": str,
        "target": str,
    },
}
"""The canonical fields of a row of each kind, the target last. `text_pair` is there where the task maps it; of
generation those are there that prompt and completion mention, and any of them can be the target."""

Column = str | int | list[str]
"""Where a field is in the user's rows: a column's name, a dotted path into an object, a list of columns, or the number
of a column from 1 (conll)."""

METRICS: Mapping[Kind, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "matthews", "f1"),
    "multi_label": ("micro_f1", "macro_f1"),
    "regression": ("spearman", "pearson", "rmse"),
    "tagging": ("f1",),
    "multiple_choice": ("accuracy",),
    "extractive_qa": ("f1", "exact_match"),
    "generation": ("exact_match", "chrf"),
}
"""What `metric` may be for each kind; the first is the default. `f1` of classification is that of the second of two
labels, `matthews` the correlation of what is said and what is right."""

_UNWEIGHTED = ("multi_label", "regression")
"""Kinds that refuse `class_weights`."""

LOWER = frozenset({"rmse"})
"""Metrics of which less is better: they are negated where scores are compared, and shown as they are."""


def signed(metric: str, value: float) -> float:
    """A metric as scores are compared, of what is shown; and back."""
    return 0.0 - value if metric in LOWER else value  # `-value` of none is one below it


@dataclass(frozen=True, kw_only=True, slots=True)
class HubConfig:
    """One data set on the Hugging Face hub, as one domain of a task."""

    id: str
    """Full id, `owner/name`; datasets 5 refuses bare names."""
    config: str | None = None
    """Name of the configuration (subset), where the data set has several."""
    revision: str = "main"
    """Branch, tag or commit; `refs/convert/parquet` for data sets that are scripts."""
    columns: Mapping[str, str | list[str]] = field(default_factory=dict)
    """Canonical field -> column. A dot reaches into a struct, a list of columns makes a list. Default: same names."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """train, validation, test -> the data set's own names. Default: those of the three that are there, and that none is
    mapped to."""
    bad_rows: Literal["error", "skip"] = "error"
    """What becomes of rows with a fault, where `data.bad_rows` does not say it: a user cannot mend the hub."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskConfig:
    """A task: what its rows look like, how they are scored, and where they come from."""

    name: str
    """The file's name below `conf/task/`."""
    kind: Kind
    """Which kind of task it is."""
    columns: Mapping[str, Column] = field(default_factory=dict)
    """Canonical field (`config.FIELDS`) -> where it is in the user's files, where that is not a column of its own
    name. A dot reaches into an object, a list of columns makes a list (of a text: its parts), a number is that of a
    column of conll, from 1."""
    labels: list[str] | None = None
    """The labels (classification, multi-label) or entity types (tagging), in order. None: read from the training rows,
    sorted."""
    separator: str = "|"
    """Multi-label: what stands between labels that are written as one text, as in a cell of a csv file."""
    metric: str | None = None
    """What is selected by, one of `config.METRICS[kind]`. None: the first of them."""
    default_domain: str = "default"
    """The domain that the bare task name means."""
    max_length: int = 128
    """Longest input in sub-tokens; what is longer is truncated, counted and reported. Extractive QA reads it in
    windows, and tagging in answers; it is trained on the beginning."""
    stride: int = 64
    """Extractive QA, and answers of tagging: sub-tokens that neighbouring windows share; in tagging at most half of
    what they hold."""
    max_answer_length: int = 30
    """Extractive QA: longest predicted answer in sub-tokens."""
    unanswerable: bool = False
    """Extractive QA: whether the context may hold no answer, which is then answered where that is likelier than any
    span. True also where a training row has no answer."""
    scoring: Literal["joint", "dual"] = "joint"
    """Multiple choice: question and option in one input (BertForMultipleChoice), or two encodings compared."""
    class_weights: bool = False
    """Classification: weigh each label by the inverse of its share of the training rows."""
    prompt: str = "{text}"
    """Generation: what the model reads, with canonical fields in braces (`{{` and `}}` are braces)."""
    completion: str = "{target}"
    """Generation: what it shall write; its one field is the task's target. `options` are lines that begin with a
    letter, and `answer` is its letter."""
    max_new_tokens: int = 32
    """Generation: longest completion in sub-tokens; they are taken from `max_length`."""
    beams: int = 1
    """Generation: candidates that beam search keeps; 1 is greedy."""
    group: str | None = None
    """Column that rows which belong together share, such as a document or a patient: where a split is cut off train,
    they all go into the same. None: each row goes for itself, in extractive QA all that share a context together."""
    rows: str | None = None
    """The task whose rows (starter, files) this one reads, posed in another way. None: its own."""
    hub: Mapping[str, HubConfig] = field(default_factory=dict)
    """Domain -> data set on the hub."""

    @property
    def primary(self) -> str:
        """Name of the metric that trials are selected by."""
        return self.metric or METRICS[self.kind][0]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that trials of this task can be selected by."""
        return METRICS[self.kind]

    @property
    def types(self) -> Mapping[str, type]:
        """Canonical field -> what it holds, for every field that the kind knows."""
        return FIELDS[self.kind]

    FORMER: ClassVar[Mapping[str, str]] = {"fields": "columns"}
    """Keys that files and bundles of before have -> what they are called now."""
    LATER: ClassVar[Sequence[str]] = ("separator", "unanswerable")
    """Keys that came after passes were first named by a task (`strict.identity`); every new one goes here."""

    @property
    def field_names(self) -> Mapping[str, str]:
        """Canonical field -> what the user calls it, for every field that a row of this task must have: the name of
        its column where it has one, else its own."""
        if self.kind == "generation":
            mentioned = {*placeholders(self.prompt), *placeholders(self.completion)}
            if "answer" in mentioned:
                mentioned.add("options")  # which it is a position in
            names = [name for name in self.types if name in mentioned]
        else:
            names = [name for name in self.types if name != "text_pair" or name in self.columns]
        given = {name: column for name, column in self.columns.items() if isinstance(column, str)}
        return {name: given.get(name, name) for name in names}

    @property
    def group_field(self) -> str | None:
        """The canonical field that rows which belong together share, where the kind has one."""
        return "context" if self.kind == "extractive_qa" else None

    @property
    def target(self) -> str:
        """The canonical field that is predicted."""
        if self.kind == "generation":
            return placeholders(self.completion)[0]
        return list(self.types)[-1]

    def faults(self, where: str) -> Iterator[Fault]:
        allowed = METRICS[self.kind]
        if self.primary not in allowed:
            rule = f"is no metric of {self.kind}"
            yield fault(f"{where}.metric", self.primary, rule, f"Use one of: {', '.join(allowed)}")
        yield from column_faults(f"{where}.columns", self.columns, self)
        if self.labels is not None and len(set(self.labels)) < max(len(self.labels), 1):
            yield fault(f"{where}.labels", self.labels, "must name each label once", "List every label one time")
        if self.kind == "classification" and self.primary == "f1" and (self.labels is None or len(self.labels) != 2):
            rule = "is the F1 of the second of two labels, and `labels` does not list two"
            remedy = f"Set {where}.labels to [<other label>, <label that counts>], or metric to macro_f1"
            yield fault(f"{where}.metric", self.primary, rule, remedy)
        yield from between(f"{where}.max_length", self.max_length, 8, 100_000)
        yield from above(f"{where}.max_answer_length", self.max_answer_length)
        if self.kind == "extractive_qa" and not 0 <= self.stride <= self.max_length // 2:
            remedy = f"Set {where}.stride to {self.max_length // 2} or less"
            yield fault(f"{where}.stride", self.stride, "must be at least 0 and at most half of max_length", remedy)
        if self.kind == "tagging" and self.stride < 0:
            yield fault(f"{where}.stride", self.stride, "must be at least 0", f"Set {where}.stride to 0 or more")
        yield from above(f"{where}.max_new_tokens", self.max_new_tokens)
        yield from above(f"{where}.beams", self.beams)
        for name, given, default, kinds in (
            ("separator", self.separator, "|", ("multi_label",)),
            ("prompt", self.prompt, "{text}", ("generation",)),
            ("completion", self.completion, "{target}", ("generation",)),
            ("labels", self.labels, None, tuple(kind for kind in FIELDS if kind != "regression")),
            ("class_weights", self.class_weights, False, tuple(kind for kind in FIELDS if kind not in _UNWEIGHTED)),
        ):
            if given != default and self.kind not in kinds:
                remedy = "Remove it" + (f", or set kind: {kinds[0]}" if len(kinds) == 1 else "")
                yield fault(f"{where}.{name}", given, f"means nothing in a task of {self.kind}", remedy)
        if not self.separator.strip():
            remedy = "Use a mark that no label has, such as |"
            yield fault(f"{where}.separator", self.separator, "must be more than blanks, which labels have", remedy)
        if self.kind == "generation":
            yield from self._template_faults(where)
            if self.max_new_tokens > self.max_length // 2:
                rule = "must be at most half of max_length, which prompt and completion share"
                remedy = f"Set {where}.max_new_tokens to {self.max_length // 2} or less, or raise max_length"
                yield fault(f"{where}.max_new_tokens", self.max_new_tokens, rule, remedy)

    def _template_faults(self, where: str) -> Iterator[Fault]:
        known = self.types
        found: dict[str, list[str]] = {}
        for name, template in (("prompt", self.prompt), ("completion", self.completion)):
            remedy = f"Write fields in braces, each one of {', '.join(known)}, and other braces twice: {{{{ }}}}"
            try:
                found[name] = placeholders(template)
            except ValueError as error:
                yield fault(f"{where}.{name}", template, f"is no template ({error})", remedy)
                continue
            for unknown in dict.fromkeys(one for one in found[name] if one not in known):
                yield fault(f"{where}.{name}", template, f"has {{{unknown}}}, which is no field", remedy)
        if len(found) < 2:
            return
        if not found["prompt"]:
            rule, remedy = "has no field: every row would be the same", "Put one in, such as {text}"
            yield fault(f"{where}.prompt", self.prompt, rule, remedy)
        if len(found["completion"]) != 1:
            rule = f"must have exactly one field, the target, and has {len(found['completion'])}"
            yield fault(f"{where}.completion", self.completion, rule, "Keep one, such as {target}")
        elif found["completion"][0] in found["prompt"]:
            rule = f"holds the target {{{found['completion'][0]}}}, which completion asks for"
            yield fault(f"{where}.prompt", self.prompt, rule, "Take it out of the prompt")


def column_faults(where: str, columns: Mapping[str, Column], task: TaskConfig) -> Iterator[Fault]:
    """What is wrong with a mapping of the task's fields to columns."""
    for name, column in columns.items():
        if name not in task.types:
            rule = f"is no field of {task.kind}"
            yield fault(f"{where}.{name}", name, rule, f"Map only: {', '.join(task.types)}")
        elif isinstance(column, int):
            if "tags" not in task.types or column < 1:
                rule = "is a number, and numbers count the columns of conll files from 1"
                yield fault(f"{where}.{name}", column, rule, "Give the name of a column")
        elif isinstance(column, list) and (task.types[name] not in (list, str) or not column):
            rule = "is a list of columns, and only a list, or a text in parts, can be in several"
            yield fault(f"{where}.{name}", column, rule, "Give the name of one column")


def mapped_faults(columns: Mapping[str, Column], task: TaskConfig) -> Iterator[Fault]:
    """What is wrong with `data.columns` for the files of a task."""
    yield from column_faults("data.columns", columns, task)
    for name in columns:
        if name in task.types and name not in task.field_names:
            rule, remedy = f"is no field that {task.name} reads", f"Map only: {', '.join(task.field_names)}"
            yield fault(f"data.columns.{name}", columns[name], rule, remedy)


def task_change(before: TaskConfig, now: TaskConfig, labels: Sequence[str] = ()) -> tuple[str, str] | None:
    """Say what a task was and what it is now, where rows and answers of the two cannot be compared.

    That is all that scoring reads: an answer of before would be scored by what holds now, and lose by that alone.

    Args:
        before: The task of a bundle.
        now: The task that is asked for.
        labels: What the bundle answers with, as a config lists it. Labels may be added and change places.
    """
    if (before.kind, set(before.field_names)) != (now.kind, set(now.field_names)):
        was, is_ = (f"{task.kind} of {', '.join(task.field_names)}" for task in (before, now))
        return was, is_
    if before.primary != now.primary:
        return f"scored by {before.primary}", f"scored by {now.primary}"
    if before.completion != now.completion:
        return f"to write {before.completion!r}", f"to write {now.completion!r}"
    if now.labels is not None and (gone := [label for label in labels if label not in now.labels]):
        return f"to answer with {', '.join(gone)} too", f"to answer with {', '.join(now.labels)} alone"
    return None


def placeholders(template: str) -> list[str]:
    """The fields that a template names in braces, in order.

    Raises a ValueError where a brace stands alone, or something follows a field's name in its braces.
    """
    names = []
    for _, name, layout, conversion in Formatter().parse(template):
        if name is None:
            continue
        if layout or conversion:
            raise ValueError(f"{{{name}}} has something after its name")
        names.append(name)
    return names


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Where the rows come from."""

    source: str = "starter"
    """`starter` (shipped), `hub`, or a folder that holds `<task>[/<domain>]/{train,validation,test}.<format>`."""
    validation_share: float = 0.1
    """Share of the training rows cut off by hash when there is no validation split."""
    test_share: float = 0.1
    """Share of the training rows cut off by hash when there is no test split."""
    drop_overlap: bool = False
    """Remove from train the rows whose inputs stand in validation or test too, whatever the target, the letter case
    and the spaces."""
    max_train_rows: int | None = None
    """Train on this many rows at most, chosen by hash. None: on all."""
    columns: Mapping[str, Column] = field(default_factory=dict)
    """Canonical field -> where it is in the rows of this command, before what the task's file says."""
    encoding: str | None = None
    """Of text files, where it is not UTF-8 (or UTF-16 with a byte order mark), such as `cp1252`."""
    bad_rows: Literal["error", "skip"] | None = None
    """What becomes of rows with a fault: `error` refuses the data, `skip` leaves these rows out and counts them. None:
    what the data set's entry below the task's `hub` says, `error` for files."""
    max_bad_rows: float = 0.05
    """Largest share of a split's rows that `skip` leaves out; more are an error all the same."""
    max_unseen: float = 0.05
    """Largest share of the labels of validation or test (in tagging: of their entities) that train may lack. They
    cannot be predicted, and are counted as wrong."""
    no_label: list[str] = field(default_factory=list)
    """Labels that stand for none, such as `-`, `null` or an empty one: rows with one are left out."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from between(f"{where}.validation_share", self.validation_share, 0.01, 0.5)
        yield from between(f"{where}.test_share", self.test_share, 0.01, 0.5)
        yield from above(f"{where}.max_train_rows", self.max_train_rows)
        if self.encoding is not None:
            if not _decodes(self.encoding):
                remedy = "Name one that Python has, such as cp1252, latin-1, utf-16 or shift_jis"
                yield fault(f"{where}.encoding", self.encoding, "is no encoding of text", remedy)
            if self.source in ("starter", "hub"):
                rule = f"has no effect with DATA={self.source}"
                yield fault(f"{where}.encoding", self.encoding, rule, "Leave it out")
        if self.columns and self.source == "starter":
            rule = "has no effect with DATA=starter, whose rows have the fields' own names"
            yield fault(f"{where}.columns", "", rule, "Leave it out")
        yield from between(f"{where}.max_bad_rows", self.max_bad_rows, 0, 1)
        yield from between(f"{where}.max_unseen", self.max_unseen, 0, 1)


def _decodes(encoding: str) -> bool:
    try:
        return bool("a".encode(encoding))
    except (LookupError, ValueError):  # base64 is a codec, and none of text
        return False
