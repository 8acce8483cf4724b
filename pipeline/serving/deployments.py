"""The service on Ray Serve: an ingress, the keeper, and a deployment for each checkpoint.

Every process of the service loads this file, and the command too. Torch is loaded by those that use it: it takes longer
than all else that the ingress needs.
"""

import asyncio
import contextlib
import copy
import logging
import warnings
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.exceptions import DeploymentUnavailableError

from pipeline.config.serve import ServingConfig
from pipeline.serving.front import Front, ReplicaDied
from pipeline.serving.http import application
from pipeline.serving.state import Entry, Key, Reader, Reply, Report, Table

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.core.adapters.checkpoint import Resident
    from pipeline.serving.bank import Answering
    from pipeline.serving.keeper import Home

APP, KEEPER, BANK = "adapters", "Keeper", "Bank"
"""Names of the application, and of deployments."""
_AT_ONCE = 10_000
"""Requests that Ray hands to a process at once: the queue is ours, and says when it is full."""
_GONE = (ray.exceptions.RayActorError, DeploymentUnavailableError)
"""What is raised where a process is asked that has died."""
_SETTLED: Mapping[str, Any] = {"begin": True}
"""Given as `user_config`, so that Ray calls `reconfigure` and waits for it before a process counts as ready."""

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def read_only() -> Iterator[None]:
    """Map tensors from shared memory instead of copying them; hush the warnings that they must not be written to."""
    # Ray reads this from the environment when it is imported; there is no public way to set it later.
    ray._private.ray_constants.RAY_ENABLE_ZERO_COPY_TORCH_TENSORS = True
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Zero-copy tensor serialization|The given NumPy array is not")
        yield


@final
class OnServe:
    """Ray Serve as the keeper uses it."""

    def __init__(self, limits: ServingConfig, *, reserves: bool) -> None:
        self._limits, self._reserves = limits, reserves

    def share(self, tensors: Mapping[str, "Tensor"]) -> Any:
        """Put tensors into the object store, of which each node has one copy."""
        with read_only():
            return ray.put(dict(tensors))

    def start(self, home: str) -> None:
        """Start the deployment of a checkpoint, unless it is there: a new one would replace its processes."""
        if home in serve.status().applications:
            return
        limits = self._limits
        actor: dict[str, Any] = {"num_cpus": limits.cpus if self._reserves else 0, "num_gpus": limits.gpus}
        many: dict[str, Any] = {"num_replicas": limits.replicas}
        if limits.max_replicas is not None:
            bounds = {"min_replicas": limits.replicas, "max_replicas": limits.max_replicas}
            many = {"autoscaling_config": {**bounds, "target_ongoing_requests": limits.target_requests}}
        bank = _deployment(BankProcess, BANK, limits, actor, **many).bind(home, limits)
        target = serve.RunTarget(bank, name=home, route_prefix=None)
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)

    def stop(self, home: str) -> None:
        """End a deployment."""
        serve.delete(home, _blocking=False)


@final
class KeeperProcess:
    """The keeper in a process of its own."""

    def __init__(self, reader: Reader, patterns: Collection[str], limits: ServingConfig, *, reserves: bool) -> None:
        from pipeline.serving.keeper import Keeper

        self._keeper = Keeper(reader, patterns, limits, OnServe(limits, reserves=reserves))
        self._following: asyncio.Task[None] | None = None

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Begin."""
        if self._following is None:
            self._following = asyncio.create_task(self._keeper.follow())

    async def of_bank(self, report: Report) -> list[Key]:
        """As `Keeper.of_bank`."""
        return self._keeper.of_bank(report)

    async def of_ingress(self, report: Report) -> Table:
        """As `Keeper.of_ingress`."""
        return await self._keeper.of_ingress(report)

    async def bundle(self, name: str, version: int) -> dict[str, bytes]:
        """As `Keeper.bundle`."""
        return await asyncio.to_thread(self._keeper.bundle, name, version)

    async def home(self, name: str) -> "Home":
        """As `Keeper.home`."""
        return self._keeper.home(name)

    async def look(self) -> str:
        """As `Keeper.look`."""
        return await self._keeper.look()

    async def metrics(self) -> str:
        """As `Keeper.metrics`."""
        return self._keeper.metrics()

    async def table(self) -> Table:
        """The table as it stands."""
        return self._keeper.table

    async def drain(self) -> None:
        """As `Keeper.drain`."""
        await self._keeper.drain()

    def __del__(self) -> None:
        """Ray calls this before it ends the process, which runs nothing else at its exit."""
        self._keeper.close()


@final
class BankProcess:
    """A process that answers."""

    def __init__(self, home: str, limits: ServingConfig) -> None:
        self._home, self._limits = home, limits
        self._keeper = serve.get_deployment_handle(KEEPER, app_name=APP)
        self._answering: Answering | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Map the checkpoint, and take all adapters."""
        if self._answering is not None:
            return
        import torch

        from pipeline.serving.bank import Answering

        torch.set_num_threads(self._limits.cpus)
        home: Home = await self._keeper.home.remote(self._home)
        resident = await asyncio.to_thread(_resident, home, "cuda" if self._limits.gpus else "cpu")
        name, counter = serve.get_replica_context().replica_tag, copy.deepcopy(home.tokenizer)
        self._answering = Answering(name, self._home, resident, counter, self._limits, _Keeping(self._keeper))
        await self._answering.sync()
        self._tasks = [asyncio.create_task(one) for one in (self._answering.queue.run(), self._answering.follow())]

    async def answer(self, entries: Sequence[Entry], timeout_s: float) -> list[Reply]:
        """As `Answering.answer`."""
        assert self._answering is not None, "Ray hands nothing over before `reconfigure` has ended"
        return await self._answering.answer(entries, timeout_s)

    async def check_health(self) -> None:
        """Raise where the queue is taken from no more: Ray then starts another process."""
        for task in self._tasks:
            if task.done():
                task.result()

    def __del__(self) -> None:
        """As of the keeper."""
        if self._answering is not None:
            self._answering.close()


@final
class IngressProcess:
    """A process that takes requests."""

    def __init__(self, limits: ServingConfig, token_digest: str, keeper: Any) -> None:
        self._limits, self._digest, self._keeper = limits, token_digest, keeper
        self._replica = serve.get_replica_context().replica_tag
        self._front = Front(limits, self._send, self._fetch)
        self._banks: dict[str, Any] = {}

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application; Ray calls this behind the constructor."""
        return application(
            self._front, self._refresh, self._metrics, token_digest=self._digest, lifespan=self._followed
        )

    @contextlib.asynccontextmanager
    async def _followed(self, app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(self._follow())
        yield
        following.cancel()

    async def _follow(self) -> None:
        while True:
            try:
                self._front.take(await self._fetch())
            except ReplicaDied:
                pass  # the keeper is started again; until then the table stays as it is
            except Exception:
                _log.exception("The table of tasks could not be fetched")
            await asyncio.sleep(self._limits.poll_s / 2)

    async def _fetch(self) -> Table:
        report = Report(
            replica=self._replica,
            num_open=self._front.num_open,
            is_draining=self._front.table.is_draining,
            figures=self._front.figures.so_far(),
        )
        try:
            table: Table = await self._keeper.of_ingress.remote(report)
        except _GONE as error:
            raise ReplicaDied from error
        return table

    async def _refresh(self) -> str:
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                why: str = await self._keeper.look.remote()
                self._front.take(await self._fetch())
        except TimeoutError:
            return f"The registry does not answer within {self._limits.timeout_s:g} s"
        except (ReplicaDied, *_GONE):
            return "The process that follows the registry is being started again"
        return why

    async def _metrics(self) -> str:
        await self._fetch()  # with which the keeper has this one's as they are now
        told: str = await self._keeper.metrics.remote()
        return told

    async def _send(self, home: str, entries: Sequence[Entry], timeout_s: float) -> Sequence[Reply]:
        if home not in self._banks:
            self._banks[home] = serve.get_deployment_handle(BANK, app_name=home)
        response = self._banks[home].answer.remote(entries, timeout_s)
        try:
            replies: Sequence[Reply] = await response
        except _GONE as error:
            raise ReplicaDied from error
        except asyncio.CancelledError:
            response.cancel()
            raise
        return replies


@final
class _Keeping:
    """The keeper behind its handle."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def of_bank(self, report: Report) -> Sequence[Key]:
        keys: Sequence[Key] = await self._handle.of_bank.remote(report)
        return keys

    async def bundle(self, name: str, version: int) -> Mapping[str, bytes]:
        try:
            files: Mapping[str, bytes] = await self._handle.bundle.remote(name, version)
        except ray.exceptions.RayTaskError as error:  # whose own message has the traceback of the other process
            raise error.cause from None
        return files


def application_of(
    reader: Reader,
    patterns: Collection[str],
    limits: ServingConfig,
    *,
    token_digest: str = "",
    reserves: bool = True,
    node: str = "",
) -> Any:
    """Bind the ingress and the keeper; the keeper starts the other deployments.

    Args:
        reader: Knows what is registered; it is sent to the keeper.
        patterns: Which names are served.
        limits: Of the service.
        token_digest: `limits.digest_of` the token that clients have to send.
        reserves: Whether the cores that are used are taken from those that Ray has to give.
        node: Resource of the node where the keeper has to run; empty: anywhere.
    """
    where = {"resources": {node: 0.001}} if node else {}
    keeper = _deployment(KeeperProcess, KEEPER, limits, {"num_cpus": 0, **where})
    taking = serve.ingress()(IngressProcess)
    ingress = _deployment(taking, "Ingress", limits, {"num_cpus": 0}, num_replicas=limits.ingresses)
    kept = keeper.bind(reader, list(patterns), limits, reserves=reserves)
    return ingress.bind(limits, token_digest, kept)


def _deployment(cls: type[Any], name: str, limits: ServingConfig, actor: Mapping[str, Any], **more: Any) -> Any:
    return serve.deployment(
        cls,
        name=name,
        max_ongoing_requests=_AT_ONCE,
        ray_actor_options=dict(actor),
        user_config=dict(_SETTLED) if hasattr(cls, "reconfigure") else None,
        graceful_shutdown_timeout_s=limits.drain_s,
        graceful_shutdown_wait_loop_s=0.2,
        health_check_period_s=2.0,
        logging_config={"enable_access_log": False},
        **more,
    )


def _resident(home: "Home", device: str) -> "Resident":
    """The checkpoint around the node's shared tensors; on a GPU a copy of them."""
    from pipeline.core.adapters.checkpoint import Resident, build_base

    with read_only():
        tensors: Mapping[str, Tensor] = ray.get(home.tensors)
    base = build_base(home.checkpoint, tensors).to(device)
    return Resident(checkpoint=home.checkpoint, tokenizer=home.tokenizer, base=base)
