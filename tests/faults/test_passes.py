"""A pass is killed at every step: the champion, the registry and the slices stay whole, and the next pass completes."""

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline.config import TaskConfig
from tests.commands.corpus import opinion, rows
from tests.commands.workplace import Workplace
from tests.faults import registered, stage
from tests.faults.registered import Version
from tests.unit.tracking.server import serving

pytestmark = pytest.mark.faults

TASK = TaskConfig(kind="classification", name="intent")
SETTINGS = ["engine.batch_size=8", "gate.min_rows=20", "gate.margin=0.2"]
FIXED = ["engine.learning_rate=0.01", "search.space.method.width=null"]
SWEEP = [*SETTINGS, *FIXED, "engine.epochs=8", "search.trials=1"]
PASS = [*SETTINGS, "engine.epochs=4", "drift.min_new_rows=10", "challenger.rate=1"]

CLIENT = "mlflow:MlflowClient"
STEPS = {
    "the champion was read": ("after", "pipeline.steps.survey:read_ledger", 1),
    "the new rows were found": ("after", "pipeline.steps.survey:news", 1),
    "drift was measured": ("after", "pipeline.steps.survey:measure", 1),
    "the runs were made": ("after", "pipeline.tracking.tree:RunTree.open", 1),
    "the challenger is trained": ("before", "pipeline.tracking.recorder:SweepRecorder.__call__", 3),
    "it is judged": ("before", "pipeline.rules.judge:decide", 1),
    "the judgement is recorded": ("before", "pipeline.steps.verdict:record_judgement", 1),
    "its files are kept": ("before", "pipeline.tracking.model:write_ledger", 1),
    "it is registered": ("before", f"{CLIENT}.create_model_version", 1),
    "it was registered": ("after", f"{CLIENT}.create_model_version", 1),
    "previous was set": ("after", f"{CLIENT}.set_registered_model_alias", 1),
    "champion is set": ("before", f"{CLIENT}.set_registered_model_alias", 2),
    "champion was set": ("after", f"{CLIENT}.set_registered_model_alias", 2),
    "the hook is told": ("before", "pipeline.reports.hook:tell_hook", 1),
    "the pass is recorded": ("before", "pipeline.steps.verdict:record_pass", 1),
    "the runs are ended": ("before", "pipeline.tracking.tree:RunTree.close", 1),
}


def splits(first: int, count: int) -> dict[str, list[dict[str, Any]]]:
    """Some of the rows of an endless file: half to train on, a quarter each to choose and judge by."""
    made = rows(opinion, first + count, seed=1)[first:]
    cuts = {"train": (0, count // 2), "validation": (count // 2, count * 3 // 4), "test": (count * 3 // 4, count)}
    return {f"intent/{name}.jsonl": made[begin:end] for name, (begin, end) in cuts.items()}


class Place:
    """Where there is a champion, and then new rows; brought back to that state before each pass."""

    def __init__(self, root: Path, checkpoint: str) -> None:
        self.place = Workplace(root)
        self.words = [f"data.source={self.place.data}", f"checkpoint={checkpoint}", "tasks=[intent]"]
        self.place.write(splits(0, 160))
        done = self.place.run("sweep", *self.words, *SWEEP, environment=stage.QUICK)
        assert done.code == 0, done.out + done.err
        self.place.write(splits(160, 120))
        shutil.copytree(self.place.cwd, root / "before")
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1
        shutil.rmtree(self.place.cwd)
        shutil.copytree(self.place.cwd.parent / "before", self.place.cwd)

    def start(self, *command: str) -> stage.Running:
        return stage.Running(self.place, *command, *self.words, *PASS)

    @property
    def uri(self) -> str:
        # Another spelling after each reset: MLflow keeps a database open under its address, here the one that is gone.
        return f"sqlite:///{self.place.cwd}{'/.' * self.resets}/mlflow.db"

    def versions(self) -> dict[int, Version]:
        return registered.versions(self.uri, TASK)

    def aliases(self) -> dict[str, int]:
        return registered.aliases(self.uri, "intent")

    def running(self) -> list[str]:
        return registered.running(self.uri)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, str]) -> Place:
    return Place(tmp_path_factory.mktemp("passes") / "place", checkpoints["bert"])


@pytest.fixture(scope="module")
def undisturbed(place: Place) -> dict[int, Version]:
    done = place.start("retrain").end()
    assert done.code == 0, done.out + done.err
    assert place.aliases() == {"champion": 2, "previous": 1}, done.out
    return place.versions()


@pytest.mark.parametrize("step", STEPS)
def test_a_pass_that_is_killed_leaves_all_whole_and_the_next_one_completes(
    step: str, place: Place, undisturbed: dict[int, Version]
) -> None:
    place.reset()
    when, where, number = STEPS[step]
    killed = place.start(sys.executable, "-m", "tests.faults.cut", when, where, str(number)).end()
    assert killed.code == -signal.SIGKILL, killed.out + killed.err
    left, aliases = place.versions(), place.aliases()
    assert left.items() <= undisturbed.items()
    assert aliases["champion"] in left
    answer = place.place.run("predict", "job=intent", environment={"TEXT": "a good film was fine"})
    assert answer.code == 0 and json.loads(answer.out)["label"] == "positive", answer.out + answer.err

    begun = len(list(place.place.cwd.glob("runs/*/sweep.json"))) > 1
    done = place.start("retrain").end()
    assert done.code == 0, done.out + done.err
    assert place.versions() == undisturbed
    assert place.aliases() == {"champion": 2, "previous": 1}
    assert not place.running()
    assert ("was killed: its runs are ended now" in done.out) == begun
    assert not list(place.place.cwd.glob("runs/*/alive"))


def test_of_two_passes_at_once_one_wins(place: Place, undisturbed: dict[int, Version]) -> None:
    place.reset()
    both = [place.start("retrain") for _ in range(2)]
    ended = [one.end() for one in both]
    assert [done.code for done in ended] == [0, 0], [done.out + done.err for done in ended]
    found = place.versions()
    assert found.pop(2) == undisturbed[2] and found.pop(1) == undisturbed[1]
    assert [version.verdict for version in found.values()] in (
        [],
        ["challenger"],
    )  # [] where one came too late to train
    assert place.aliases()["champion"] == 2
    loser = next(done.out for done in ended if "promoted v2" not in done.out)
    assert "nothing new" in loser or "has become champion since" in loser, loser
    assert not place.running()


def test_a_pass_that_is_killed_between_two_attempts_goes_on_with_the_next(place: Place) -> None:
    """The rows have a label that is new and none of the old ones, which the first attempt forgets."""
    harder = ["challenger.replay=0", "challenger.budget=3", "challenger.ladder=[{replay: 1, times: 2}]"]
    made = [{"text": f"the middling thing {number} was so-so", "label": "mixed"} for number in range(120)]
    cuts = {"train": made[:60], "validation": made[60:90], "test": made[90:]}
    place.place.write({f"intent/{name}.jsonl": part for name, part in cuts.items()})
    place.reset()
    done = place.start("retrain", *harder).end()
    assert done.code == 0, done.out + done.err
    both = place.versions()
    assert [both[number].verdict for number in (1, 2, 3)] == ["champion", "challenger", "champion"], done.out

    place.reset()
    cut = [sys.executable, "-m", "tests.faults.cut", "before", "pipeline.steps.retrain:survey", "1"]
    killed = place.start(*cut, *harder).end()
    assert killed.code == -signal.SIGKILL, killed.out + killed.err
    assert place.versions() == {number: both[number] for number in (1, 2)}
    assert place.aliases() == {"champion": 1, "challenger": 2}
    done = place.start("retrain", *harder).end()
    assert done.code == 0, done.out + done.err
    assert "attempt 2 of 2: warm, replay 1, 8 epochs" in done.out and "attempt 1" not in done.out
    assert place.versions() == both
    assert place.aliases() == {"champion": 3, "previous": 1, "challenger": 2}
    assert not place.running()
    place.place.write(splits(160, 120))


def test_of_two_passes_at_once_over_http_one_wins(tmp_path: Path, checkpoints: dict[str, str]) -> None:
    """As of two machines: all that they share is the server."""
    places = [Workplace(tmp_path / name) for name in ("here", "there")]
    settings = [f"checkpoint={checkpoints['bert']}", "tasks=[intent]"]
    with serving(tmp_path) as server:

        def start(place: Workplace, command: str, *words: str) -> stage.Running:
            where = [f"tracking.uri={server.uri}", f"data.source={place.data}"]
            return stage.Running(place, command, *settings, *where, *words)

        for place in places:
            place.write(splits(0, 160))
        done = start(places[0], "sweep", *SWEEP).end()
        assert done.code == 0, done.out + done.err
        for place in places:
            place.write(splits(160, 120))
        ended = [one.end() for one in [start(place, "retrain", *PASS) for place in places]]
        assert [done.code for done in ended] == [0, 0], [done.out + done.err for done in ended]

        client = MlflowClient(server.uri)
        aliases = {name: int(one) for name, one in client.get_registered_model("intent").aliases.items()}
        verdicts = {int(one.version): one.tags["verdict"] for one in client.search_model_versions("name = 'intent'")}
        won = "promoted v2" in ended[0].out, "promoted v2" in ended[1].out
        assert sorted(won) == [False, True], [done.out for done in ended]
        assert aliases["champion"] == 2 and aliases["previous"] == 1
        assert [verdicts.pop(number) for number in (1, 2)] == ["champion", "champion"]
        assert list(verdicts.values()) in ([], ["challenger"])  # [] where one came too late to train
        loser = ended[won.index(False)].out
        assert "nothing new" in loser or "has become champion since" in loser, loser
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        statuses = [run.info.status for run in client.search_runs(ids)]
        assert statuses and "RUNNING" not in statuses
