"""A store that an earlier commit wrote (tests/fixtures/make_champion.py): its champion still answers."""

import json
import sys

import pytest

from tests.commands.workplace import Workplace

pytestmark = pytest.mark.commands

ASKED = ["a good film was fine", "the dull song is bad"]
LOAD = """
import json, sys, mlflow.pyfunc
print(json.dumps(mlflow.pyfunc.load_model("models:/sentiment@champion").predict(sys.argv[1:])))
"""


def test_its_champion_loads_by_name_in_a_fresh_process_and_answers_like_the_command(earlier: Workplace) -> None:
    (model,) = earlier.cwd.rglob("MLmodel")
    assert "loader_module: pipeline.tracking.bundle_model\n" in model.read_text("utf-8")
    uri = f"sqlite:///{earlier.cwd}/mlflow.db"
    loaded = earlier.run(sys.executable, "-c", LOAD, *ASKED, environment={"MLFLOW_TRACKING_URI": uri})
    assert loaded.code == 0, loaded.err
    answers = []
    for text in ASKED:
        asked = earlier.call("predict", "TASK=sentiment", f"TEXT={text}")
        assert asked.code == 0, asked.err
        answers.append(json.loads(asked.out))
    assert [answer["label"] for answer in answers] == ["positive", "negative"]
    # Two texts in one batch and each in its own: on some processors the sums differ in the last bit.
    for said, answer in zip(json.loads(loaded.out), answers, strict=True):
        assert said["label"] == answer["label"]
        assert said["scores"] == pytest.approx(answer["scores"], abs=1e-6)


def test_a_pass_over_the_rows_that_its_champion_has_seen_finds_nothing_new(earlier: Workplace) -> None:
    given = [
        f"data.source={earlier.data}",
        f"checkpoint={earlier.data.parent}/tiny",
        "tasks=[sentiment]",
        "dryrun=true",
    ]
    done = earlier.call("retrain", *given)
    assert done.code == 0, done.out + done.err
    assert "sentiment/films v1: 0 new rows to train on, 0 to choose by, 0 to judge by" in done.out


def test_another_checkpoint_is_refused_with_the_place_of_the_champions(earlier: Workplace) -> None:
    done = earlier.call("retrain", "TASKS=sentiment", f"DATA={earlier.data}", "CLUSTER=here", "DRYRUN=1")
    assert done.code == 2
    assert f"Set CHECKPOINT={earlier.data.parent / 'tiny'}, or begin anew" in done.err
