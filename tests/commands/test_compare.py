"""`compare`, whole, in this process: its table, its records, what it leaves alone, and going on when interrupted."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.commands.workplace import Done, Workplace

pytestmark = pytest.mark.commands

METHODS = ["houlsby", "pfeiffer", "parallel", "lora", "prompt", "full", "probe"]
SMALL = ["CLUSTER=here", "engine.batch_size=8", "data.max_train_rows=24", "seeds=2"]


@pytest.fixture(scope="module")
def compared(
    tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, str], formats: Path, empty_database: Path
) -> tuple[Workplace, Done, list[str]]:
    """All seven methods."""
    place = Workplace(tmp_path_factory.mktemp("compared") / "place").with_tables(empty_database)
    words = ["TASKS=ner", f"DATA={formats}", f"CHECKPOINT={checkpoints['bert']}", "TRIALS=2", "EPOCHS=1"]
    return place, place.call("compare", *words, *SMALL), words


def records(place: Workplace) -> list[dict[str, object]]:
    (file,) = place.cwd.glob("mlartifacts/**/comparison.json")
    table = json.loads(file.read_text("utf-8"))
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def test_every_method_is_searched_repeated_and_shown(compared: tuple[Workplace, Done, list[str]]) -> None:
    place, done, _ = compared
    assert done.code == 0, done.err + done.out
    rows = records(place)
    assert [(row["job"], row["method"]) for row in rows] == [("ner/news", method) for method in METHODS]
    for row in rows:
        assert len(row["test"]) == len(row["validation"]) == 2  # type: ignore[arg-type]
        assert row["epoch_s"] > 0 and row["best_s"] > 0 and row["peak_bytes"] > 2**27 and row["bundle_bytes"] > 0  # type: ignore[operator]
    by_method = {str(row["method"]): row for row in rows}
    assert by_method["full"]["share"] >= 1 > by_method["houlsby"]["share"] > by_method["probe"]["share"]  # type: ignore[operator]
    assert by_method["full"]["bundle_bytes"] > by_method["houlsby"]["bundle_bytes"] > by_method["probe"]["bundle_bytes"]  # type: ignore[operator]
    assert "Comparison" in done.out and " ± " in done.out
    assert done.err == ""


def test_it_is_recorded_with_a_picture_and_moves_no_alias(compared: tuple[Workplace, Done, list[str]]) -> None:
    place, done, _ = compared
    assert list(place.cwd.glob("mlartifacts/**/comparison.png")) and list(
        place.cwd.glob("mlartifacts/**/comparison.md")
    )
    jobs = place.runs("job")
    assert len(jobs) == 7 * 2  # a search and another seed each
    assert {run.data.tags["seed"] for run in jobs} == {"0", "1"}
    assert all("test/primary" in run.data.metrics and run.info.status == "FINISHED" for run in jobs)
    assert len(place.runs("trial")) == 7 * (2 + 1)
    assert not MlflowClient(f"sqlite:///{place.cwd}/mlflow.db").search_registered_models()
    assert "champions are as before" in done.out


def test_each_method_is_searched_in_its_own_range(compared: tuple[Workplace, Done, list[str]]) -> None:
    rates: dict[str, list[float]] = {}
    for run in compared[0].runs("trial"):
        rates.setdefault(run.data.tags["method"], []).append(float(run.data.params["learning_rate"]))
    assert max(rates["full"]) <= 3e-4 < min(rates["prompt"])
    assert all(3e-4 <= rate <= 3e-3 for rate in rates["houlsby"])


def test_it_goes_on_and_ends_with_the_same_table(compared: tuple[Workplace, Done, list[str]]) -> None:
    place, _, _ = compared
    before = records(place)
    (folder,) = (file.parent for file in place.cwd.glob("runs/*/sweep.json"))
    refused = place.call("sweep", f"RESUME={folder.name}")
    assert refused.code == 2 and f"make compare RESUME={folder.name}" in refused.err
    again = place.call("compare", f"RESUME={folder.name}")
    assert again.code == 0, again.err
    names = ("job", "method", "validation", "test", "num_trained", "learning_rate")
    assert [[row[name] for name in names] for row in records(place)] == [
        [row[name] for name in names] for row in before
    ]
    assert len(place.runs("job")) == 14


def test_a_method_that_is_none_and_a_setting_that_it_lacks_are_refused_before_anything_runs(
    workplace: Workplace, checkpoints: dict[str, str], formats: Path
) -> None:
    words = ["TASKS=intent", f"DATA={formats}", f"CHECKPOINT={checkpoints['bert']}"]
    done = workplace.call("compare", *words, "METHODS=houlsby,probe", "method.dropout=0.2")
    assert done.code == 2 and "method.dropout: '0.2' is no setting of probe (it has: none)" in done.err
    assert "runs" not in workplace.left()
