"""`retrain` and `rollback`, whole, in this process: what is promoted, stopped, and left as it was."""

import json
import random
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from pipeline.config import CheckpointConfig, TrackingConfig
from pipeline.core.adapters.checkpoint import build_base, load_tensors, load_tokenizer, open_checkpoint
from pipeline.core.engine.assemble import bundle_model
from pipeline.core.engine.bundle import read_bundle
from pipeline.tracking.lookup import fetch
from pipeline.tracking.store import open_store
from tests.commands.corpus import Row, journey, opinion, rows
from tests.commands.workplace import Done, Workplace

pytestmark = pytest.mark.commands

GATE = ["gate.min_rows=20", "gate.margin=0.2", "gate.max_leaked=1", "tracking.patience_s=5"]
QUICK = ["engine.batch_size=8", "engine.head_dropout=0"]
FIXED = ["engine.learning_rate=0.01", "search.space.method.width=null"]
NEW = "drift.min_new_rows=10"


def splits(task: str, made: list[Row]) -> dict[str, list[Row]]:
    """Half to train on, a quarter to choose by, a quarter to judge by."""
    cut, end = len(made) // 2, len(made) * 3 // 4
    return {
        f"{task}/train.jsonl": made[:cut],
        f"{task}/validation.jsonl": made[cut:end],
        f"{task}/test.jsonl": made[end:],
    }


def texts(made: list[Row]) -> set[str]:
    return {row["text"] for row in made}


def mixed(count: int) -> list[Row]:
    """Opinions of a label that was not there before."""
    draw = random.Random(7)
    words = ["so-so", "middling", "half", "average", "mixed", "even"]
    return [{"text": f"the {' '.join(draw.sample(words, 3))} thing {i}", "label": "mixed"} for i in range(count)]


class Place:
    """A place where both tasks have a champion."""

    def __init__(self, place: Workplace, checkpoint: str) -> None:
        self.place = place
        self.checkpoint = checkpoint
        self.old = rows(opinion, 240, seed=1)
        self.place.write({**splits("intent", self.old), **splits("ner/news", rows(journey, 80, seed=2))})
        words = ["TASKS=intent,ner", "TRIALS=1", "EPOCHS=8", "CLUSTER=here", *FIXED]
        done = self.place.call("sweep", *words, *self.settings)
        assert done.code == 0, done.out + done.err

    @property
    def settings(self) -> list[str]:
        return [f"DATA={self.place.data}", f"CHECKPOINT={self.checkpoint}", *QUICK, *GATE]

    def retrain(self, *args: str) -> Done:
        return self.place.call("retrain", "TASKS=intent", "EPOCHS=4", "CLUSTER=here", *self.settings, NEW, *args)

    def logits(self, name: str, text: str) -> torch.Tensor:
        """What a champion says of a text, before anything is made of it."""
        checkpoint = open_checkpoint(CheckpointConfig(name="bert", source="path", location=self.checkpoint))
        uri, artifacts = f"sqlite:///{self.place.cwd}/mlflow.db", str(self.place.cwd / "mlartifacts")
        bundle = read_bundle(fetch(open_store(TrackingConfig(uri=uri, artifacts=artifacts), create=False), name))
        model, _ = bundle_model(build_base(checkpoint, load_tensors(checkpoint)), checkpoint, bundle)
        with torch.inference_mode():
            return model.eval().logits(model.pooled(load_tokenizer(checkpoint)(text, return_tensors="pt")))

    def replace(self, made: list[Row]) -> None:
        """The next period of intent: nothing but these rows."""
        self.place.write(splits("intent", made))

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.place.cwd}/mlflow.db")

    def aliases(self, name: str = "intent") -> dict[str, int]:
        return {alias: int(number) for alias, number in self.client.get_registered_model(name).aliases.items()}

    def tags(self, version: int) -> dict[str, str]:
        return dict(self.client.get_model_version("intent", str(version)).tags)


@pytest.fixture(scope="module")
def swept(
    tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, str], empty_database: Path
) -> tuple[Place, Path]:
    """The place, and a copy of all that is in it."""
    root, kept = tmp_path_factory.mktemp("place"), tmp_path_factory.mktemp("kept") / "place"
    place = Place(Workplace(root).with_tables(empty_database), checkpoints["bert"])
    shutil.copytree(root, kept)
    return place, kept


@pytest.fixture
def place(swept: tuple[Place, Path]) -> Place:
    """The place as it was after the sweep; at the same path, which MLflow's records name."""
    place, kept = swept
    root = place.place.cwd.parent
    for folder in (place.place.data, *(one for one in place.place.cwd.iterdir() if one.is_dir())):
        shutil.rmtree(folder)
    shutil.copytree(kept, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("mlflow.db*"))
    stores = (sqlite3.connect(folder / "mlflow.db") for folder in (kept / "work", place.place.cwd))
    with closing(next(stores)) as before, closing(next(stores)) as now:  # the latter may be open in this process
        before.backup(now)
    return place


def test_a_new_label_grows_the_head_a_rollback_takes_it_back_and_other_champions_stay(place: Place) -> None:
    before = place.logits("ner", "anna went from paris to rome and ben")
    again = place.retrain()
    assert again.code == 0, again.out + again.err
    assert re.search(r"^intent\S*: nothing new: ", again.out, re.M) and place.aliases() == {"champion": 1}
    assert not place.place.newest("passes") and len(list((place.place.cwd / "runs").iterdir())) == 1, "growth"

    random.Random(5).shuffle(made := rows(opinion, 80, seed=3)[:60] + mixed(60))
    place.replace(made)
    args = ["drift.policy=drift", "challenger.replay=1", "challenger.rate=1", "hook.command='cat > told.json'"]
    done = place.retrain(*args)
    assert done.code == 0, done.out + done.err
    (verdict,) = place.place.newest("passes")
    assert verdict["decision"] == "promoted", done.out
    new = texts(made[:60]) - texts(place.old)  # some were there before
    assert verdict["replayed"] == 120 and verdict["new"] == len(new) and 40 < len(new) < 60
    version = place.aliases()["champion"]  # of the attempts of the pass, the one that was good enough
    assert version > 1 and place.aliases()["previous"] == 1
    assert "new label: mixed" in done.out
    told = json.loads((place.place.cwd / "told.json").read_text("utf-8"))
    assert (told["event"], told["version"], told["replaces"]) == ("promoted", version, 1)
    answer = json.loads(place.place.call("predict", "TASK=intent", "TEXT=the so-so half average thing").out)
    assert set(answer["scores"]) == {"negative", "positive", "mixed"} and answer["label"] == "mixed"
    assert torch.equal(place.logits("ner", "anna went from paris to rome and ben"), before)
    (run,) = [run for run in place.place.runs("job") if run.data.tags.get("decision") == "promoted"]
    assert run.data.tags["reason"] == verdict["reason"] and "continual/average_accuracy" in run.data.metrics
    assert "label shares moved by" in run.data.tags["why_trained"]
    assert "promoted" in run.data.tags["mlflow.note.content"]
    names = {file.name for file in place.place.cwd.glob(f"mlartifacts/{run.info.run_id}/**/*")}
    assert {"checks.json", "rows.json", "drift.json", "continual.json", "continual.png", "news.json"} <= names

    back = place.place.call("rollback", "TASK=intent", 'REASON=it\'s "mixed", $HOME')
    assert back.code == 0, back.out + back.err
    assert place.aliases()["champion"] == 1 and "previous" not in place.aliases()
    assert place.tags(version)["rolled_back"] == 'it\'s "mixed", $HOME'
    assert place.place.call("rollback", "TASK=intent", "REASON=x").code == 2  # there is none before the first
    quarantined = place.retrain()
    assert quarantined.code == 0 and "in quarantine" in quarantined.out
    assert place.aliases()["champion"] == 1 and "previous" not in place.aliases()


def test_trouble_in_the_new_rows_is_stopped_and_named(place: Place) -> None:
    other = {"positive": "negative", "negative": "positive"}
    flipped = [{**row, "label": other[row["label"]]} for row in rows(opinion, 120, seed=4)]
    place.replace(flipped)
    cold = ["challenger.start=cold", "challenger.ladder=[]"]
    done = place.retrain(*cold)
    assert done.code == 0, done.out + done.err
    newest = max(place.place.runs("trial"), key=lambda run: run.info.start_time)
    assert newest.data.params["learning_rate"] == "0.01"  # that of the sweep, not a share of it
    (verdict,) = place.place.newest("passes")
    assert verdict["decision"] == "rejected" and verdict["reason"].startswith("slice "), done.out
    assert "worse by" in verdict["reason"] and "the margin of 20" in verdict["reason"]
    champion, rejected = place.place.newest("continual")
    assert rejected["after"].endswith(" (rejected)") and "rejected" not in champion["after"]
    past, new = champion["scores"]
    assert champion["scores"][past] > rejected["scores"][past] and champion["scores"][new] < rejected["scores"][new]
    (run,) = [run for run in place.place.runs("job") if run.data.tags.get("decision") == "rejected"]
    assert run.data.metrics["continual/average_accuracy"] == pytest.approx(champion["scores"][past])
    assert place.aliases() == {"champion": 1, "challenger": 2}
    again = place.retrain(*cold)
    assert again.code == 0 and re.search(r"^intent\S*: judged before: ", again.out, re.M), again.out

    mixed_up = place.retrain(*cold, "gate.max_leaked=0.01")
    assert mixed_up.code == 0 and re.search(
        r"^intent\S*: leaks: \d+ rows .* stand among the evaluation rows", mixed_up.out, re.M
    )

    trained = len(place.place.runs("trial"))
    leaks = [{**row, "text": row["text"].upper()} for row in place.old[180:]]  # the champion's evaluation rows
    place.place.write({"intent/train.jsonl": [*leaks, *mixed(5)]})
    waits = place.retrain()
    assert waits.code == 0 and re.search(r"^intent\S*: waits: ", waits.out, re.M), waits.out
    left_out = re.search(r"(\d+) left out since they are evaluation rows", waits.out)
    repeated = texts(flipped[60:90]) & texts(place.old[180:])  # in validation
    assert left_out is not None and int(left_out[1]) == len(leaks) + len(repeated), waits.out
    assert len(place.place.runs("trial")) == trained  # a record that costs nothing

    place.place.write({"intent/train.jsonl": []})
    empty = place.retrain()
    assert empty.code == 2 and "train.jsonl" in empty.err and "has no rows" in empty.err
    place.place.write({"intent/train.jsonl": [{"body": "good", "label": "positive"}]})
    changed = place.retrain()
    assert changed.code == 2 and "train.jsonl:1" in changed.err and "text" in changed.err
    assert place.aliases() == {"champion": 1, "challenger": 2}

    told = "hook.command='cat > told.json'"
    by_hand = place.place.call("promote", "TASK=intent", "VERSION=2", "REASON=the labels were wrong before", told)
    assert by_hand.code == 0, by_hand.out + by_hand.err
    assert place.aliases() == {"champion": 2, "previous": 1}
    assert "intent: version 2 is champion in place of 1: the labels were wrong before" in by_hand.out
    assert f"The gate had said: {verdict['reason']}" in by_hand.out
    event = json.loads((place.place.cwd / "told.json").read_text("utf-8"))
    assert (event["event"], event["version"], event["replaced"]) == ("promoted by hand", 2, 1)
    place.replace(flipped)
    again = place.retrain()  # on what the new champion has seen
    assert again.code == 0 and "nothing new" in again.out, again.out
    assert place.place.call("rollback", "TASK=intent", "REASON=they were not").code == 0
    assert place.aliases() == {"champion": 1}


def test_a_challenger_that_forgets_is_followed_by_one_that_is_trained_harder(place: Place) -> None:
    random.Random(5).shuffle(made := mixed(120))
    place.replace(made)
    args = ["gate.margin=0.02", "gate.exchange_loss=0.15", "challenger.replay=0", "challenger.budget=3"]
    done = place.retrain(*args, "challenger.ladder=[{replay: 1, times: 2}]")
    assert done.code == 0, done.out + done.err
    assert "attempt 1 of 2: warm, replay 0, 4 epochs" in done.out
    assert re.search(r"^intent/default: attempt 2 of 2: warm, replay 1, 8 epochs$", done.out, re.M), done.out
    (verdict,) = place.place.newest("passes")
    assert (verdict["decision"], verdict["version"]) == ("promoted", 3), done.out
    assert place.aliases() == {"champion": 3, "previous": 1, "challenger": 2}
    first, second = place.tags(2), place.tags(3)
    assert (first["attempt"], first["harder"], second["attempt"]) == (
        "warm, replay 0, 4 epochs",
        "True",
        verdict["attempt"][16:],
    )
    assert second["reason"].startswith("all 2 slices together: better by ")
    (run,) = [run for run in place.place.runs("job") if run.data.tags.get("decision") == "promoted"]
    note = run.data.tags["mlflow.note.content"]
    assert f"version 2 (warm, replay 0, 4 epochs): {first['reason']}" in note and "attempt 2 of 2" in note
