"""A store that an earlier commit wrote (tests/fixtures/make_champion.py): its champion still answers."""

import json
import sqlite3
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.commands.workplace import Workplace

pytestmark = pytest.mark.commands

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "champion.tar.gz"
ASKED = ["a good film was fine", "the dull song is bad"]
LOAD = """
import json, sys, mlflow.pyfunc
print(json.dumps(mlflow.pyfunc.load_model("models:/sentiment@champion").predict(sys.argv[1:])))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The working directory in which that store lies, at a path of its own."""
    root = tmp_path_factory.mktemp("earlier")
    place = Workplace(root)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(root, filter="data")
    for file in root.rglob("*"):
        if file.is_file() and file.suffix != ".safetensors":
            file.write_text(file.read_text("utf-8").replace("@PLACE@", str(root)), "utf-8")
    with closing(sqlite3.connect(place.cwd / "mlflow.db")) as database:
        database.executescript((place.cwd / "store.sql").read_text("utf-8"))
    return place


def test_its_champion_loads_by_name_in_a_fresh_process_and_answers_like_the_command(place: Workplace) -> None:
    (model,) = place.cwd.rglob("MLmodel")
    assert "loader_module: pipeline.tracking.bundle_model\n" in model.read_text("utf-8")
    uri = f"sqlite:///{place.cwd}/mlflow.db"
    loaded = place.run(sys.executable, "-c", LOAD, *ASKED, environment={"MLFLOW_TRACKING_URI": uri})
    assert loaded.code == 0, loaded.err
    answers = []
    for text in ASKED:
        asked = place.call("predict", "TASK=sentiment", f"TEXT={text}")
        assert asked.code == 0, asked.err
        answers.append(json.loads(asked.out))
    assert [answer["label"] for answer in answers] == ["positive", "negative"]
    assert json.loads(loaded.out) == answers


def test_a_pass_over_the_rows_that_its_champion_has_seen_finds_nothing_new(place: Workplace) -> None:
    given = [f"data.source={place.data}", f"checkpoint={place.data.parent}/tiny", "tasks=[sentiment]", "dryrun=true"]
    done = place.call("retrain", *given)
    assert done.code == 0, done.out + done.err
    assert "sentiment/films v1: 0 new rows to train on, 0 to choose by, 0 to judge by" in done.out
