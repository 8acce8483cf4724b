"""The three kinds of processes together in one event loop, with a Ray Serve that only passes calls on."""

import asyncio
import contextlib
import itertools
import pickle
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import pytest
import ray
from ray import serve

from pipeline.config.serve import ServingConfig
from pipeline.serving import deployments
from pipeline.serving.deployments import BankProcess, IngressProcess, KeeperProcess, application_of
from tests import served
from tests.conftest import TinyBert
from tests.unit.serving.clients import asked
from tests.unit.serving.clock import Ahead

LIMITS = ServingConfig(poll_s=0.2, max_wait_ms=0)


@final
class Passing:
    """Ray Serve in tests: processes by deployment, and calls that are pickled on their way, as Ray does."""

    def __init__(self) -> None:
        self.processes: dict[str, list[Any]] = {}
        """Deployment -> its processes, which are asked in turn."""
        self.limits, self.replicas = LIMITS, 1
        self.calls: Counter[str] = Counter()
        self.answering: Any = None
        """The bank that was asked last."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self.num_dying = 0
        """Calls of a bank that end as if its process had died."""

    def handle(self, deployment: str, app_name: str) -> Any:
        return _Handle(self, deployment if deployment == deployments.KEEPER else app_name)

    def run_many(self, targets: Sequence[Any], **options: Any) -> None:
        """Start banks; called in a thread."""
        assert self.loop is not None
        for target in targets:
            asyncio.run_coroutine_threadsafe(self._start(target.name), self.loop).result(60)

    async def _start(self, home: str) -> None:
        self.processes[home] = [BankProcess(home, self.limits) for _ in range(self.replicas)]
        for bank in self.processes[home]:
            asyncio.get_running_loop().create_task(bank.reconfigure({}))

    def status(self) -> Any:
        return SimpleNamespace(applications=self.processes)


@final
class _Handle:
    def __init__(self, passing: Passing, name: str) -> None:
        self._passing, self._name = passing, name

    def __getattr__(self, method: str) -> Any:
        def remote(*args: Any) -> "asyncio.Task[Any]":
            return asyncio.ensure_future(self._called(method, pickle.loads(pickle.dumps(args))))

        return SimpleNamespace(remote=remote)

    async def _called(self, method: str, args: Sequence[Any]) -> Any:
        if method == "answer" and self._passing.num_dying:
            self._passing.num_dying -= 1
            raise ray.exceptions.ActorDiedError
        its = self._passing.processes[self._name]
        ready = [one for one in its if not isinstance(one, BankProcess) or one._answering is not None]
        self._passing.calls[self._name] += 1
        process = ready[self._passing.calls[self._name] % len(ready)]
        if isinstance(process, BankProcess):
            self._passing.answering = process
        return await getattr(process, method)(*args)


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Passing]:
    made = Passing()
    monkeypatch.setattr(serve, "get_deployment_handle", made.handle)
    tags = itertools.count()
    monkeypatch.setattr(serve, "get_replica_context", lambda: SimpleNamespace(replica_tag=f"{next(tags)}"))
    monkeypatch.setattr(serve, "run_many", made.run_many)
    monkeypatch.setattr(serve, "status", made.status)
    monkeypatch.setattr(ray, "put", lambda value: value)
    monkeypatch.setattr(ray, "get", lambda value: value)
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    yield made


def test_questions_reach_their_checkpoint_a_promotion_is_followed_and_a_dead_process_is_asked_no_more(
    tiny_bert: TinyBert, tmp_path: Path, passing: Passing, one_thread: None
) -> None:
    registry, expected = served.registry_of(tmp_path, tiny_bert, num_tasks=4)
    first, *others = registry.aliases()
    text = served.TEXTS[0]

    async def whole() -> None:
        passing.loop = asyncio.get_running_loop()
        keeper = KeeperProcess(registry, ["*"], LIMITS, reserves=False)
        passing.processes[deployments.KEEPER] = [keeper]
        await keeper.reconfigure({})
        ingress = IngressProcess(LIMITS, "", passing.handle(deployments.KEEPER, ""))
        app = ingress.__serve_build_asgi_app__()
        async with ingress._followed(app):

            async def champion(name: str) -> tuple[int, int]:
                """Status, and the version that answers; rightly."""
                said = await asked(app, "POST", f"/v1/tasks/{name}/predict", {"inputs": text})
                if said.status == 200:
                    version = int(said.headers["x-adapter-version"])
                    assert served.close(said.json, expected[name, version, text])
                    return 200, version
                return said.status, 0

            async def until(name: str, version: int) -> None:
                async with asyncio.timeout(60):
                    while await champion(name) != (200, version):
                        await asyncio.sleep(0.05)

            for name in (first, *others):
                await until(name, 1)
            (home,) = (name for name in passing.processes if name.startswith("bank-"))

            registry.promote(first, 2)  # on the other checkpoint
            assert (await asked(app, "POST", "/v1/refresh")).json == {"registry": "answers"}
            assert (await champion(first))[0] == 200  # never without an answer on the way
            await until(first, 2)
            assert sum(name.startswith("bank-") for name in passing.processes) == 2

            passing.num_dying = 1
            assert await champion(others[0]) == (200, 1)
            metrics = (await asked(app, "GET", "/metrics")).body.decode().splitlines()
            assert "adapter_request_retried_total 1.0" in metrics
            assert f'adapter_task_version{{alias="champion",task="{first}"}} 2.0' in metrics
            assert f'adapter_bank_replicas{{deployment="{home}"}}' in "\n".join(metrics)

            drained = asyncio.create_task(keeper.drain())
            async with asyncio.timeout(60):
                await drained
            assert (await champion(first))[0] == 503
        await ended()

    asyncio.run(whole())


async def ended() -> None:
    """End everything that goes on beside the task that runs."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_a_champion_that_changed_is_served_by_every_process_within_5_s(
    tiny_bert: TinyBert, tmp_path: Path, passing: Passing, one_thread: None
) -> None:
    registry, _ = served.registry_of(tmp_path, tiny_bert, num_tasks=2)
    name = list(registry.aliases())[1]  # whose versions are on one checkpoint
    passing.limits, passing.replicas = ServingConfig(), 2

    async def whole() -> None:
        passing.loop = asyncio.get_running_loop()
        keeper = KeeperProcess(registry, ["*"], passing.limits, reserves=False)
        passing.processes[deployments.KEEPER] = [keeper]
        await keeper.reconfigure({})
        ingresses = [IngressProcess(passing.limits, "", passing.handle(deployments.KEEPER, "")) for _ in range(2)]
        apps = [ingress.__serve_build_asgi_app__() for ingress in ingresses]

        async def until_all_say(version: int) -> float:
            """Ask until each bank has said the version behind each ingress; return for how many seconds."""
            begin, said = asyncio.get_running_loop().time(), set[tuple[int, Any]]()
            while len(said) < 4:
                for number, app in [(0, apps[0]), (0, apps[0]), (1, apps[1]), (1, apps[1])]:  # banks take turns
                    path = f"/v1/tasks/{name}/predict"
                    response = await asked(app, "POST", path, {"inputs": served.TEXTS[0]})
                    if response.headers.get("x-adapter-version") == str(version):
                        said.add((number, passing.answering))
                    await asyncio.sleep(0.02)
            return asyncio.get_running_loop().time() - begin

        async with ingresses[0]._followed(apps[0]), ingresses[1]._followed(apps[1]):
            await until_all_say(1)
            registry.promote(name, 2)
            assert await until_all_say(2) < 5
        await ended()

    with asyncio.Runner(loop_factory=Ahead) as runner:
        runner.run(whole())


def test_ray_serve_takes_the_application(tmp_path: Path) -> None:
    made = application_of(served.FileRegistry(tmp_path), ["*"], LIMITS, node="node:10.0.0.1")
    assert made is not None
