"""A process that answers: it holds what the keeper says, and tells what is wrong with what it is asked."""

import asyncio
import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import pytest

from pipeline.config import EngineConfig, MethodConfig, TaskConfig
from pipeline.config.serve import ServingConfig
from pipeline.core.adapters.checkpoint import Checkpoint, Resident, load_checkpoint
from pipeline.core.bank.predictor import Predictor
from pipeline.core.engine.assemble import fresh_model, release
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.tasks.kinds import restore
from pipeline.serving.bank import Answering
from pipeline.serving.keeper import Keeper
from pipeline.serving.state import Entry, Key, Reply, Report
from tests import bundles
from tests.conftest import TinyBert
from tests.tiny import tiny_checkpoint

LABELS = ["bad", "good"]


@pytest.fixture(scope="module")
def place(tiny_bert: TinyBert, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and bundles of two versions of a task, which answer differently."""
    root = tmp_path_factory.mktemp("serving")
    checkpoint = tiny_checkpoint(*tiny_bert(), root / "tiny")
    resident = load_checkpoint(checkpoint)
    for version in (1, 2):
        write(root / f"mood-{version}", resident, TaskConfig(name="mood", kind="classification"), version)
    return root


def write(folder: Path, resident: Resident, config: TaskConfig, seed: int, method: str = "pfeiffer") -> None:
    """A bundle with a head of random weights."""
    task, how = (
        restore(config, LABELS),
        MethodConfig(name="full") if method == "full" else MethodConfig(name="pfeiffer", width=4),
    )
    model = fresh_model(resident.base, resident.checkpoint, task, how, EngineConfig(), seed)
    bundles.write(folder, model, checkpoint=resident.checkpoint, task=config, labels=LABELS, method=how, seed=seed)
    release(model, how)


@final
class Folders:
    """A registry of folders `<name>-<version>`, and the keeper as a process that answers sees it."""

    def __init__(self, root: Path, wanted: Sequence[Key]) -> None:
        self.root, self.wanted, self.reports = root, list(wanted), list[Report]()

    async def of_bank(self, report: Report) -> list[Key]:
        self.reports.append(report)
        return self.wanted

    async def bundle(self, name: str, version: int) -> Mapping[str, bytes]:
        return {file.name: file.read_bytes() for file in (self.root / f"{name}-{version}").iterdir()}


def answering(place: Path, keeper: Folders, **limits: Any) -> Answering:
    checkpoint: Checkpoint = tiny(place)
    resident = load_checkpoint(checkpoint)
    counter = copy.deepcopy(resident.tokenizer)
    return Answering("one", "home", resident, counter, ServingConfig(max_wait_ms=0, **limits), keeper)


def tiny(place: Path) -> Checkpoint:
    from pipeline.core.adapters.checkpoint import open_checkpoint

    return open_checkpoint(read_bundle(place / "mood-1").record.checkpoint)


def alone(place: Path, version: int, item: Any) -> dict[str, Any]:
    """What `make predict` says."""
    (said,) = Predictor(load_checkpoint(tiny(place))).predict(read_bundle(place / f"mood-{version}"), [item])
    return said


def replies(one: Answering, *entries: Entry) -> list[Reply]:
    """Ask a process that is up."""

    async def whole() -> list[Reply]:
        await one.sync()
        running = asyncio.create_task(one.queue.run())
        try:
            return await one.answer(entries, 20)
        finally:
            running.cancel()
            one.close()

    return asyncio.run(whole())


def test_entries_of_several_versions_are_answered_as_each_alone(place: Path, one_thread: None) -> None:
    keeper = Folders(place, [("mood", 1), ("mood", 2)])
    first, second = replies(
        answering(place, keeper),
        Entry(name="mood", version=1, items=["a good film", "dull"]),
        Entry(name="mood", version=2, items=["a good film"]),
    )
    assert (first.version, second.version) == (1, 2)
    assert len(first.answers) == 2
    for reply, version in ((first, 1), (second, 2)):
        expected = alone(place, version, "a good film")
        assert reply.answers[0][0]["label"] == expected["label"]
        scores = {part["label"]: part["score"] for part in reply.answers[0]}
        assert scores == pytest.approx(expected["scores"], abs=1e-5)


def test_what_it_holds_is_told_with_its_bytes_and_what_is_wanted_no_more_is_dropped(place: Path) -> None:
    keeper = Folders(place, [("mood", 1)])
    one = answering(place, keeper)

    async def whole() -> None:
        await one.sync()
        assert keeper.reports[-1].resident.keys() == {("mood", 1)}
        assert keeper.reports[-1].resident["mood", 1] > 0
        keeper.wanted = [("mood", 2)]
        await one.sync()
        assert keeper.reports[-1].resident.keys() == {("mood", 2)}
        one.close()

    asyncio.run(whole())


def test_a_version_that_it_has_not_yet_is_fetched_when_it_is_asked(place: Path, one_thread: None) -> None:
    keeper = Folders(place, [])
    one = answering(place, keeper)

    async def whole() -> Reply:
        await one.sync()
        keeper.wanted = [("mood", 2)]
        running = asyncio.create_task(one.queue.run())
        try:
            return (await one.answer([Entry(name="mood", version=2, items=["fine"])], 20))[0]
        finally:
            running.cancel()
            one.close()

    assert asyncio.run(whole()).version == 2


def test_a_bundle_that_is_damaged_is_refused_with_its_reason_and_the_others_go_on(
    place: Path, tmp_path: Path, one_thread: None
) -> None:
    for version in (1, 2):
        (tmp_path / f"mood-{version}").mkdir()
        for file in (place / f"mood-{version}").iterdir():
            content = bytearray(file.read_bytes())
            if version == 2 and file.suffix == ".safetensors":
                content[-1] ^= 1
            (tmp_path / f"mood-{version}" / file.name).write_bytes(content)
    keeper = Folders(tmp_path, [("mood", 1), ("mood", 2)])
    good, bad = replies(
        answering(place, keeper),
        Entry(name="mood", version=1, items=["fine"]),
        Entry(name="mood", version=2, items=["fine"]),
    )
    assert "checksum" in keeper.reports[-1].refused["mood", 2]
    assert good.problem is None
    assert bad.problem is not None and bad.problem.error_type == "not_resident"


@pytest.mark.parametrize("item", [5, None, True, {}, {"txt": "a"}, [["a"]], "", "  ", {"text": 5}])
def test_an_input_that_the_task_cannot_read_is_named_and_its_neighbour_is_not_answered(place: Path, item: Any) -> None:
    keeper = Folders(place, [("mood", 1)])
    (reply,) = replies(answering(place, keeper), Entry(name="mood", version=1, items=["fine", item]))
    assert reply.problem is not None
    assert (reply.problem.status, reply.problem.error_type) == (422, "bad_input")
    assert reply.problem.error.startswith("inputs[1]")


@final
class Deployed:
    """Ray Serve in tests: what the keeper has started."""

    def __init__(self) -> None:
        self.started, self.stopped = list[str](), list[str]()

    def share(self, tensors: Mapping[str, Any]) -> int:
        return len(tensors)

    def start(self, home: str) -> None:
        self.started.append(home)

    def stop(self, home: str) -> None:
        self.stopped.append(home)


@final
class Registered:
    """A registry in tests."""

    def __init__(self, root: Path, aliases: dict[str, dict[str, int]]) -> None:
        self.root, self.now, self.away = root, aliases, ""
        self.released: list[str] = []

    def aliases(self) -> Mapping[str, Mapping[str, int]]:
        from pipeline.errors import TrackingError

        if self.away:
            raise TrackingError(self.away)
        return self.now

    def bundle(self, name: str, version: int) -> Path:
        return self.root / f"{name}-{version}"

    def release(self, folder: Path) -> None:
        self.released.append(folder.name)


def test_what_a_keeper_has_fetched_is_released_when_nobody_needs_it_any_more(place: Path) -> None:
    registry, deployed = Registered(place, {"mood": {"champion": 1}}), Deployed()
    keeper = Keeper(registry, ["*"], ServingConfig(timeout_s=0.01, poll_s=0.01), deployed)

    async def whole() -> None:
        await keeper.look()
        registry.now = {"mood": {"champion": 2}}
        await keeper.look()
        assert registry.released == ["mood-1"]
        keeper.close()
        assert registry.released == ["mood-1", "mood-2"]

    asyncio.run(whole())


def test_an_ingress_is_told_of_no_task_before_the_registry_was_read(place: Path) -> None:
    """A keeper that is started anew while the registry is away must not say that nothing is registered."""
    registry, deployed = Registered(place, {"mood": {"champion": 1}}), Deployed()
    keeper = Keeper(registry, ["*"], ServingConfig(poll_s=0.01), deployed)
    registry.away = "The store refused"

    async def whole() -> None:
        asked = asyncio.create_task(keeper.of_ingress(Report(replica="in")))
        await asyncio.sleep(0.1)  # ten times as long as a keeper that had read it would wait
        assert not asked.done()
        await keeper.look()
        told = await asked
        assert (told.is_unread, told.registry, dict(told.tasks)) == (True, "The store refused", {})
        registry.away = ""
        await keeper.look()
        told = await keeper.of_ingress(Report(replica="in"))
        assert (told.is_unread, told.registry, [*told.tasks]) == (False, "", ["mood"])

    asyncio.run(whole())


def test_the_keeper_follows_the_registry_and_goes_on_where_that_is_away(place: Path) -> None:
    registry, deployed = Registered(place, {"mood": {"champion": 1}}), Deployed()
    keeper = Keeper(registry, ["*"], ServingConfig(timeout_s=0.01, poll_s=0.1), deployed)

    async def whole() -> None:
        assert await keeper.look() == ""
        (home,) = deployed.started
        first = keeper.table.tasks["mood"].champion
        assert first is not None and first.reason == "is being loaded"
        assert keeper.of_bank(Report(replica="one", home=home)) == [("mood", 1)]
        keeper.of_bank(Report(replica="one", home=home, resident={("mood", 1): 9}))
        assert served(keeper) == 1

        registry.now = {"mood": {"champion": 2, "previous": 1}}
        await keeper.look()
        assert served(keeper) == 1  # until some process holds the other
        assert keeper.of_bank(Report(replica="one", home=home, resident={("mood", 1): 9})) == [
            ("mood", 1), ("mood", 2),
        ]  # fmt: skip
        keeper.of_bank(Report(replica="one", home=home, resident={("mood", 1): 9, ("mood", 2): 9}))
        assert served(keeper) == 2
        assert deployed.started == [home]  # one checkpoint, one deployment

        registry.away = "The store refused"
        assert await keeper.look() == "The store refused"
        assert (served(keeper), keeper.table.registry) == (2, "The store refused")
        assert "adapter_registry_up 0.0" in keeper.metrics()

    asyncio.run(whole())


def served(keeper: Keeper) -> int:
    champion = keeper.table.tasks["mood"].champion
    assert champion is not None and not champion.reason
    return champion.version


def test_the_keeper_tells_why_a_version_cannot_be_served_and_serves_the_others(place: Path, tmp_path: Path) -> None:
    write(tmp_path / "mood-2", load_checkpoint(tiny(place)), TaskConfig(name="mood", kind="classification"), 2, "full")
    for version in (1, 3):
        folder = tmp_path / f"mood-{version}"
        folder.mkdir()
        for file in (place / "mood-1").iterdir():
            text = file.read_bytes()
            if file.suffix == ".json" and version == 3:
                text = text.replace(b"/tiny", b"/gone")
            (folder / file.name).write_bytes(text)
    names = {"mood": 1, "whole": 2, "far": 3}
    registry = Registered(tmp_path, {name: {"champion": number} for name, number in names.items()})
    registry.bundle = lambda name, version: tmp_path / f"mood-{version}"  # type: ignore[method-assign]
    keeper = Keeper(registry, ["*"], ServingConfig(), Deployed())
    asyncio.run(keeper.look())
    reasons = {name: one.reason for name, each in keeper.table.tasks.items() for one in each.versions}
    assert "is a whole copy of its checkpoint, not an adapter" in reasons["whole"]
    assert "gone" in reasons["far"]
    assert reasons["mood"] == "is being loaded"
