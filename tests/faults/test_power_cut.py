"""The power fails at any moment of a sweep, and of a pass: what is run next ends as if it had not.

`tests.powercut` says what the disk may have lost. The moments are those before each of our syncs takes effect, and the
end: between two of them the disk gains nothing, but the store, which waits for the disk by itself, is ever further
ahead of the files that it speaks of. The store's own files are those of that moment; what Ray keeps is not looked at.
"""

import json
import random
import re
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.config import TaskConfig
from tests.commands.corpus import opinion, rows
from tests.commands.workplace import Done, Workplace
from tests.faults import registered
from tests.faults.registered import TIMED, Version
from tests.powercut import Disk, Left, PowerCut, write

pytestmark = pytest.mark.faults

EACH = 4
"""Moments of a kind, of those whose disks differ. All of them would take some quarter of an hour."""
KINDS = {
    "the folder of a sweep": r"\.|runs(/[^/]+(/sweep\.json)?)?",
    "what is not recorded yet": r"runs/[^/]+/spool(/.+)?",
    "jobs that have ended": r"runs/[^/]+/ended(/.+)?",
    "bundles": r"runs/[^/]+/trials/[^/]+/\.bundle-.+",
    "snapshots": r"runs/[^/]+/trials(/[^/]+(/\.snapshot-.+)?)?",
    "artifacts of runs": r"mlartifacts(/(?!models).+)?",
    "registered models": r"mlartifacts/models(/.+)?",
    "the end": "the end",
}
"""Of what is about to be synced, by its path in the working directory."""
TASK = TaskConfig(kind="classification", name="intent")


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """What there is when the power fails."""

    what: str
    disk: Disk
    database: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """What is compared at the end: all that does not depend on the time."""

    leaderboard: Sequence[dict[str, Any]]
    versions: dict[int, Version]
    aliases: dict[str, int]
    answer: str
    runs: Sequence[tuple[str, str]] = ()
    """Job or trial ("" for the sweep), and status."""
    points: Sequence[tuple[str, str, int, float]] = ()
    """Job or trial, metric, step and value; as often as it is there."""
    artifacts: Sequence[tuple[str, str, str]] = ()
    """Job or trial, path, and contents of data; of a picture, or what says a time, whether there are any."""


class Place:
    """Where a command runs while it is watched; brought back to each moment of that before the next one."""

    def __init__(self, place: Workplace, *words: str) -> None:
        self.place, self.words = place, words
        self.moments: list[Moment] = []

    def call(self, *words: str) -> Done:
        done = self.place.call(*words)
        assert done.code == 0, done.out + done.err
        return done

    def watch(self, command: Callable[[], object]) -> None:
        """Run a command, and keep the moments of it at which the disk may be another one."""
        with pytest.MonkeyPatch.context() as patch:

            def keep(path: Path) -> None:
                what = str(path.relative_to(self.place.cwd))
                disk = power.disk(self.place.cwd)
                self.moments.append(Moment(what=what, disk=disk, database=self._database()))

            power = PowerCut(patch, keep)
            power.settle(self.place.cwd)
            command()
            keep(self.place.cwd / "the end")

    def sample(self, kind: str) -> list[tuple[Moment, Left]]:
        """Draw moments of a kind, each with what may be left."""
        found = [(moment, left) for moment, left in self._differing() if re.fullmatch(KINDS[kind], moment.what)]
        return random.Random(kind).sample(found, min(EACH, len(found)))

    def _differing(self) -> Iterator[tuple[Moment, Left]]:
        """Every moment and what may be left, but those in which there is what there was at another one."""
        seen = set()
        for moment in self.moments:
            for left in get_args(Left):
                state = frozenset(moment.disk.files(left).items()), moment.database
                if state not in seen:
                    yield moment, left
                seen.add(state)

    def restore(self, moment: Moment, left: Left) -> None:
        """Leave what a power cut leaves; at the same path, which the store names, and in the store that is open."""
        for path in self.place.cwd.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        files = moment.disk.files(left)
        write({name: data for name, data in files.items() if not name.startswith("mlflow.db")}, self.place.cwd)
        with self._stores() as (now, copy):
            copy.deserialize(zlib.decompress(moment.database))
            copy.backup(now)

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.place.cwd}/mlflow.db"

    def answer(self) -> str:
        return self.call("predict", "TASK=intent", "TEXT=the good film was fine").out

    def ending(self, *, recorded: bool) -> Ending:
        """Read how it ended; also all that is recorded of each run, where there is one sweep."""
        found: dict[str, Any] = {}
        if recorded:
            runs = {one.info.run_id: one for one in registered.runs(self.uri)}
            names = {key: run.data.tags.get("trial") or run.data.tags.get("job", "") for key, run in runs.items()}
            with self._stores() as (now, _):
                points = now.execute("SELECT run_uuid, key, step, value FROM metrics").fetchall()
            found = {
                "leaderboard": self.place.leaderboard(),
                "runs": sorted((names[key], run.info.status) for key, run in runs.items()),
                "points": sorted((names[run], key, *rest) for run, key, *rest in points if not key.startswith(TIMED)),
                "artifacts": sorted(self._artifacts(names)),
            }
        return Ending(
            **{"leaderboard": ()} | found,
            versions=registered.versions(self.uri, TASK),
            aliases=registered.aliases(self.uri, "intent"),
            answer=self.answer(),
        )

    def _artifacts(self, names: dict[str, str]) -> Iterator[tuple[str, str, str]]:
        for run, name in names.items():
            root = self.place.cwd / "mlartifacts" / run / "artifacts"
            for file in [path for path in root.rglob("*") if path.is_file()]:
                path, data = str(file.relative_to(root)), file.read_bytes()
                if file.suffix == ".json" and file.stem != "leaderboard":
                    text = data.decode()
                    for id in [folder.name for folder in (self.place.cwd / "runs").iterdir()]:
                        text = text.replace(f'"{id}"', "null")  # of the sweep, also as what is resumed
                    yield name, path, text
                else:
                    yield name, path, str(bool(data))

    def _database(self) -> bytes:
        with self._stores() as (now, copy):
            now.backup(copy)
            return zlib.compress(copy.serialize(), 1)

    @contextmanager
    def _stores(self) -> Iterator[tuple[sqlite3.Connection, sqlite3.Connection]]:
        with closing(sqlite3.connect(self.place.cwd / "mlflow.db")) as now, closing(sqlite3.connect(":memory:")) as new:
            yield now, new


def splits(first: int, count: int) -> dict[str, list[dict[str, Any]]]:
    """Some rows of an endless file: half to train on, a quarter each to choose and judge by."""
    made = rows(opinion, first + count, seed=1)[first:]
    cuts = {"train": (0, count // 2), "validation": (count // 2, count * 3 // 4), "test": (count * 3 // 4, count)}
    return {f"intent/{name}.jsonl": made[begin:end] for name, (begin, end) in cuts.items()}


def place_of(root: Path, database: Path, checkpoint: str) -> Place:
    place = Workplace(root).with_tables(database)
    place.write(splits(0, 160))
    words = ["TASKS=intent", f"DATA={place.data}", f"CHECKPOINT={checkpoint}", "CLUSTER=here"]
    return Place(place, *words, "engine.batch_size=8", "engine.head_dropout=0", "gate.min_rows=20", "gate.margin=0.2")


@pytest.fixture(scope="module")
def swept(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path, checkpoints: dict[str, str]
) -> tuple[Place, Ending]:
    """A sweep of two trials, of which the worse one is pruned after the first of two epochs."""
    place = place_of(tmp_path_factory.mktemp("sweep"), empty_database, checkpoints["bert"])
    words = ["TRIALS=2", "EPOCHS=2", "search.space.engine.learning_rate={choice:[1e-2,3e-2]}", "method.width=4"]
    place.words = (*place.words, *words)
    place.watch(lambda: print(place.call("sweep", *place.words).out))
    return place, place.ending(recorded=True)


@pytest.fixture(scope="module")
def passed(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path, checkpoints: dict[str, str]
) -> tuple[Place, Ending]:
    """A pass that promotes a challenger."""
    place = place_of(tmp_path_factory.mktemp("pass"), empty_database, checkpoints["bert"])
    place.call("sweep", *place.words, "TRIALS=1", "EPOCHS=8", "engine.learning_rate=0.01", "method.width=4")
    place.place.write(splits(160, 120))
    place.words = (*place.words, "EPOCHS=4", "drift.min_new_rows=10", "challenger.rate=1")
    place.watch(lambda: print(place.call("retrain", *place.words).out))
    ending = place.ending(recorded=False)
    assert ending.aliases == {"champion": 2, "previous": 1}
    return place, ending


def check(place: Place, kind: str, go_on: Callable[[], Done], undisturbed: Ending) -> None:
    """Go on after each moment of a kind, and compare the ends."""
    wrong = []
    for moment, left in place.sample(kind):
        place.restore(moment, left)
        where = f"before the sync of {moment.what}, left as {left}"
        try:
            go_on()
            ending = place.ending(recorded=bool(undisturbed.runs))
        except Exception as error:
            wrong.append(f"{where}: {error}")
            continue
        for name in (one.name for one in fields(Ending)):
            ours, its = getattr(undisturbed, name), getattr(ending, name)
            if ours != its:
                missing, added = ([str(one)[:200] for one in a if one not in b] for a, b in ((ours, its), (its, ours)))
                wrong.append(f"{where}: other {name}: {missing} missing, {added} added")
        if unended := registered.running(place.uri):
            wrong.append(f"{where}: {len(unended)} runs were not ended")
    assert not wrong, "\n".join(wrong)


def test_all_that_is_synced_is_of_a_kind(swept: tuple[Place, Ending], passed: tuple[Place, Ending]) -> None:
    for place, _ in (swept, passed):
        kinds = [[kind for kind in KINDS if re.fullmatch(KINDS[kind], one.what)] for one in place.moments]
        assert {len(found) for found in kinds} == {1}
        assert {kind for found in kinds for kind in found} == {*KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_after_a_power_cut_is_resumed_and_ends_as_undisturbed(swept: tuple[Place, Ending], kind: str) -> None:
    place, undisturbed = swept

    def go_on() -> Done:
        ids = [file.parent.name for file in place.place.cwd.glob("runs/[!.]*/sweep.json")]
        return place.call("sweep", *[f"RESUME={id}" for id in ids] or place.words)

    check(place, kind, go_on, undisturbed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_pass_after_a_power_cut_completes_what_was_cut_off(passed: tuple[Place, Ending], kind: str) -> None:
    place, undisturbed = passed

    def go_on() -> Done:
        assert json.loads(place.answer())["label"] == "positive"
        return place.call("retrain", *place.words)

    check(place, kind, go_on, undisturbed)
