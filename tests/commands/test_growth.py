"""What a task grows or loses between two periods: labels, entity types, options; and all that one pass can be told."""

import http.server
import json
import random
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.commands.corpus import Row, journey, opinion, question, rows
from tests.commands.workplace import Done, Workplace
from tests.unit.tracking.server import Server, without_models

pytestmark = [pytest.mark.commands, pytest.mark.server]

SETTINGS = ["engine.batch_size=8", "engine.head_dropout=0"]
SETTINGS += ["gate.min_rows=20", "gate.margin=0.5", "tracking.patience_s=5", "cluster=here"]


def splits(task: str, made: list[Row]) -> dict[str, list[Row]]:
    cut, end = len(made) // 2, len(made) * 3 // 4
    parts = {"train": made[:cut], "validation": made[cut:end], "test": made[end:]}
    return {f"{task}/{name}.jsonl": part for name, part in parts.items()}


def dated(draw: random.Random) -> Row:
    """A sentence with an entity of a type that was not there before."""
    row = journey(draw)
    return {"tokens": [*row["tokens"], "in", draw.choice(["summer", "winter"])], "tags": [*row["tags"], "O", "B-DAY"]}


def short(draw: random.Random) -> Row:
    """A question with three options in place of four."""
    row = question(draw)
    right = row["options"][row["answer"]]
    options = [one for one in row["options"] if one != right][:2]
    options.insert(draw.randrange(3), right)
    return {**row, "options": options, "answer": options.index(right)}


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address, and what was posted there."""
    told: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook", told
        server.shutdown()
        thread.join()


@pytest.fixture
def served(tmp_path: Path, mlflow_server: Server) -> tuple[Workplace, str]:
    """A place, and the address of an MLflow server whose experiment `growth` stands in it under a local one's names."""
    place, server = Workplace(tmp_path), without_models(mlflow_server)
    number = MlflowClient(server.uri).create_experiment("growth")
    (place.cwd / "mlflow.db").symlink_to(server.database)
    (place.cwd / "mlartifacts").symlink_to(server.folder / "art" / number)
    return place, server.uri


def verdicts(place: Workplace) -> dict[str, dict[str, Any]]:
    return {row["job"].partition("/")[0]: row for row in place.newest("passes")}


def test_types_options_and_labels_may_change_in_a_pass_that_searches_and_tells_a_webhook(
    served: tuple[Workplace, str], checkpoints: dict[str, str], webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    place, uri = served
    where = [
        f"tracking.uri={uri}",
        "tracking.experiment=growth",
        "tasks=[intent,ner,medqa]",
        f"data.source={place.data}",
        f"checkpoint={checkpoints['bert']}",
    ]

    def command(name: str, *words: str) -> Done:
        done = place.call(name, *where, *SETTINGS, *words)
        assert done.code == 0, done.out + done.err
        return done

    old = rows(opinion, 120, seed=1)
    sets = {"intent": old, "ner": rows(journey, 120, seed=2), "medqa": rows(question, 120, seed=3)}
    for name, made in sets.items():
        place.write(splits(name, made))
    fixed = ["engine.learning_rate=0.01", "search.space.method.width=null"]
    command("sweep", "search.trials=1", "engine.epochs=6", *fixed)

    positive = [row for row in rows(opinion, 400, seed=4) if row["label"] == "positive" and row not in old][:80]
    place.write(splits("intent", positive))
    place.write(splits("ner", rows(dated, 80, seed=5)))
    place.write(splits("medqa", rows(short, 80, seed=6)))
    least = ["drift.label_distance=1", "drift.score_drop=1", "drift.embedding_auc=1", "drift.min_new_rows=10"]
    still = command("retrain", "tasks=[intent]", "drift.policy=drift", *least)
    assert re.search(r"^intent\S*: no drift: ", still.out, re.M), still.out

    url, told = webhook
    options = ["challenger.trials=2", "challenger.replay=1", "challenger.rate=1", "engine.epochs=4", f"hook.url={url}"]
    done = command("retrain", *options, "drift.min_new_rows=10")
    found = verdicts(place)
    assert {name: row["decision"] for name, row in found.items()} == dict.fromkeys(sets, "promoted"), done.out
    assert sorted(one["name"] for one in told) == sorted(sets) and {one["version"] for one in told} == {2}
    assert "new label: DAY" in done.out and "gone: negative" in done.out

    client = MlflowClient(uri)
    grown = client.get_experiment_by_name("growth")
    trials = client.search_runs([grown.experiment_id], "tags.kind = 'trial'")
    rates = {run.data.params["learning_rate"] for run in trials}
    assert len(rates) > 3  # that of the sweep, and two around it for each task
    files = [json.loads(file.read_text("utf-8")) for file in place.cwd.glob("mlartifacts/**/bundle.json")]
    labels = {name: max((one["labels"] for one in files if one["job"].startswith(name)), key=len) for name in sets}
    assert labels["ner"] == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER", "B-DAY", "I-DAY"]  # behind those that were there
    assert all(one["labels"] == ["negative", "positive"] for one in files if one["job"].startswith("intent"))
    assert {name: int(client.get_registered_model(name).aliases["champion"]) for name in sets} == dict.fromkeys(sets, 2)
