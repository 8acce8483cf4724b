"""The settings of the small commands; those of a sweep are in `pipeline.config`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.config import CheckpointConfig, HookConfig, SweepConfig, TaskConfig, TrackingConfig
from pipeline.config.kubernetes import KubernetesConfig
from pipeline.config.schedule import ScheduleConfig as ScheduleConfig  # not above: its parser is another package
from pipeline.errors import Fault


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictConfig:
    """`make predict`: the champion of a task answers."""

    tracking: TrackingConfig
    name: str = ""
    """Task, or task/domain, whose champion answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusConfig:
    """`make status`: what is registered."""

    tracking: TrackingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class RollbackConfig:
    """`make rollback`: the champion before the present one is champion again."""

    tracking: TrackingConfig
    hook: HookConfig
    name: str = ""
    """Task, or task/domain, whose champion is withdrawn."""
    quarantine: bool = True
    """Leave the rows that were new to it out of later passes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UiConfig:
    """`make ui`: the MLflow UI."""

    tracking: TrackingConfig
    port: int = 5000
    """On this machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig(SweepConfig):
    """`make bench`: training speed on the first of `tasks`, beside other libraries."""

    rounds: int = 3
    """Measurements of each; they take turns."""
    seconds: float = 20.0
    """Least length of one measurement, warm-up aside; ours ends with an epoch."""
    base_sized: bool | None = None
    """Measure a BERT of the base size with random weights too. None: where there is a GPU."""

    def faults(self, where: str) -> Iterator[Fault]:
        for name in ("rounds", "seconds"):
            if getattr(self, name) <= 0:
                remedy = f"Set {name} to a number above 0"
                yield Fault(where=name, value=str(getattr(self, name)), rule="must be above 0", remedy=remedy)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertConfig:
    """`python -m jobs.convert`: adapters of other programs to bundles, and back."""

    checkpoint: CheckpointConfig
    """To a bundle: what the adapter was trained on. A bundle knows its own."""
    tracking: TrackingConfig
    """Where `source` is looked up if it is a registered name."""
    task: Mapping[str, TaskConfig]
    """Every known task; filled as in a sweep."""
    source: str = ""
    """Folder that is read; or a task or task/domain, whose champion is read."""
    target: str = ""
    """Folder that is written; must not be there yet."""
    to: Literal["auto", "bundle", "adapterhub", "peft", "edge"] = "auto"
    """What is written. `auto`: a bundle of an adapter of AdapterHub, and the other way round. `peft`: a bundle of LoRA
    for vLLM and others; `edge`: adapter and head for torch and transformers alone."""
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
        if self.num_choices is not None and self.num_choices < 2:
            rule, remedy = "must be 2 or more", "Set num_choices to the options that every question has"
            yield Fault(where="num_choices", value=str(self.num_choices), rule=rule, remedy=remedy)
        if self.name is not None and (not self.name or "." in self.name):
            rule, remedy = "must be a name without dots, which separate the names of tensors", "Set another name"
            yield Fault(where="name", value=self.name, rule=rule, remedy=remedy)


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitConfig:
    """`make submit`: a command on the head node of a Ray cluster. Each key is written `submit.<key>`."""

    command: Literal["sweep", "compare", "retrain", "status"] = "sweep"
    """What is run there."""
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
            yield Fault(where="address", value=self.address, rule=rule, remedy=remedy)
        if not self.runs.startswith(("/", "~/")):
            rule = "must begin with / or ~/: what is below the shipped folder goes with the job"
            yield Fault(where="runs", value=self.runs, rule=rule, remedy="Set it as in ~/adapter-runs")


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestsConfig(KubernetesConfig):
    """`make manifests`: what runs on Kubernetes, as files for kubectl."""

    target: str = "manifests"
    """Folder that is written; must not be there yet."""
