"""A whole sweep, and where it runs and is recorded."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.config.faults import above, between, no_secret
from pipeline.config.gate import GateConfig
from pipeline.config.search import Range, SearchConfig
from pipeline.config.task import DataConfig, TaskConfig
from pipeline.config.training import METHOD_TRAITS, CheckpointConfig, EngineConfig, MethodConfig
from pipeline.errors import Fault, fault

_MEANINGLESS = {
    "local": ("address",),
    "existing": ("num_cpus", "object_store_bytes"),
    "here": ("address", "num_cpus", "num_workers", "slots", "object_store_bytes", "max_failures"),
}
"""Settings of `ClusterConfig` that a kind of cluster does not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Where the trials run."""

    name: Literal["local", "existing", "here"] = "local"
    """`local`: a Ray of the sweep's own on this machine; `existing`: one that is there, and stays; `here`: no Ray, one
    trial after another in the command's own process, where a debugger reaches them."""
    address: str = "auto"
    """Of the existing Ray, one of whose nodes this is: `auto`, or `host:6379`."""
    num_cpus: int | None = None
    """CPU cores that a local Ray may use. None: all."""
    num_workers: int = 1
    """Processes that train one trial together, each on its share of every batch; worth it where a step is long."""
    cpus_per_trial: int = 1
    """Cores, and threads, of one trial; of each of its workers, where it has several."""
    gpus_per_trial: float = 0.0
    """GPUs of one trial, or of each of its workers; fractions put several trials on one."""
    pack: Literal["auto"] | int = "auto"
    """Most candidates of a job that one process trains together, reading each batch with the checkpoint once for all.
    `auto`: on GPUs all that there are, dealt out to the slots and as far as memory goes; on CPUs one."""
    slots: int | None = None
    """Trials side by side. None: as many as fit on the nodes that are there; a number where nodes are to join,
    as with an autoscaler."""
    object_store_bytes: int | None = None
    """Size of a local Ray's shared memory, which holds the checkpoint and the tokenised data. None: what the
    checkpoint needs and a quarter of a GB."""
    max_failures: int = 2
    """How often a trial whose process died is taken up again from its last snapshot."""
    prefix_bytes: int = 4 * 2**30
    """What each node may keep on its disk, in the user's folder of caches, of what the frozen layers below the lowest
    adapter make of each row: `method.layers=top-3`, or `probe`. It is computed once for all epochs, trials and sweeps;
    what was not used for longest goes first. 0: nothing is kept."""

    def faults(self, where: str) -> Iterator[Fault]:
        for name in ("num_cpus", "num_workers", "cpus_per_trial"):
            yield from above(f"{where}.{name}", getattr(self, name))
        yield from between(f"{where}.gpus_per_trial", self.gpus_per_trial, 0, 64)
        yield from above(f"{where}.slots", self.slots)
        if self.pack != "auto":
            yield from above(f"{where}.pack", self.pack)
            if self.pack > 1 and self.num_workers > 1:
                rule = f"cannot be had with several workers a trial ({where}.num_workers={self.num_workers})"
                yield fault(f"{where}.pack", self.pack, rule, "Leave out one of the two")
        yield from above(f"{where}.object_store_bytes", self.object_store_bytes, 75 * 2**20)
        if self.prefix_bytes < 0:
            rule, remedy = "must be 0 or more", "Use 0 to keep nothing"
            yield fault(f"{where}.prefix_bytes", self.prefix_bytes, rule, remedy)
        defaults = {setting.name: setting.default for setting in dataclasses.fields(self)}
        for name in _MEANINGLESS[self.name]:
            if getattr(self, name) != defaults[name]:
                rule, remedy = f"has no effect with CLUSTER={self.name}", f"Leave out {where}.{name}"
                yield fault(f"{where}.{name}", getattr(self, name), rule, remedy)
        if self.name == "here" and self.gpus_per_trial not in (0, 1):
            rule, remedy = "must be 0 or 1 with CLUSTER=here", f"Set {where}.gpus_per_trial=1 to train on the GPU"
            yield fault(f"{where}.gpus_per_trial", self.gpus_per_trial, rule, remedy)


TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
"""MLflow's own name in the environment for the address of a store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig:
    """Where runs, artifacts and champions are kept."""

    uri: str = "sqlite:///mlflow.db"
    """MLflow tracking URI: SQLite, or an HTTP server. Where it is not set, MLFLOW_TRACKING_URI of the environment."""
    artifacts: str = "mlartifacts"
    """Folder of the artifacts; ignored with an HTTP server, which knows its own."""
    experiment: str = "adapters"
    """MLflow experiment; one for all sweeps, so that runs can be compared."""
    keep_bundles: Literal["all", "best", "winners"] = "all"
    """Bundles recorded: every trial's, only those of trials that were not pruned, or the winners' alone."""
    patience_s: float = 600.0
    """Seconds that the end of a sweep waits for a server that does not answer. Training never waits; what is not
    recorded then stays in the sweep's folder `spool`, and RESUME records it."""

    def faults(self, where: str) -> Iterator[Fault]:
        if not self.uri.startswith(("sqlite:///", "http://", "https://")) or self.uri == "sqlite:///":
            rule = "must be a SQLite file or an HTTP server (MLflow's file store has no registry to rely on)"
            given = f" (it is {TRACKING_VARIABLE}'s)" if self.uri == os.environ.get(TRACKING_VARIABLE) else ""
            remedy = f"Set {where}.uri=sqlite:///mlflow.db, or {where}.uri=http://<host>:5000"
            yield fault(f"{where}.uri", self.uri, rule + given, remedy)
        login = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
        if not self.uri.startswith("sqlite:"):
            yield from no_secret(f"{where}.uri", self.uri, login)
        if not self.experiment.strip():
            remedy = f"Set {where}.experiment=adapters"
            yield fault(f"{where}.experiment", self.experiment, "must not be empty", remedy)
        yield from between(f"{where}.patience_s", self.patience_s, 0, 86_400 * 7)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """A method in a comparison."""

    method: MethodConfig
    space: Mapping[str, Range]
    """What is searched: its own learning rates, and its size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """`make sweep`: a matrix of jobs, each searched for its best adapter."""

    tasks: list[str] = field(default_factory=list)
    """`sentiment`, `sentiment/movies`, `sentiment/*` ..."""
    task: Mapping[str, TaskConfig]
    """Every known task; filled from `conf/task/` and the user's CONF folder."""
    checkpoint: CheckpointConfig
    method: MethodConfig
    data: DataConfig = field(default_factory=DataConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    """What a winner has to show before it takes a champion's place."""
    seed: int = 0
    """Seeds the search, the heads and adapters, and the order of the batches."""
    runs: str = "runs"
    """Folder of the sweeps' own files (log, snapshots)."""
    resume: str | None = None
    """Id of the sweep to continue. None: a new one."""
    dryrun: bool = False
    """Show the matrix and the estimate, and stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig(SweepConfig):
    """`make compare`: the same jobs for several methods; `search.space` adds to what each of them searches."""

    methods: list[str] = field(default_factory=lambda: list(METHOD_TRAITS))
    """Files of `conf/method`, or of the folder `method` in the user's CONF."""
    contenders: Mapping[str, Contender]
    """Method -> its settings; filled from `conf/method`."""
    seeds: int = 3
    """Trainings of each winner's setting, with seeds of their own; the first is the search's."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from above("seeds", self.seeds)
        if len(set(self.methods)) < max(len(self.methods), 1):
            rule = "must name each method once, and at least one"
            yield fault("methods", self.methods, rule, "Set methods=[houlsby,full], for instance")
