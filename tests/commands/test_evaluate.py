"""A registered version answers a file and is scored on labelled rows, by whole commands; its aliases stay."""

import csv
import json

import pytest
from mlflow import MlflowClient

from tests.commands.workplace import Workplace

pytestmark = pytest.mark.commands


def aliases(place: Workplace) -> dict[str, str]:
    (model,) = MlflowClient(f"sqlite:///{place.cwd}/mlflow.db").search_registered_models()
    return dict(model.aliases)


def test_a_version_is_scored_on_the_test_split_of_a_folder_and_on_a_file(earlier: Workplace) -> None:
    before = aliases(earlier)
    own = earlier.call("evaluate", "TASK=sentiment", f"DATA={earlier.data}")
    assert own.code == 0, own.err
    title = f"sentiment version 1, champion: 16 rows of sentiment/films, test split of {earlier.data}"
    assert own.out.splitlines()[0] == title
    assert "The version was trained on none of the rows, and not chosen by any." in own.out
    lines = ["text;label", "a good film was fine;positive", "the dull song is bad;positive", "a bad film is dull;odd"]
    lines += [f"{row['text']};{row['label']}" for row in trained(earlier)[:2]]
    earlier.write({"mine.csv": "\n".join(lines) + "\n"})
    done = earlier.call("evaluate", "TASK=sentiment", f"FILE={earlier.data}/mine.csv", "VERSION=1")
    assert done.code == 0, done.err
    assert "The version does not know odd (1 row): counted as wrong." in done.out
    assert "The version was trained on 2 of the 5 rows, and chosen by 0" in done.out
    runs = earlier.runs("evaluation")
    assert {run.info.status for run in runs} == {"FINISHED"}
    newest = runs[0]
    assert newest.data.metrics["test/rows"] == 5 and newest.data.metrics["test/trained_on"] == 2
    assert newest.data.metrics["test/primary"] == pytest.approx(0.6)
    assert (newest.data.tags["registered"], newest.data.tags["version"]) == ("sentiment", "1")
    answered = [row["predicted"]["label"] for row in earlier.newest("test_predictions")]
    assert answered[:2] == ["positive", "negative"] and len(answered) == 5
    assert aliases(earlier) == before


def trained(place: Workplace) -> list[dict[str, str]]:
    rows = (place.data / "sentiment" / "films" / "train.jsonl").read_text("utf-8").splitlines()
    return [json.loads(row) for row in rows]


def test_a_file_is_answered_whole_and_a_row_without_an_answer_makes_the_exit_code_1(earlier: Workplace) -> None:
    earlier.write({"asked.csv": "id,text\n1,a good film was fine\n2,\n3,the dull song is bad\n"})
    words = ["predict", "TASK=sentiment", f"FILE={earlier.data}/asked.csv"]
    done = earlier.call(*words)
    assert done.code == 1 and done.err.startswith("Failed: 1 of 3 rows have no answer but an error. The first: ")
    first, second, third = map(json.loads, done.out.splitlines())
    assert (first["label"], second["row"], third["label"]) == ("positive", 3, "negative")
    out = earlier.cwd / "answers.csv"
    assert earlier.call(*words, "OUT=answers.csv").code == 1
    with out.open(encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["label", "score", "scores", "row", "error"]
    assert [row[0] for row in rows] == ["positive", "", "negative"] and "asked.csv:3: has an empty text" in rows[1][4]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["OUT=a.xlsx"], "OUT: 'a.xlsx' is no file that answers are written to. Give a name that ends in .jsonl, .csv"),
        (["VERSION=7"], "VERSION: '7' is no version of sentiment. Use one of: 1"),
        (["ALIAS=challenger"], "TASK: 'sentiment' has no challenger yet. It has: champion"),
        (["VERSION=1", "ALIAS=challenger"], "VERSION and ALIAS: exclude each other"),
        (["data.source=x"], "data.source: 'x' is not used by `predict`. Name the file by FILE"),
        (["data.test_share=0.2"], "data.test_share: '0.2' is not used by `predict`"),
    ],
)
def test_what_cannot_be_answered_so_is_refused(earlier: Workplace, words: list[str], message: str) -> None:
    done = earlier.call("predict", "TASK=sentiment", "TEXT=good", *words)
    assert (done.code, done.out) == (2, "") and message in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "TASK: is missing"),
        (["TASK=sentiment", "data.max_train_rows=3"], "data.max_train_rows: '3' is not used by `evaluate`"),
        (
            ["TASK=sentiment", "task.sentiment.columns.text_pair=b"],
            "TASK: 'sentiment' is now classification of text, text_pair",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused_and_nothing_recorded(
    earlier: Workplace, words: list[str], message: str
) -> None:
    before = len(earlier.runs("evaluation"))
    done = earlier.call("evaluate", *words)
    assert (done.code, done.out) == (2, "") and message in done.err
    assert len(earlier.runs("evaluation")) == before
