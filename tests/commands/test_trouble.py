"""Trouble planted in the rows of a new period is stopped by the gate as it is by default, and named."""

import random
import re
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.commands.corpus import BAD, GOOD, THINGS, Row, rows
from tests.commands.workplace import Done, Workplace

pytestmark = pytest.mark.commands

SETTINGS = ["engine.batch_size=8", "engine.head_dropout=0", "cluster=here"]
FIXED = ["search.trials=1", "engine.learning_rate=0.01", "search.space.method.width=null"]
OTHER = {"positive": "negative", "negative": "positive"}


def remark(draw: random.Random) -> Row:
    label = draw.choice(["positive", "negative"])
    words = draw.sample(GOOD if label == "positive" else BAD, 2)
    things = [draw.choice(THINGS) for _ in range(3)]
    return {"text": f"the {things[0]} {words[0]} {things[1]} was {words[1]} and {things[2]}", "label": label}


ALL = rows(remark, 1200, seed=1)


def flipped(row: Row, draw: random.Random) -> Row:
    return {**row, "label": OTHER[row["label"]]} if draw.random() < 0.3 else row


def poisoned(row: Row, draw: random.Random) -> Row:
    return {**row, "label": "positive"} if "film" in row["text"] else row


class Place:
    """Where there is a champion of rows that are right."""

    def __init__(self, place: Workplace, checkpoint: str) -> None:
        self.place = place
        self.words = ["tasks=[intent]", f"data.source={self.place.data}", f"checkpoint={checkpoint}", *SETTINGS]
        self.write(ALL[:400])
        done = self.command("sweep", *FIXED, "engine.epochs=8")
        assert done.code == 0, done.out + done.err

    def write(self, made: list[Row]) -> None:
        """All but the last 220 to learn from, those to judge by."""
        parts = {"train": made[:-280], "validation": made[-280:-220], "test": made[-220:]}
        self.place.write({f"intent/{name}.jsonl": part for name, part in parts.items()})

    def command(self, name: str, *words: str) -> Done:
        return self.place.call(name, *self.words, *words)

    def verdict(self) -> dict[str, Any]:
        done = self.command("retrain", "engine.epochs=6", "challenger.rate=1", "challenger.replay=0.5")
        assert done.code == 0, done.out + done.err
        (row,) = self.place.newest("passes")
        return row

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.place.cwd}/mlflow.db")

    def slices(self, version: int) -> list[Path]:
        """The files of a version's frozen slices."""
        source = Path(self.client.get_model_version("intent", str(version)).source)
        return list(source.rglob("slices/*.jsonl"))

    def champion(self) -> int:
        return int(self.client.get_registered_model("intent").aliases["champion"])


@pytest.fixture
def place(stored: Workplace, checkpoints: dict[str, str]) -> Place:
    return Place(stored, checkpoints["bert"])


def test_wrong_labels_a_poisoned_word_and_a_spoilt_slice_are_stopped_and_right_rows_are_not(place: Place) -> None:
    draw = random.Random(3)
    place.write([flipped(row, draw) for row in ALL[400:800]])
    mislabelled = place.verdict()
    assert mislabelled["decision"] == "rejected"
    assert re.match(
        r"new slice .* points below the slices of the past, .* are its labels right\?", mislabelled["reason"]
    )

    place.write([poisoned(row, draw) for row in ALL[400:800]])
    better_on_new = place.verdict()
    assert better_on_new["decision"] == "rejected"
    assert re.match(r"slice \S+: worse by .* more than the margin of 2 ", better_on_new["reason"])
    before, after = better_on_new["on_new"]
    assert after > before and better_on_new["after"] < better_on_new["before"]

    assert place.champion() == 1
    place.write(ALL[800:])
    right = place.verdict()
    assert right["decision"] == "promoted", right["reason"]
    new = place.champion()
    assert new == right["version"] > better_on_new["version"] > mislabelled["version"] > 1

    (file,) = (file for file in place.slices(new) if file.name in {old.name for old in place.slices(1)})
    file.write_text(file.read_text("utf-8").replace('"negative"', '"positive"'), "utf-8")
    spoilt = place.command("retrain")
    assert spoilt.code == 2 and f"{file}: has other rows than were written" in spoilt.err
    assert place.champion() == new
