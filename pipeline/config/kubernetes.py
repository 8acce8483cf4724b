"""What runs on Kubernetes: a Ray cluster of GPU workers by KubeRay, and MLflow with its database and object store."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.config.faults import above, between
from pipeline.errors import Fault, fault

_LONGEST_NAME = 39  # KubeRay allows 47 characters for a RayJob, which is called <name>-<command>
_UNITS = {"Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagesConfig:
    """Container images of others, each with a tag that stays what it is, or a digest."""

    # The tags were found in public manifests and release lists, not pulled: this project is built without a registry.
    # `-full` has the drivers of PostgreSQL and S3 (mlflow[extras,db]), which the plain image lacks. The version is the
    # client's, that of constraints.txt.
    mlflow: str = "ghcr.io/mlflow/mlflow:v3.17.2-full"
    """MLflow with psycopg2 and boto3."""
    postgres: str = "postgres:17.11-bookworm"
    """PostgreSQL, official image for Debian, whose user has the id 999."""
    # SeaweedFS: Apache License 2.0, and released every few weeks. MinIO's community edition is no longer maintained,
    # and Garage is under the AGPL.
    object_store: str = "chrislusf/seaweedfs:4.48"
    """SeaweedFS 4.47 or later, which has the flags that keep its inner ports from the network."""

    def faults(self, where: str) -> Iterator[Fault]:
        for name in ("mlflow", "postgres", "object_store"):
            yield from pinned(f"{where}.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadConfig:
    """The head node: Ray's own services and the command, but no trial."""

    cpus: int = 2
    """Cores."""
    memory: str = "8Gi"
    """Of the container, shared memory included."""
    shared_memory: str = "2Gi"
    """Ray's object store: holds the checkpoint and the tokenised data."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from above(f"{where}.cpus", self.cpus)
        yield from _memory(where, self.memory, self.shared_memory)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkersConfig:
    """The GPU workers, each a pod of its own, which Ray's autoscaler adds and removes."""

    min: int = 0
    """Workers that stay when nothing is to be done."""
    max: int = 4
    """Workers at most."""
    gpus: int = 1
    """GPUs of a worker."""
    cpus: int = 4
    """Cores of a worker."""
    memory: str = "16Gi"
    """Of the container, shared memory included."""
    shared_memory: str = "4Gi"
    """Ray's object store: one checkpoint for all trials of the worker."""
    gpus_per_trial: float = 0.5
    """GPUs of one trial; fractions put several trials on one."""
    cpus_per_trial: int = 2
    """Cores of one trial."""
    idle_timeout_s: int = 300
    """How long an idle worker stays; a new one takes minutes where its image is to be pulled."""

    def faults(self, where: str) -> Iterator[Fault]:
        for name in ("max", "gpus", "cpus", "cpus_per_trial", "gpus_per_trial", "idle_timeout_s"):
            yield from above(f"{where}.{name}", getattr(self, name))
        if self.max > 0:
            yield from between(f"{where}.min", self.min, 0, self.max)
        for name in ("cpus", "gpus"):
            wanted, there = getattr(self, f"{name}_per_trial"), getattr(self, name)
            if wanted > there > 0:
                remedy = f"Set {where}.{name}_per_trial to {there} or less"
                yield fault(f"{where}.{name}_per_trial", f"{wanted:g}", f"is more than a worker has ({there})", remedy)
        yield from _memory(where, self.memory, self.shared_memory)


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumesConfig:
    """Volumes that outlive their pods."""

    storage_class: str | None = None
    """StorageClass of all of them. None: the default one of the Kubernetes cluster."""
    runs: str = "20Gi"
    """The head's /data, with the sweeps' own files (log, snapshots): what RESUME goes on from."""
    postgres: str = "10Gi"
    """PostgreSQL: runs, params, metrics, the registry."""
    artifacts: str = "100Gi"
    """The object store: bundles, pictures, predictions."""

    def faults(self, where: str) -> Iterator[Fault]:
        if self.storage_class is not None:
            yield from _named(f"{where}.storage_class", self.storage_class)
        for name in ("runs", "postgres", "artifacts"):
            yield from _quantity(f"{where}.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretsConfig:
    """Names of Kubernetes Secrets, which are there before anything is applied; only the pods read what is in them."""

    postgres: str = "adapters-postgres"
    """Key `password`: of PostgreSQL's user, which the first start sets."""
    object_store: str = "adapters-object-store"
    """Keys `access-key` and `secret-key` of the object store."""
    huggingface: str | None = None
    """Key `token`: for checkpoints and data sets of the hub that want one. None: no token."""
    service: str | None = None
    """Key `token`: that clients of the RayService have to send. None: whoever reaches it may ask."""

    def faults(self, where: str) -> Iterator[Fault]:
        for name in ("postgres", "object_store", "huggingface", "service"):
            if getattr(self, name) is not None:
                yield from _named(f"{where}.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class KubernetesConfig:
    """The manifests' settings."""

    images: ImagesConfig = field(default_factory=ImagesConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    volumes: VolumesConfig = field(default_factory=VolumesConfig)
    secrets: SecretsConfig = field(default_factory=SecretsConfig)
    name: str = "adapters"
    """Of the RayCluster; what else there is has it in front of its own."""
    namespace: str = "adapters"
    """Kubernetes namespace of everything."""
    image: str = "adapter-pipeline:0.1.0"
    """Of every Ray node, built from conf/cluster/Dockerfile; with the name of your registry in front."""
    command: list[str] = field(default_factory=lambda: ["sweep", "TASKS=sentiment,ner,medqa"])
    """What the RayJob runs: `sweep` or `compare` and its variables, as after `make`."""
    backoff_limit: int = 0
    """How often KubeRay starts a failed job again. It begins a new sweep; RESUME=<id> goes on with the old one."""

    def faults(self, where: str) -> Iterator[Fault]:
        for key in ("name", "namespace"):
            yield from _named(key, getattr(self, key), "." not in getattr(self, key))
        if len(self.name) > _LONGEST_NAME or self.name[:1].isdigit():
            rule = f"must begin with a letter and have {_LONGEST_NAME} characters at most"
            yield fault("name", self.name, rule, "Set name=adapters, for instance")
        yield from pinned("image", self.image)
        yield from between("backoff_limit", self.backoff_limit, 0, 100)
        yield from _command(self.command)


def pinned(where: str, image: str) -> Iterator[Fault]:
    """A fault unless the image stays the same: by a tag that is not `latest`, or by a digest."""
    name, at, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    well_formed = re.fullmatch(r"[\w./:-]+", name) and not name.startswith((":", "/"))
    stays = re.fullmatch(r"sha256:[0-9a-f]{64}", digest) if at else tag and not tag.startswith("latest")
    if not well_formed or not stays:
        rule = "must be an image with a tag that stays what it is (not latest), or with a digest"
        yield fault(
            where, image, rule, f"Set {where} as in registry.example.com/name:1.2.3, or name@sha256:<64 digits>"
        )


def in_bytes(quantity: str) -> int:
    """`2Gi` is 2147483648."""
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]


def _quantity(where: str, value: str) -> Iterator[Fault]:
    if not re.fullmatch(r"[1-9]\d*(Mi|Gi|Ti)", value):
        yield fault(where, value, "must be a whole number of Mi, Gi or Ti", f"Set {where}=16Gi, for instance")


def _memory(where: str, memory: str, shared: str) -> Iterator[Fault]:
    found = [*_quantity(f"{where}.memory", memory), *_quantity(f"{where}.shared_memory", shared)]
    yield from found
    if not found and in_bytes(shared) * 2 > in_bytes(memory):
        rule = f"is more than half of {where}.memory ({memory}), of which it is a part"
        yield fault(f"{where}.shared_memory", shared, rule, f"Set {where}.memory to more, or this to less")


def _named(where: str, name: str, allowed: bool = True) -> Iterator[Fault]:
    if not allowed or len(name) > 63 or not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name):
        rule = "must be a name of Kubernetes: lower-case letters, digits and dashes, 63 at most"
        yield fault(where, name, rule, f"Set {where}=adapters, for instance")


def _command(command: list[str]) -> Iterator[Fault]:
    example = "Set command=[sweep,'TASKS=sentiment,ner'], for instance"
    for word in command[1:]:
        variable = re.match(r"([A-Z]+)=", word)
        if not variable:
            yield fault("command", word, "must be a variable of make with its value", example)
        elif variable[1] == "CLUSTER":
            yield fault("command", word, "is set here: the job's own cluster", "Leave it out")
    if "RESUME" not in (names := [word.partition("=")[0] for word in command[1:]]) and "TASKS" not in names:
        yield fault("command", " ".join(command), "names no TASKS", example)
