"""Serving the champions over HTTP: what is answered for, by how many processes, and what a client may ask."""

import dataclasses
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.config.faults import above, between
from pipeline.config.sweep import ClusterConfig, TrackingConfig
from pipeline.errors import Fault, fault


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingConfig:
    """The service: its processes, its queue, and the limits of a request."""

    host: str = "127.0.0.1"
    """Address that is listened at. 127.0.0.1: only this machine reaches it; 0.0.0.0: whoever reaches this machine."""
    replicas: int = 1
    """Processes that answer, for each checkpoint; each holds all of its adapters."""
    max_replicas: int | None = None
    """Ray adds processes up to so many while requests wait, and takes them off again. None: `replicas`, always."""
    target_requests: float = 16.0
    """Requests in work at a process above which Ray adds one; used with `max_replicas`."""
    ingresses: int = 1
    """Processes that take requests, check them and pass them on; one does for some hundred requests a second."""
    cpus: int = 1
    """Cores, and threads, of a process that answers. Of a Ray that is there they are reserved."""
    gpus: float = 0.0
    """GPUs of a process that answers; the checkpoint is then on the GPU. Each adapter answers in the precision that it
    was trained in."""
    bank_bytes: int | None = None
    """Bytes of adapters that a process holds; those that were used least recently are dropped, and read again when
    they are asked. None: all are held."""
    max_batch_rows: int = 64
    """Rows of one batch."""
    max_batch_tokens: int = 8192
    """Sub-tokens of one batch, padding included; one row that has more goes alone."""
    max_wait_ms: float = 2.0
    """How long a row waits for others to come, where nothing else is being computed and the batch before had more rows
    than there are; a client that asks alone never waits."""
    max_queue_tokens: int = 262_144
    """Sub-tokens that wait at a process; while so many do, further requests are refused (429)."""
    max_body_bytes: int = 8 * 2**20
    """Longest body of a request; a longer one is refused while it is read (413)."""
    max_rows: int = 1024
    """Most inputs of a request (413)."""
    max_chars: int = 100_000
    """Longest input in characters, all its texts together (413). What is longer than the model reads is cut, or read
    in windows, as the kind of the task does."""
    timeout_s: float = 30.0
    """After so long a request is given up (504)."""
    drain_s: float = 30.0
    """How long the end waits for requests that are being answered."""
    poll_s: float = 2.0
    """How often the registry is asked for aliases that have moved; a new champion answers within twice this time."""

    def faults(self, where: str) -> Iterator[Fault]:
        for name in ("replicas", "ingresses", "cpus", "max_batch_rows", "max_batch_tokens", "max_queue_tokens"):
            yield from above(f"{where}.{name}", getattr(self, name))
        for name in ("max_body_bytes", "max_rows", "max_chars", "timeout_s", "target_requests", "bank_bytes"):
            yield from above(f"{where}.{name}", getattr(self, name))
        yield from between(f"{where}.gpus", self.gpus, 0, 64)
        yield from between(f"{where}.max_wait_ms", self.max_wait_ms, 0, 1000)
        yield from between(f"{where}.drain_s", self.drain_s, 0, 3600)
        yield from between(f"{where}.poll_s", self.poll_s, 0.1, 3600)
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            rule, remedy = f"is less than {where}.replicas ({self.replicas})", "Set it to as many or more"
            yield fault(f"{where}.max_replicas", self.max_replicas, rule, remedy)
        if self.host != "localhost":
            try:
                ipaddress.ip_address(self.host)
            except ValueError:
                remedy = f"Set {where}.host=127.0.0.1, or {where}.host=0.0.0.0 for all networks"
                yield fault(f"{where}.host", self.host, "is no address of this machine", remedy)

    @property
    def is_open(self) -> bool:
        """Whether other machines can reach it."""
        return self.host != "localhost" and not ipaddress.ip_address(self.host).is_loopback


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """`make serve`: the champions answer over HTTP."""

    tasks: list[str] = field(default_factory=lambda: ["*"])
    """Which registered names are served: `sentiment`, `sentiment/movies`, `sentiment/*`, or `*` for all; also those
    that are registered later."""
    port: int = 8000
    """Port that is listened at."""
    serve: ServingConfig = field(default_factory=ServingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    runs: str = "runs"
    """Folder of the log, in which is what Ray and other libraries say."""

    def faults(self, where: str) -> Iterator[Fault]:
        yield from between("port", self.port, 1, 65535)
        if not self.tasks or not all(name.strip() for name in self.tasks):
            yield fault("TASKS", ",".join(self.tasks), "names no task", "Write TASKS='*' for all of them")
        if self.cluster.name == "here":
            rule, remedy = "cannot serve: the service is made of processes of Ray", "Leave out CLUSTER"
            yield fault("CLUSTER", "here", rule, remedy)
        default = {one.name: one.default for one in dataclasses.fields(ServingConfig)}
        if self.serve.max_replicas is None and self.serve.target_requests != default["target_requests"]:
            rule, remedy = "has no effect without serve.max_replicas", "Set serve.max_replicas too, or leave it out"
            yield fault("serve.target_requests", self.serve.target_requests, rule, remedy)
