"""Aliases are moved one at a time; wherever that is cut off, the next `settle` completes it. On a real SQLite store."""

import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import TrackingConfig
from pipeline.core.engine.bundle import read_bundle
from pipeline.errors import ConfigError, TrackingError
from pipeline.tracking.lock import exclusive
from pipeline.tracking.promotion import promote, rollback, settle
from pipeline.tracking.registry import champion_of, register
from pipeline.tracking.run import create_run
from pipeline.tracking.store import Store, open_store
from tests.processes import forked
from tests.unit.tracking.conftest import Story, enrol, make_job, verdict

NAME = "sentiment"
WRITES = ("set_", "delete_", "create_")
Act = Callable[[Store], object]


class Killed(BaseException):
    """A process that is no more."""


@dataclass
class Cutting:
    """A client that dies when it has written so many times."""

    client: Any
    after: int
    writes: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.client, name)

        def write(*args: Any, **options: Any) -> Any:
            found = call(*args, **options)
            self.writes.append(name)
            if len(self.writes) == self.after:
                raise Killed
            return found

        return write if name.startswith(WRITES) else call


def add(store: Store, replaces: int | None, verdict: str = "champion") -> int:
    """Create a version as `register` does, and settle nothing."""
    tags = {"verdict": verdict, "reason": "the test says so", "replaces": str(replaces or "")}
    return int(store.client.create_model_version(NAME, source="nowhere", tags=tags).version)


def champions(store: Store, count: int) -> None:
    """Make so many versions champion, one after the other."""
    store.client.create_registered_model(NAME)
    for number in range(count):
        add(store, number or None)
        settle(store, NAME)


def aliases(store: Store) -> dict[str, int]:
    return {alias: int(number) for alias, number in store.client.get_registered_model(NAME).aliases.items()}


def tags(store: Store, number: int) -> dict[str, str]:
    return dict(store.client.get_model_version(NAME, str(number)).tags)


def everything(store: Store) -> Any:
    found = store.client.search_model_versions(f"name = '{NAME}'")
    return aliases(store), {version.version: dict(version.tags) for version in found}


def cut_off(database: Path, folder: Path, prepare: Act, act: Act, complete: Act) -> list[Any]:
    """Do it on a store of its own for every write that can be the last; what is there at the end of each.

    The first is that of the one that nothing cut off.
    """

    def opened(name: str, source: Path) -> Store:
        shutil.copy(source, folder / name)
        return open_store(TrackingConfig(uri=f"sqlite:///{folder}/{name}", artifacts=str(folder)))

    found: list[Any] = []
    prepare(opened("prepared.db", database))
    for after in itertools.count():
        store = opened(f"{after}.db", folder / "prepared.db")
        client = Cutting(store.client, after)
        try:
            act(replace(store, client=client))
        except Killed:
            complete(store)
        else:
            if after:  # it did not come to so many
                return found
        found.append(everything(store))
    raise AssertionError


def test_the_champion_before_is_previous_before_the_new_one_is_champion(store: Store) -> None:
    champions(store, 1)
    add(store, 1)
    with pytest.raises(Killed):
        settle(replace(store, client=Cutting(store.client, 1)), NAME)
    assert aliases(store) == {"champion": 1, "previous": 1}
    settle(store, NAME)
    assert aliases(store) == {"champion": 2, "previous": 1}


def test_a_settled_name_is_written_to_no_more(store: Store) -> None:
    champions(store, 2)
    add(store, 2, "challenger")
    settle(store, NAME)
    client = Cutting(store.client, -1)
    settle(replace(store, client=client), NAME)
    assert client.writes == []
    assert aliases(store) == {"champion": 2, "previous": 1, "challenger": 3}
    add(store, 2, "challenger")
    settle(store, NAME)
    assert aliases(store)["challenger"] == 4


@pytest.mark.parametrize(
    ("before", "judged_against", "end", "writes"),
    [
        (0, [None], {"champion": 1}, 2),
        (2, [2], {"champion": 3, "previous": 2}, 3),
        (2, [1], {"champion": 2, "previous": 1, "challenger": 3}, 3),
        (1, [1, 1], {"champion": 2, "previous": 1, "challenger": 3}, 6),
    ],
    ids=["the first", "the third", "one that comes too late", "two at once"],
)
def test_a_promotion_that_is_cut_off_anywhere_is_completed(
    empty_database: Path,
    tmp_path: Path,
    before: int,
    judged_against: list[int | None],
    end: dict[str, int],
    writes: int,
) -> None:
    def prepare(store: Store) -> None:
        champions(store, before)
        for one in judged_against:
            add(store, one)

    def act(store: Store) -> None:
        settle(store, NAME)

    found = cut_off(empty_database, tmp_path, prepare, act, act)
    assert found[0][0] == end
    assert found == [found[0]] * (1 + writes)


def test_a_version_judged_beside_a_champion_that_is_none_any_more_becomes_challenger(store: Store) -> None:
    champions(store, 2)
    add(store, 1)
    settle(store, NAME)
    assert aliases(store) == {"champion": 2, "previous": 1, "challenger": 3}
    assert tags(store, 3)["verdict"] == "challenger"
    assert tags(store, 3)["reason"] == "it was judged beside version 1, and version 2 has become champion since"


def test_of_two_first_versions_one_is_champion(store: Store) -> None:
    store.client.create_registered_model(NAME)
    add(store, None)
    add(store, None)
    settle(store, NAME)
    assert aliases(store) == {"champion": 1, "challenger": 2}
    assert tags(store, 2)["reason"] == "it was judged beside no champion, and version 1 has become champion since"


def enter(uri: str, folder: Path, sweep: str, both: Barrier, ends: "Queue[tuple[str, int, str]]") -> None:
    """Register a version in a process of its own, judged when the other one is too."""
    store = open_store(TrackingConfig(uri=uri, artifacts=str(folder / "mlartifacts")))
    story = Story(job=make_job(), folder=folder / sweep)
    present = champion_of(store, NAME)
    assert present is not None
    assert present.version == 1
    both.wait(90)
    run = create_run(store, "job", {"kind": "job", "sweep_id": sweep})
    bundle, said = read_bundle(story.bundle()), verdict("champion", "better")
    found = register(store, sweep, story.job, story.tested(), bundle, run.id, said, replaces=present.version)
    ends.put((found.alias, found.version, found.reason))


@pytest.mark.faults
def test_of_two_processes_that_promote_at_once_one_wins(store: Store, story: Story, tmp_path: Path) -> None:
    enrol(store, "one", story.tested(), verdict("champion", "the first"))
    fork = forked()
    both, ends = fork.Barrier(2), fork.Queue()
    processes = [
        fork.Process(target=enter, args=(store.uri, tmp_path, sweep, both, ends)) for sweep in ("two", "three")
    ]
    for process in processes:
        process.start()
    found = sorted(ends.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
    # The version that is there first wins, whoever has the lock first: `settle` takes them in their order.
    late = "it was judged beside version 1, and version 2 has become champion since"
    assert found == [("challenger", 3, late), ("champion", 2, "better")]
    assert (tags(store, 2)["verdict"], tags(store, 3)["verdict"]) == ("champion", "challenger")
    assert aliases(store) == {"champion": 2, "previous": 1, "challenger": 3}


@pytest.mark.parametrize(
    "act",
    [
        settle,
        lambda store, name: rollback(store, name, "bad"),
        lambda store, name: promote(store, name, 1, "good"),
    ],
    ids=["settle", "rollback", "promote"],
)
def test_nothing_is_moved_while_somebody_else_holds_the_lock(
    store: Store, monkeypatch: pytest.MonkeyPatch, act: Callable[[Store, str], object]
) -> None:
    champions(store, 2)
    add(store, 2)
    before = everything(store)
    with exclusive(store, NAME):
        for wait in ("_LEASE_S", "_SETTLE_S"):
            monkeypatch.setattr(f"pipeline.tracking.lock.{wait}", 0.0)
        waiting = replace(store, config=replace(store.config, patience_s=0.2))
        with pytest.raises(TrackingError, match=r"Another process holds .*sentiment\.lock for 0\.2 s"):
            act(waiting, NAME)
    assert everything(store) == before


def test_a_rollback_makes_the_champion_before_champion_again(store: Store) -> None:
    champions(store, 3)
    done = rollback(store, NAME, "it fails on dates")
    assert (done.name, done.withdrawn, done.champion) == (NAME, 3, 2)
    assert aliases(store) == {"champion": 2, "previous": 1}
    assert tags(store, 3)["rolled_back"] == "it fails on dates"
    assert tags(store, 3)["quarantine"] == "true"


def test_a_rollback_without_quarantine_leaves_the_rows_free(store: Store) -> None:
    champions(store, 2)
    rollback(store, NAME, "it is slow", quarantine=False)
    assert "quarantine" not in tags(store, 2)
    assert "rolled_back" in tags(store, 2)


def test_a_version_that_was_rolled_back_is_never_promoted_again(store: Store) -> None:
    champions(store, 2)
    rollback(store, NAME, "it is bad")
    store.client.delete_model_version_tag(NAME, "2", "moved")  # even if its promotion looks unfinished
    client = Cutting(store.client, -1)
    settle(replace(store, client=client), NAME)
    assert client.writes == []  # not even for a moment
    assert aliases(store) == {"champion": 1}
    add(store, 2)  # nor is one that was judged beside it
    settle(store, NAME)
    assert aliases(store) == {"champion": 1, "challenger": 3}
    add(store, 1)
    settle(store, NAME)
    assert aliases(store) == {"champion": 4, "previous": 1, "challenger": 3}


def test_a_second_rollback_goes_back_twice(store: Store) -> None:
    champions(store, 3)
    rollback(store, NAME, "bad")
    done = rollback(store, NAME, "bad too")
    assert (done.withdrawn, done.champion) == (2, 1)
    assert aliases(store) == {"champion": 1}


def test_a_rollback_steps_over_a_version_that_was_withdrawn_already(store: Store) -> None:
    champions(store, 3)
    store.client.set_model_version_tag(NAME, "2", "rolled_back", "by hand, while it was previous")
    rollback(store, NAME, "bad")
    assert aliases(store) == {"champion": 1}


def test_a_promotion_that_waits_is_made_before_a_rollback_and_is_what_it_withdraws(store: Store) -> None:
    champions(store, 1)
    add(store, 1)
    assert rollback(store, NAME, "bad").withdrawn == 2
    assert aliases(store) == {"champion": 1}


@pytest.mark.parametrize(
    ("count", "end", "writes"),
    [(2, {"champion": 1}, 4), (3, {"champion": 2, "previous": 1}, 4)],
)
def test_a_rollback_that_is_cut_off_anywhere_is_completed(
    empty_database: Path, tmp_path: Path, count: int, end: dict[str, int], writes: int
) -> None:
    whole, unbegun, *others = cut_off(
        empty_database,
        tmp_path,
        lambda store: champions(store, count),
        lambda store: rollback(store, NAME, "bad"),
        lambda store: settle(store, NAME),
    )
    assert whole[0] == end
    # The first write puts the version's rows in quarantine. Nothing was withdrawn yet, and the user is to ask again.
    assert unbegun[0] == {"champion": count, "previous": count - 1}
    assert others == [whole] * (writes - 1)


def rejected(store: Store) -> None:
    """Two champions, and two that the gate rejected since: the later one is the challenger."""
    champions(store, 2)
    add(store, 2, "challenger")
    add(store, 2, "challenger")
    settle(store, NAME)


def test_a_challenger_is_promoted_by_hand_keeps_why_it_was_rejected_and_a_rollback_undoes_it(store: Store) -> None:
    rejected(store)
    done = promote(store, NAME, 3, "it knows the new desk")
    assert (done.champion, done.replaced, done.verdict) == (3, 2, "the test says so")
    assert aliases(store) == {"champion": 3, "previous": 2, "challenger": 4}
    assert tags(store, 3)["promoted_by_hand"] == "it knows the new desk"
    assert tags(store, 3)["reason"] == "the test says so"
    rollback(store, NAME, "it does not")
    assert aliases(store) == {"champion": 2, "previous": 1, "challenger": 4}
    with pytest.raises(ConfigError, match=r"VERSION: 'sentiment version 3' was withdrawn \(it does not\)\."):
        promote(store, NAME, 3, "it does")


def test_a_promotion_by_hand_that_is_cut_off_anywhere_is_completed(empty_database: Path, tmp_path: Path) -> None:
    whole, unbegun, *others = cut_off(
        empty_database,
        tmp_path,
        rejected,
        lambda store: promote(store, NAME, 4, "it knows the new desk"),
        lambda store: settle(store, NAME),
    )
    assert whole[0] == {"champion": 4, "previous": 2, "challenger": 3}
    # The first write is the reason. Nothing was promoted yet, and the user is to ask again.
    assert unbegun[0] == {"champion": 2, "previous": 1, "challenger": 4}
    assert len(others) == 5 and others == [whole] * 5


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (2, r"'sentiment version 2' is champion, or was\. Go back .*make rollback"),
        (1, r"'sentiment version 1' is champion, or was\."),
        (9, r"'sentiment version 9' is not registered beside a champion\. The challengers are: 3, 4"),
        (4, r"'sentiment version 4' was judged beside version 2, and version 3 is champion now\."),
    ],
)
def test_what_cannot_be_promoted_by_hand_is_refused_and_nothing_is_changed(
    store: Store, number: int, message: str
) -> None:
    rejected(store)
    if number == 4:
        promote(store, NAME, 3, "it knows the new desk")
    before = everything(store)
    with pytest.raises(ConfigError, match=message):
        promote(store, NAME, number, "so be it")
    assert everything(store) == before


def test_without_a_champion_before_it_there_is_no_way_back_and_nothing_is_changed(store: Store) -> None:
    champions(store, 1)
    before = everything(store)
    with pytest.raises(ConfigError, match=r"TASK: 'sentiment' has no champion before version 1.*make retrain"):
        rollback(store, NAME, "bad")
    assert everything(store) == before


def test_without_a_champion_there_is_nothing_to_roll_back(store: Store) -> None:
    store.client.create_registered_model(NAME)
    add(store, None, "challenger")
    with pytest.raises(ConfigError, match=r"TASK: 'sentiment' has no champion\. Run `make sweep`"):
        rollback(store, NAME, "bad")


def test_a_version_that_was_deleted_by_hand_is_not_gone_back_to(store: Store) -> None:
    champions(store, 3)
    store.client.delete_model_version(NAME, "2")
    with pytest.raises(ConfigError, match=r"has no champion before version 3.*are gone"):
        rollback(store, NAME, "bad")
    add(store, 3)
    settle(store, NAME)  # and nothing is in the way of the next
    assert aliases(store) == {"champion": 4, "previous": 3}
