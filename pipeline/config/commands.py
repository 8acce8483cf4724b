"""Every command: its settings, the variables of `make` that it takes, and what it may be called from.

The settings of the small commands stand here; those of a sweep are in `pipeline.config`.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pipeline.config import (
    CheckpointConfig,
    CompareConfig,
    RetrainConfig,
    SweepConfig,
    TaskConfig,
    TrackingConfig,
)
from pipeline.config.champions import EvaluateConfig, PredictConfig, PromoteConfig, RollbackConfig, StatusConfig
from pipeline.config.faults import no_secret
from pipeline.config.kubernetes import KubernetesConfig
from pipeline.config.schedule import ScheduleConfig
from pipeline.config.serve import ServeConfig
from pipeline.config.strict import nearest
from pipeline.config.typed import is_bare, plain, quoted
from pipeline.errors import ConfigError, Fault, fault


@dataclass(frozen=True, kw_only=True, slots=True)
class UiConfig:
    """`make ui`: the MLflow UI."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    port: int = 5000
    """On this machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertConfig:
    """`make convert`: adapters of other programs to bundles, and back."""

    checkpoint: CheckpointConfig
    """To a bundle: what the adapter was trained on. A bundle knows its own."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where `source` is looked up if it is a registered name."""
    task: Mapping[str, TaskConfig]
    """Every known task; filled as in a sweep."""
    source: str = ""
    """Folder that is read; or a task or task/domain, whose champion is read."""
    target: str = ""
    """Folder that is written; must not be there yet."""
    to: Literal["auto", "bundle", "adapterhub", "peft", "edge", "onnx"] = "auto"
    """What is written. `auto`: a bundle of an adapter of AdapterHub, and the other way round. `peft`: a bundle of LoRA
    for vLLM and others; `edge`: adapter and head for torch and transformers alone; `onnx`: checkpoint, adapter
    and head in one model, for onnxruntime alone."""
    job: str = ""
    """To a bundle: task, or task/domain, that the adapter is for."""
    head: bool = True
    """Take the head along, if there is one."""
    name: str | None = None
    """To AdapterHub: what the adapter is called there. None: as the task."""
    num_choices: int | None = None
    """To AdapterHub, multiple choice: options of a question."""
    safetensors: bool = False
    """To AdapterHub: write safetensors, which `load_adapter` reads with `use_safetensors=True` alone."""
    seed: int = 0
    """To a bundle: of a new head."""

    def faults(self, where: str) -> Iterator[Fault]:
        for name in ("source", "target"):
            if not getattr(self, name):
                yield fault(name, "", "is missing", f"Give {name.upper()}=<folder>")
        if self.num_choices is not None and self.num_choices < 2:
            rule, remedy = "must be 2 or more", "Set num_choices to the options that every question has"
            yield fault("num_choices", self.num_choices, rule, remedy)
        if self.name is not None and (not self.name or "." in self.name):
            rule, remedy = "must be a name without dots, which separate the names of tensors", "Set another name"
            yield fault("name", self.name, rule, remedy)


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitConfig:
    """`make submit`: a command on the head node of a Ray cluster. Each key is written `submit.<key>`."""

    command: str = "sweep"
    """What is run there: sweep, compare, retrain, evaluate or status. All keys that do not begin with `submit.` are
    its own."""
    address: str = "http://127.0.0.1:8265"
    """Of the head node's dashboard."""
    environment: Literal["constraints", "image"] = "constraints"
    """`constraints`: the nodes have Python and Ray, and install the rest as pyproject.toml and constraints.txt have it;
    `image`: they have all packages."""
    runs: str = "~/adapter-runs"
    """Folder on the head node for the sweeps' own files, which outlive the job; `~` is the home of its user there."""
    ship: bool = True
    """Ship the folders that DATA, CONF and CHECKPOINT name. False: the head node has them at the same paths."""

    def faults(self, where: str) -> Iterator[Fault]:
        if not self.address.startswith(("http://", "https://")):
            rule, remedy = "must be the address of a dashboard", "Set it as in http://<head>:8265"
            yield fault("address", self.address, rule, remedy)
        yield from no_secret("address", self.address, "set RAY_AUTH_TOKEN in the environment")
        if not self.runs.startswith(("/", "~/")):
            rule = "must begin with / or ~/: what is below the shipped folder goes with the job"
            yield fault("runs", self.runs, rule, "Set it as in ~/adapter-runs")


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestsConfig(KubernetesConfig):
    """`make manifests`: what runs on Kubernetes, as files for kubectl."""

    target: str = "manifests"
    """Folder that is written; must not be there yet."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from KubernetesConfig.faults(self, where)
        name, *words = self.command or [""]
        if name not in (known := commands_from("kubernetes")):
            rule, remedy = f"must begin with {' or '.join(known)}", "Set command=[sweep,'TASKS=sentiment,ner']"
            yield fault("command", " ".join(self.command), rule, f"{remedy}, for instance")
            return
        try:
            overrides_of(name, [word for word in words if not word.startswith("ARGS=")])
        except ConfigError as error:
            yield from (replace(one, where=f"command: {one.where}") for one in error.faults)


Place = Literal["submit", "schedule", "kubernetes"]
Form = Literal["text", "plain", "list", "flag", "free"]


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of `make`, which stands for a config key."""

    key: str
    """The key that it sets; of a command that wraps another one without its prefix."""
    form: Form
    """How its value is written: as text, as a plain value, as a list, or as `true`. `free`: text that travels by the
    environment and sets no key."""
    says: str


VARIABLES: Mapping[str, Variable] = {
    "TASKS": Variable("tasks", "list", "sentiment,ner,medqa  sentiment/movies  'sentiment/*'"),
    "TASK": Variable("job", "text", "one task, or task/domain"),
    "TEXT": Variable("", "free", "a text that is answered"),
    "ITEM": Variable("", "free", "an item that is answered, as JSON"),
    "FILE": Variable("", "free", "a file of texts or rows in any format that is read; of texts also standard input"),
    "OUT": Variable("out", "text", "a file that answers are written to: .jsonl, .csv, .tsv or .parquet"),
    "VERSION": Variable("version", "plain", "the number of a registered version"),
    "ALIAS": Variable("alias", "text", "of a registered version: champion (default), challenger"),
    "REASON": Variable("", "free", "why, for those who come after"),
    "DATA": Variable(
        "data.source",
        "text",
        "a folder <dir>/<task>[/<domain>]/{train,validation,test}.{jsonl,csv,parquet,conll}; or hub",
    ),
    "CONF": Variable("conf", "text", "a folder with task files of your own"),
    "CHECKPOINT": Variable("checkpoint", "text", "a name in conf/checkpoint, a folder, or a hub id"),
    "METHOD": Variable("method", "plain", "parallel (default), houlsby, pfeiffer; lora, prompt, full, probe"),
    "METHODS": Variable("methods", "list", "those that are compared"),
    "TRIALS": Variable("search.trials", "plain", "candidates a task"),
    "EPOCHS": Variable("engine.epochs", "plain", "passes over the training rows, at most, of a candidate"),
    "SEED": Variable("seed", "plain", "of the search, the weights and the order of the rows"),
    "CLUSTER": Variable(
        "cluster", "plain", "local (default), a Ray of its own; existing, one that is there; here, no Ray"
    ),
    "RESUME": Variable("resume", "text", "id of an interrupted sweep"),
    "DRYRUN": Variable("dryrun", "flag", "1: show the matrix and an estimate, train nothing"),
    "SOURCE": Variable("source", "text", "a bundle, an adapter of another program, or a task whose champion is meant"),
    "TARGET": Variable("target", "text", "the folder that is written"),
    "TO": Variable("to", "plain", "auto, bundle, adapterhub, peft, edge, onnx"),
    "PORT": Variable("port", "plain", "of the UI or the service, on this machine"),
    "COMMAND": Variable("command", "plain", "what is submitted or scheduled; what `make help` explains"),
    "ADDRESS": Variable("address", "text", "of a Ray cluster's dashboard: http://head:8265"),
    "CRON": Variable("cron", "text", "the times of a schedule: '0 3 * * 0'"),
    "ON": Variable("on", "text", "cron, systemd, kubernetes, foreground"),
    "ACTION": Variable("action", "text", "of a schedule: install, list, remove"),
    "ID": Variable("id", "text", "the name of a schedule"),
}
"""Every variable of `make`, but ARGS, which takes any `key=value`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A command of `jobs/`."""

    config: type[Any]
    """Its settings."""
    says: str
    variables: Sequence[str]
    """Those of `VARIABLES` that it takes."""
    wraps: bool = False
    """Whether it takes another command's settings too, and tells its own by a prefix: its name and a dot."""
    called_from: Sequence[Place] = ()
    """What may run it."""
    unused: Mapping[str, str] = field(default_factory=dict)
    """Key, or beginning of keys, that its config has and it does not use -> what to do instead."""

    def keys(self) -> dict[str, str]:
        """Variable -> key that it sets here."""
        return {name: VARIABLES[name].key for name in self.variables}


_MATRIX = ("TASKS", "DATA", "CONF", "CHECKPOINT", "EPOCHS", "SEED", "CLUSTER", "DRYRUN")
_TRAINED = ("validation_share", "drop_overlap", "max_train_rows", "max_unseen")
_LEARNT = (*_TRAINED, "test_share", "max_bad_rows", "no_label")
"""Settings of data that a command has no use for which trains nothing, or reads no targets."""
_TRIALS = ("num_workers", "cpus_per_trial", "gpus_per_trial", "slots", "max_failures")
_OF_TRIALS = {f"cluster.{key}": "It is for trials; set serve.cpus, serve.gpus or serve.replicas" for key in _TRIALS}
"""Settings of the cluster that a service has no use for."""
_ANYWHERE: Sequence[Place] = ("submit", "schedule", "kubernetes")

COMMANDS: Mapping[str, Command] = {
    "sweep": Command(
        config=SweepConfig,
        says="Train, search and record an adapter for each of TASKS",
        variables=(*_MATRIX, "METHOD", "TRIALS", "RESUME"),
        called_from=_ANYWHERE,
    ),
    "compare": Command(
        config=CompareConfig,
        says="Seven METHODS side by side on each of TASKS: scores, parameters, time, memory",
        variables=(*_MATRIX, "METHODS", "TRIALS", "RESUME"),
        called_from=_ANYWHERE,
        unused={"gate": "A comparison moves no champion"},
    ),
    "retrain": Command(
        config=RetrainConfig,
        says="Train the champions of TASKS on what is new in DATA; promote what is not worse",
        variables=_MATRIX,
        called_from=_ANYWHERE,
        unused={
            "method": "A challenger has its champion's method; train another one with `make sweep`",
            "search.space": "A challenger is searched around its champion: set challenger.trials and challenger.spread",
            "search.trials": "Set challenger.trials",
            "engine.learning_rate": "It follows from the champion's: set challenger.rate",
        },
    ),
    "predict": Command(
        config=PredictConfig,
        says="The champion of TASK answers TEXT, ITEM, FILE or standard input",
        variables=("TASK", "TEXT", "ITEM", "FILE", "OUT", "VERSION", "ALIAS", "CONF"),
        unused={
            "data.source": "Name the file by FILE",
            **{f"data.{key}": "It is for rows that have a target" for key in _LEARNT},
        },
    ),
    "evaluate": Command(
        config=EvaluateConfig,
        says="Score the champion of TASK on the test rows of DATA, or on the rows of FILE; moves no alias",
        variables=("TASK", "DATA", "FILE", "VERSION", "ALIAS", "CONF"),
        called_from=("submit",),
        unused={f"data.{key}": "Rows to train on are not looked at" for key in _TRAINED},
    ),
    "serve": Command(
        config=ServeConfig,
        says="The champions of TASKS answer over HTTP at PORT, until Ctrl-C",
        variables=("TASKS", "PORT", "CONF", "CLUSTER"),
        unused={**_OF_TRIALS, "tracking.keep_bundles": "Nothing is recorded"},
    ),
    "status": Command(
        config=StatusConfig,
        says="Champions and challengers: scores, checkpoint, data, age",
        variables=("CONF",),
        called_from=("submit", "schedule"),
    ),
    "rollback": Command(
        config=RollbackConfig,
        says="Make the champion before TASK's present one champion again, for a REASON",
        variables=("TASK", "REASON", "CONF"),
    ),
    "promote": Command(
        config=PromoteConfig,
        says="Make VERSION of TASK champion, which the gate rejected, for a REASON",
        variables=("TASK", "VERSION", "REASON", "CONF"),
    ),
    "ui": Command(config=UiConfig, says="The MLflow UI on the recorded runs", variables=("PORT", "CONF")),
    "convert": Command(
        config=ConvertConfig,
        says="An adapter of another program becomes a bundle, or SOURCE an adapter of another program",
        variables=("SOURCE", "TARGET", "TO", "TASK", "CHECKPOINT", "CONF"),
    ),
    "submit": Command(
        config=SubmitConfig,
        says="COMMAND with its variables on the Ray cluster at ADDRESS",
        variables=("COMMAND", "ADDRESS"),
        wraps=True,
    ),
    "schedule": Command(
        config=ScheduleConfig,
        says="Retrain TASKS at the times of CRON: by cron, or ON something else; ACTION=list, ACTION=remove ID=...",
        variables=("CRON", "ON", "ACTION", "ID", "COMMAND"),
        wraps=True,
    ),
    "manifests": Command(
        config=ManifestsConfig,
        says="Files for Kubernetes: MLflow and a Ray cluster of GPUs, as ARGS say",
        variables=("TARGET",),
        called_from=("schedule",),
    ),
}
"""Name -> command: the one list of them. Each is the file of its name in `jobs/`, and a target of the Makefile."""


def commands_from(place: str) -> list[str]:
    """The commands that may be run from somewhere."""
    return [name for name, command in COMMANDS.items() if place in command.called_from]


def overrides_of(name: str, words: Sequence[str]) -> list[str]:
    """Write the variables among the words of a command line as overrides; all other words stay as they are.

    Args:
        name: The command.
        words: `TASKS=ner`, `key=value`.

    Raises:
        ConfigError: There is no such variable, or the command does not take it; or it cannot run the one that it wraps.
    """
    command = COMMANDS[name]
    keys = {variable: f"{name}.{key}" if command.wraps else key for variable, key in command.keys().items()}
    if command.wraps:
        keys = _wrapped(name, words) | keys
    written, faults = [], []
    for word in words:
        match = re.match(r"([A-Z]+)=(.*)", word, re.S)
        if match is None:
            written.append(word)
            continue
        variable, value = match.groups()
        if variable in keys:
            written += _override(VARIABLES[variable].form, keys[variable], value)
        elif variable == "ARGS":  # which `make` takes apart
            remedy = "Write the settings themselves, as words: key=value"
            faults.append(fault(variable, value, "is a variable of make", remedy))
        else:
            rule, remedy = "is no variable", nearest(variable, list(VARIABLES))
            if variable in VARIABLES:
                rule, remedy = f"is not used by `{name}`", f"It takes {', '.join(keys)}"
            faults.append(fault(variable, value, rule, f"{remedy}; any other setting goes into ARGS='key=value'"))
    if faults:
        raise ConfigError(faults)
    return written


def standing(name: str, words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Say which variables that a command takes stand in the environment of `make` alone, where they are not used."""
    said = {word.partition("=")[0] for word in words}
    taken = {*COMMANDS[name].variables, "ARGS"} | (set().union(*_inner(name)) if COMMANDS[name].wraps else set())
    return [
        f"{one} stands in the environment, and is not used: write make {name} {one}={shlex.quote(environment[one])}"
        for one in environment.get("ADAPTERS_STANDING", "").split()
        if one in taken and one not in said and one in environment
    ]


def _inner(name: str) -> list[Sequence[str]]:
    """The variables of each command that another one can run."""
    return [COMMANDS[one].variables for one in commands_from(name)]


def environment_of(words: Sequence[str]) -> dict[str, str]:
    """The free text among the words of a command line, which commands read from the environment."""
    given = (word.partition("=") for word in words)
    return {name: value for name, _, value in given if name in VARIABLES and VARIABLES[name].form == "free" and value}


def _wrapped(name: str, words: Sequence[str]) -> dict[str, str]:
    """The variables of the command that another one is told to run, and the keys that they set.

    Raises:
        ConfigError: It cannot be run from there.
    """
    said = {
        key.removeprefix(f"{name}.").lower(): value.strip("\"'")
        for key, _, value in (word.partition("=") for word in words)
        if key.isupper() or key.startswith(f"{name}.")
    }
    if said.get("action") in ("list", "remove"):
        return {}
    inner = said.get("command") or str(COMMANDS[name].config.__dataclass_fields__["command"].default)
    if inner not in (known := commands_from(name)):
        raise ConfigError(fault("COMMAND", inner, f"is no command that `{name}` runs", nearest(inner, known)))
    return COMMANDS[inner].keys()


def _override(form: Form, key: str, value: str) -> list[str]:
    if form == "flag":
        return [] if value in ("", "0", "no", "false") else [f"{key}=true"]
    if form == "free" or not value:
        return []
    if form == "list":
        items = [plain(item.strip()) for item in value.split(",") if item.strip()]
        return [f"{key}=[{','.join(items)}]"]
    return [f"{key}={quoted(value) if form == 'text' or not is_bare(value) else value}"]
