"""Every setting, typed and documented; the YAML below `conf/` supplies the values.

Dataclasses only: no I/O, no framework. `faults()` states the rules that one value alone cannot break or keep;
`pipeline.strict.build` turns a mapping into one of these and reports every fault of it at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.errors import Fault

Kind = Literal["classification", "tagging", "multiple_choice", "extractive_qa"]

FIELDS: Mapping[Kind, Mapping[str, type]] = {
    "classification": {"text": str, "text_pair": str, "label": str},
    "tagging": {"tokens": list, "tags": list},
    "multiple_choice": {"question": str, "options": list, "answer": int},
    "extractive_qa": {"question": str, "context": str, "answers": dict},
}
"""The canonical fields of a row of each kind; `text_pair` is there where the task maps it."""

METRICS: Mapping[Kind, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1"),
    "tagging": ("f1",),
    "multiple_choice": ("accuracy",),
    "extractive_qa": ("f1", "exact_match"),
}
"""What `metric` may be for each kind; the first is the default."""


def _fault(where: str, value: object, rule: str, remedy: str) -> Fault:
    return Fault(where=where, value=str(value), rule=rule, remedy=remedy)


def _above(where: str, value: float, least: float = 0.0) -> Iterator[Fault]:
    if not value > least:
        yield _fault(where, value, f"must be above {least:g}", f"Set {where} to a number above {least:g}")


def _between(where: str, value: float, low: float, high: float) -> Iterator[Fault]:
    if not low <= value <= high:
        rule = f"must be between {low:g} and {high:g}"
        yield _fault(where, value, rule, f"Set {where} to a number from {low:g} to {high:g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """The pretrained Transformer that every adapter of a sweep sits on."""

    name: str
    """Short name, shown in tables."""
    source: Literal["package", "hub", "path"]
    """Where it comes from: an installed Python package, the Hugging Face hub, or a folder."""
    location: str
    """The package and the folder inside it (`package:folder`), the hub id, or the path."""
    revision: str | None = None
    """Hub branch, tag or commit; ignored elsewhere."""
    sha256: str | None = None
    """Expected sha256 of the weights file; a checkpoint with another one is refused. None: not checked."""
    pooling: Literal["mean", "first"] = "mean"
    """How a text becomes one vector: the mean over its tokens, or its first token."""


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
    """train, validation, test -> the data set's own names. Default: those of the three that are there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskConfig:
    """A task: what its rows look like, how they are scored, and where they come from."""

    name: str
    """The file's name below `conf/task/`."""
    kind: Kind
    """Which kind of task it is."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Canonical field -> name in the user's files, where it is not the canonical name (`config.FIELDS`)."""
    labels: list[str] | None = None
    """The labels (classification) or entity types (tagging), in order. None: read from the training rows, sorted."""
    metric: str | None = None
    """What is selected by, one of `config.METRICS[kind]`. None: the first of them."""
    default_domain: str = "default"
    """The domain that the bare task name means."""
    max_length: int = 128
    """Longest input in sub-tokens; what is longer is truncated, counted and reported (windowed in extractive QA)."""
    stride: int = 64
    """Extractive QA: sub-tokens that neighbouring windows share."""
    max_answer_length: int = 30
    """Extractive QA: longest predicted answer in sub-tokens."""
    scoring: Literal["joint", "dual"] = "joint"
    """Multiple choice: question and option in one input (BertForMultipleChoice), or two encodings compared."""
    class_weights: bool = False
    """Classification: weigh each label by the inverse of its share of the training rows."""
    hub: Mapping[str, HubConfig] = field(default_factory=dict)
    """Domain -> data set on the hub."""

    @property
    def primary(self) -> str:
        """Name of the metric that trials are selected by."""
        return self.metric or METRICS[self.kind][0]

    @property
    def columns(self) -> Mapping[str, str]:
        """Canonical field -> name in the user's files, for every field that a row of this task must have."""
        names = (name for name in FIELDS[self.kind] if name != "text_pair" or name in self.fields)
        return {name: self.fields.get(name, name) for name in names}

    def faults(self, where: str) -> Iterator[Fault]:
        allowed = METRICS[self.kind]
        if self.primary not in allowed:
            rule = f"is no metric of {self.kind}"
            yield _fault(f"{where}.metric", self.primary, rule, f"Use one of: {', '.join(allowed)}")
        known = FIELDS[self.kind]
        for name in self.fields:
            if name not in known:
                rule = f"is no field of {self.kind}"
                yield _fault(f"{where}.fields.{name}", name, rule, f"Map only: {', '.join(known)}")
        if self.labels is not None and len(set(self.labels)) < max(len(self.labels), 1):
            yield _fault(f"{where}.labels", self.labels, "must name each label once", "List every label one time")
        yield from _between(f"{where}.max_length", self.max_length, 8, 100_000)
        yield from _above(f"{where}.max_answer_length", self.max_answer_length)
        if self.kind == "extractive_qa" and not 0 <= self.stride <= self.max_length // 2:
            rule = "must be at least 0 and at most half of max_length"
            remedy = f"Set {where}.stride to {self.max_length // 2} or less"
            yield _fault(f"{where}.stride", self.stride, rule, remedy)


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
    """Remove from train the rows that stand in validation or test too."""
    max_train_rows: int | None = None
    """Train on this many rows at most, chosen by hash. None: on all."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from _between(f"{where}.validation_share", self.validation_share, 0.01, 0.5)
        yield from _between(f"{where}.test_share", self.test_share, 0.01, 0.5)
        if self.max_train_rows is not None:
            yield from _above(f"{where}.max_train_rows", self.max_train_rows)


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodConfig:
    """A bottleneck adapter: `h + scaling * W_up f(W_down h)` at the places of its layout."""

    name: Literal["houlsby", "pfeiffer", "parallel"]
    """The layout, that is where the bottlenecks sit (`pipeline.adapters.layouts`)."""
    width: int = 24
    """Bottleneck size R, in units."""
    activation: Literal["relu", "gelu", "swish", "tanh"] = "relu"
    """The f between the two projections."""
    dropout: float = 0.0
    """Dropout on the bottleneck's output, in training only."""
    scaling: float | Literal["learned"] = 1.0
    """Factor of the bottleneck's output; `learned` starts at 1."""
    init: Literal["zero", "bert", "houlsby"] = "zero"
    """W_up zero and W_down uniform (exact identity at the start); N(0, 0.02); truncated N(0, 0.01)."""
    layers: str | list[int] = "all"
    """`all`, `top-4` (the four nearest to the output), or a list of layer numbers from 0."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from _above(f"{where}.width", self.width)
        yield from _between(f"{where}.dropout", self.dropout, 0.0, 0.9)
        if isinstance(self.layers, str) and self.layers != "all":
            head, _, count = self.layers.partition("-")
            if head != "top" or not count.isdigit() or int(count) == 0:
                rule = "must be `all`, `top-<n>` or a list of layer numbers"
                yield _fault(f"{where}.layers", self.layers, rule, f"Set {where}.layers=top-4, for instance")


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """How one trial is trained."""

    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    epochs: int = 5
    """Passes over the training rows; the rung of the search is counted in them."""
    batch_size: int = 16
    """Rows a step (windows, in extractive QA)."""
    weight_decay: float = 0.01
    """Of matrices; biases and norms have none."""
    warmup: float = 0.1
    """Share of all steps in which the learning rate rises linearly from 0."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """What the learning rate does after warmup."""
    clip_norm: float = 1.0
    """Largest norm of the gradient of all trained tensors together."""
    head_dropout: float = 0.1
    """Dropout before the head."""
    patience: int = 0
    """Stop after this many epochs without a better validation score; 0: never."""
    eval_batch_size: int = 64
    """Rows a batch in evaluation."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the Transformer: `auto` is float32 on CPU, bfloat16 on GPU."""

    def faults(self, where: str) -> Iterator[Fault]:
        for name in ("learning_rate", "epochs", "batch_size", "clip_norm", "eval_batch_size"):
            yield from _above(f"{where}.{name}", getattr(self, name))
        yield from _between(f"{where}.weight_decay", self.weight_decay, 0.0, 1.0)
        yield from _between(f"{where}.warmup", self.warmup, 0.0, 0.9)
        yield from _between(f"{where}.head_dropout", self.head_dropout, 0.0, 0.9)
        if self.patience < 0:
            yield _fault(f"{where}.patience", self.patience, "must be 0 or more", "Use 0 to switch early stopping off")


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """What one searched key may be: exactly one of the three."""

    log_uniform: list[float] | None = None
    """[low, high], drawn evenly on a log scale."""
    uniform: list[float] | None = None
    """[low, high], drawn evenly."""
    choice: list[Any] | None = None
    """One of these."""

    @property
    def named(self) -> list[Any]:
        """What the config names: the choices, or both ends; where these are good settings, all proposals are."""
        return self.log_uniform or self.uniform or self.choice or []

    def faults(self, where: str) -> Iterator[Fault]:
        given = [name for name in ("log_uniform", "uniform", "choice") if getattr(self, name) is not None]
        if len(given) != 1:
            rule = "must have exactly one of log_uniform, uniform, choice"
            yield _fault(where, ", ".join(given), rule, f"Write {where}: {{choice: [16, 32]}}, for instance")
            return
        values = getattr(self, given[0])
        if given == ["choice"]:
            if not values:
                yield _fault(f"{where}.choice", values, "must not be empty", "List at least one value")
        elif len(values) != 2 or not values[0] < values[1]:
            yield _fault(f"{where}.{given[0]}", values, "must be [low, high]", "Give two numbers, the lower first")
        elif given == ["log_uniform"] and values[0] <= 0:
            yield _fault(f"{where}.log_uniform", values, "must start above 0", "Raise the lower bound above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """Which trials a job has, and which of them go on."""

    algorithm: Literal["random", "grid", "optuna"] = "random"
    """How candidates are chosen; each job has a searcher of its own."""
    scheduler: Literal["halving", "asha", "none"] = "halving"
    """How trials are pruned: in step within a job, by order of arrival, or not at all."""
    trials: int = 6
    """Candidates a job; a grid runs whole and ignores it."""
    reduction: int = 2
    """At each rung the best 1/reduction of the trials go on, and the next rung is reduction times as far."""
    first_rung: int = 1
    """Epochs that every trial gets."""
    grid_points: int = 3
    """Points that a grid puts on a continuous range."""
    cohort: int = 4
    """Optuna: trials that are proposed, and halved, together; it learns between cohorts."""
    time_budget_s: float | None = None
    """Stop searching after this many seconds; the best so far win. A resumed sweep has them anew. None: no limit."""
    space: Mapping[str, Range] = field(default_factory=dict)
    """Config key (`engine.learning_rate`, `method.width`, ...) -> range."""

    def faults(self, where: str) -> Iterator[Fault]:
        for name in ("trials", "first_rung", "grid_points", "cohort"):
            yield from _above(f"{where}.{name}", getattr(self, name))
        yield from _above(f"{where}.reduction", self.reduction, 1)
        if self.time_budget_s is not None:
            yield from _above(f"{where}.time_budget_s", self.time_budget_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Where the trials run."""

    name: Literal["local"] = "local"
    """`local`: a Ray of the sweep's own on this machine."""
    num_cpus: int | None = None
    """CPU cores that Ray may use. None: all."""
    cpus_per_trial: int = 1
    """Cores, and threads, of one trial."""
    gpus_per_trial: float = 0.0
    """GPUs of one trial; fractions put several trials on one."""
    object_store_bytes: int = 512 * 2**20
    """Size of Ray's shared memory, which holds the checkpoint and the tokenised data."""
    max_failures: int = 2
    """How often a trial whose process died is taken up again from its last snapshot."""

    def faults(self, where: str) -> Iterator[Fault]:
        if self.num_cpus is not None:
            yield from _above(f"{where}.num_cpus", self.num_cpus)
        yield from _above(f"{where}.cpus_per_trial", self.cpus_per_trial)
        yield from _between(f"{where}.gpus_per_trial", self.gpus_per_trial, 0, 64)
        yield from _above(f"{where}.object_store_bytes", self.object_store_bytes, 75 * 2**20)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig:
    """Where runs, artifacts and champions are kept."""

    uri: str = "sqlite:///mlflow.db"
    """MLflow tracking URI: SQLite, or an HTTP server."""
    artifacts: str = "mlartifacts"
    """Folder of the artifacts; ignored with an HTTP server, which knows its own."""
    experiment: str = "adapters"
    """MLflow experiment; one for all sweeps, so that runs can be compared."""
    keep_bundles: Literal["all", "best", "winners"] = "all"
    """Bundles recorded: every trial's, only those of trials that were not pruned, or the winners' alone."""

    def faults(self, where: str) -> Iterator[Fault]:
        if not self.uri.startswith(("sqlite:///", "http://", "https://")) or self.uri == "sqlite:///":
            rule = "must be a SQLite file or an HTTP server (MLflow's file store has no registry to rely on)"
            remedy = f"Set {where}.uri=sqlite:///mlflow.db, or {where}.uri=http://<host>:5000"
            yield _fault(f"{where}.uri", self.uri, rule, remedy)
        if not self.experiment.strip():
            yield _fault(
                f"{where}.experiment",
                self.experiment,
                "must not be empty",
                f"Set {where}.experiment=adapters",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """`make sweep`: a matrix of jobs, each searched for its best adapter."""

    tasks: list[str]
    """`sentiment`, `sentiment/movies`, `sentiment/*` ..."""
    task: Mapping[str, TaskConfig]
    """Every known task; filled from `conf/task/` and the user's CONF folder."""
    data: DataConfig
    checkpoint: CheckpointConfig
    method: MethodConfig
    engine: EngineConfig
    search: SearchConfig
    cluster: ClusterConfig
    tracking: TrackingConfig
    seed: int = 0
    """Seeds the search, the heads and adapters, and the order of the batches."""
    runs: str = "runs"
    """Folder of the sweeps' own files (log, snapshots)."""
    resume: str | None = None
    """Id of the sweep to continue. None: a new one."""
    dryrun: bool = False
    """Show the matrix and the estimate, and stop."""
