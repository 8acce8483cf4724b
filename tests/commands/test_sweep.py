"""Whole sweeps, one by `make` on Ray, the others in this process: tiny data, tiny random checkpoints from disk."""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
import torch
from pyarrow import parquet

from pipeline.core.engine.precision import has_bfloat16
from pipeline.steps.measure import Pace
from tests.commands import corpus
from tests.commands.conftest import SMALL
from tests.commands.workplace import Call, Done, Workplace

pytestmark = pytest.mark.commands

Swept = tuple[Workplace, Done, list[str]]
HERE = ["CLUSTER=here", *SMALL]


def lines_of(done: Done) -> list[str]:
    """The lines that tell of a trial's end; a command that failed is shown."""
    assert done.code == 0, done.err + done.out
    return [line for line in done.out.splitlines() if "  trial " in line]


def jobs_of(place: Workplace) -> dict[str, dict[str, Any]]:
    return {row["job"]: row for row in place.leaderboard()}


def assert_nested_and_ended(place: Workplace, trials: dict[str, int]) -> None:
    """One sweep run, in it a run for each job, in each job as many trials as given, every one once and ended."""
    (sweep,) = place.runs("sweep")
    jobs = {run.info.run_id: run for run in place.runs("job")}
    found = place.runs("trial")
    assert "mlflow.parentRunId" not in sweep.data.tags
    assert {run.data.tags["mlflow.parentRunId"] for run in jobs.values()} == {sweep.info.run_id}
    parents = [jobs[run.data.tags["mlflow.parentRunId"]].data.tags["job"] for run in found]
    assert Counter(parents) == trials
    assert [run.data.tags["job"] for run in found] == parents
    assert len({run.data.tags["trial"] for run in found}) == len(found)
    assert {run.info.status for run in [sweep, *jobs.values()]} == {"FINISHED"}
    for run in found:
        expected = "FAILED" if run.data.tags["status"] == "failed" else "FINISHED"
        assert run.info.status == expected


def test_csv_parquet_conll_and_a_task_of_ones_own_are_swept_and_recorded(swept: Swept) -> None:
    place, done, _ = swept
    lines = lines_of(done)
    names = ["intent/default", "ner/news", "medqa/basics", "triage/mail"]
    assert_nested_and_ended(place, dict.fromkeys(names, 3))
    board = jobs_of(place)
    assert list(board) == names
    assert [row["metric"] for row in board.values()] == ["accuracy", "f1", "accuracy", "macro_f1"]
    assert {row["alias"] for row in board.values()} == {"champion"}
    assert Counter(line.split()[0] for line in lines) == dict.fromkeys(names, 3)
    assert {row["width"] for row in board.values()} <= {2, 4}


def test_without_a_terminal_a_sweep_prints_lines_and_no_control_codes(swept: Swept) -> None:
    _, done, _ = swept
    assert done.err == ""
    assert "\x1b" not in done.out and "\r" not in done.out
    lines = lines_of(done)
    assert "4 jobs, 12 trials," in done.out
    assert {line.split("  ")[1] for line in lines} == {"trial 1/3", "trial 2/3", "trial 3/3"}
    assert {line.split("  ")[2] for line in lines} == {"done", "pruned"}
    for word in ("Leaderboard", "Recorded in sqlite:///", "make ui", "make status", "make predict TASK=intent"):
        assert word in done.out


def test_the_same_seed_gives_the_same_leaderboard_in_one_process_as_on_two_slots_of_ray(
    swept: Swept, stored: Workplace
) -> None:
    place, _, words = swept
    done = stored.call("sweep", *words, "CLUSTER=here")
    assert Counter(lines_of(done)).total() == 12
    assert stored.leaderboard() == place.leaderboard()


def test_the_precision_of_this_machine_is_in_config_runs_and_bundles_and_stays_on_another(
    swept: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, done, _ = swept
    here, other = ("bfloat16", "float32") if has_bfloat16("cpu") else ("float32", "bfloat16")
    assert f"seed 7; {here}\n" in done.out
    (file,) = place.cwd.glob("runs/*/sweep.json")
    assert json.loads(file.read_text("utf-8"))["config"]["engine"]["precision"] == here
    bundles = [json.loads(one.read_text("utf-8")) for one in place.cwd.glob("mlartifacts/**/bundle.json")]
    assert {bundle["engine"]["precision"] for bundle in bundles} == {here}
    monkeypatch.setattr("pipeline.steps.prepare.has_bfloat16", lambda _: other == "bfloat16")
    dry = place.call("sweep", f"RESUME={file.parent.name}", "DRYRUN=1")
    assert dry.code == 0 and f"seed 7; {here}\n" in dry.out, dry.err


@pytest.mark.faults
def test_an_interrupted_sweep_is_resumed_and_ends_like_an_undisturbed_one(swept: Swept, workplace: Workplace) -> None:
    place, _, words = swept
    process = workplace.start("sweep", *words)
    assert process.stdout is not None
    shown = []
    for line in process.stdout:
        shown.append(line)
        if "  trial 1/3" in line:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
            break
    rest, errors = process.communicate(timeout=60)
    out = "".join(shown) + rest
    assert process.returncode == 130, out + errors
    assert errors == ""
    (folder,) = (workplace.cwd / "runs").iterdir()
    assert f"Interrupted. Go on with: python -m jobs sweep RESUME={folder.name}" in out
    assert "Leaderboard" not in out
    assert "RUNNING" not in {run.info.status for kind in ("sweep", "job", "trial") for run in workplace.runs(kind)}

    done = workplace.make("sweep", f"RESUME={folder.name}")
    assert done.code == 0, done.err + done.out
    assert workplace.leaderboard() == place.leaderboard()
    assert_nested_and_ended(workplace, dict.fromkeys(jobs_of(place), 3))


def test_a_resumed_sweep_refuses_other_settings_and_dry_runs_on_demand(swept: Swept) -> None:
    place, _, words = swept
    (folder,) = (place.cwd / "runs").iterdir()
    before = sorted(path.name for path in folder.iterdir())
    others = [word for word in words[1:] if not word.startswith(("SEED=", "EPOCHS="))]
    refused = place.call("sweep", f"RESUME={folder.name}", *others, "SEED=8", "EPOCHS=3", "TASKS=ner")
    assert refused.code == 2
    title, *faults = refused.err.splitlines()
    assert title == "3 things to mend:"
    beginnings = ("TASKS: 'ner' ", "engine.epochs: '3' ", "seed: '8' ")
    for beginning, fault in zip(beginnings, sorted(map(str.strip, faults)), strict=True):
        assert fault.startswith(beginning)
        assert f"is another value than that of sweep {folder.name} (" in fault
    dry = place.call("sweep", f"RESUME={folder.name}", *words, "DRYRUN=1", "cluster.num_cpus=1")
    assert dry.code == 0, dry.err
    assert "of training, evaluation and tests on 1 slot of this machine" in dry.out
    assert sorted(path.name for path in folder.iterdir()) == before


def test_hub_data_optuna_and_distilbert_with_a_trial_that_fails(
    stored: Workplace, checkpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", stored.data / "cache")
    for seed, split in enumerate(("train", "validation")):
        (stored.data / "reviews").mkdir(exist_ok=True)
        table = pyarrow.Table.from_pylist(corpus.rows(corpus.opinion, 48, seed))
        parquet.write_table(table, stored.data / "reviews" / f"{split}.parquet")
    own = stored.data / "own"
    own.mkdir()
    hub = {"default": {"id": str(stored.data / "reviews"), "columns": {"text": "text"}}}
    (own / "reviews.yaml").write_text(json.dumps({"kind": "classification", "hub": hub}), "utf-8")
    done = stored.call(
        "sweep",
        "tasks=[reviews]",
        "data.source=hub",
        f"conf={own}",
        f"checkpoint={checkpoints['distilbert']}",
        "search=optuna",
        "search.trials=4",
        "search.cohort=2",
        "search.space.engine.learning_rate={choice:[1e30,0.003]}",
        "search.space.method.width={choice:[2,4]}",
        "engine.epochs=2",
        "cluster=here",
    )
    lines = lines_of(done)
    failed = [line for line in lines if "  failed  " in line]
    assert len(lines) == 4
    assert len(failed) == 2
    assert all("the loss is nan" in line and "lr 1e30" in line for line in failed)
    assert "There is no test split: " in done.out
    (row,) = stored.leaderboard()
    assert row["learning_rate"] == 0.003
    assert_nested_and_ended(stored, {"reviews/default": 4})
    reasons = [run.data.tags["reason"] for run in stored.runs("trial") if run.info.status == "FAILED"]
    assert len(reasons) == 2
    assert all("the loss is nan" in reason for reason in reasons)


def test_all_domains_of_a_task_by_grid_and_asha_on_electra(stored: Workplace, checkpoints: dict[str, str]) -> None:
    for seed, domain in enumerate(("films", "songs")):
        for number, split in enumerate(("train", "validation", "test")):
            rows = corpus.rows(corpus.opinion, 32, 10 * seed + number)
            stored.write({f"sentiment/{domain}/{split}.jsonl": rows})
    words = ["TASKS=sentiment/*", f"DATA={stored.data}", f"CHECKPOINT={checkpoints['electra']}", "EPOCHS=2"]
    done = stored.call("sweep", *words, "search=grid", "search.scheduler=asha", "search.grid_points=2", *HERE)
    assert len(lines_of(done)) == 8
    names = ["sentiment/films", "sentiment/songs"]
    assert [(row["job"], row["name"]) for row in stored.leaderboard()] == [
        ("sentiment/films", "sentiment"),
        ("sentiment/songs", "sentiment.songs"),
    ]
    assert_nested_and_ended(stored, dict.fromkeys(names, 4))
    points = Counter((run.data.params["learning_rate"], run.data.params["width"]) for run in stored.runs("trial"))
    assert points == {(rate, width): 2 for rate in ("0.0003", "0.003") for width in ("2", "4")}


def test_a_time_budget_ends_the_search_and_the_best_so_far_wins_on_roberta(
    stored: Workplace, checkpoints: dict[str, str], formats: Path
) -> None:
    words = ["TASKS=ner", f"DATA={formats}", f"CHECKPOINT={checkpoints['roberta']}", "TRIALS=3", "EPOCHS=9999"]
    start = time.monotonic()
    done = stored.call("sweep", *words, "search.scheduler=none", "search.time_budget_s=1", *HERE)
    assert time.monotonic() - start < 120
    lines = lines_of(done)
    assert len(lines) == 3
    (row,) = stored.leaderboard()
    assert row["alias"] == "champion"
    assert_nested_and_ended(stored, {"ner/news": 3})
    reasons = Counter(run.data.tags["reason"] for run in stored.runs("trial"))
    assert reasons == {"time budget": 3}


def test_a_job_without_a_winner_takes_nothing_from_the_others(
    stored: Workplace, checkpoints: dict[str, str], formats: Path
) -> None:
    words = ["TASKS=ner,intent", f"DATA={formats}", f"CHECKPOINT={checkpoints['bert']}", "TRIALS=2", "EPOCHS=9999"]
    options = ["search.scheduler=none", "search.time_budget_s=1"]  # intent's turn never comes
    done = stored.call("sweep", *words, *options, *HERE)
    assert done.err == "Failed: intent/default has no trial with a score (time budget)\n"
    assert done.code == 1
    (row,) = stored.leaderboard()
    assert (row["job"], row["alias"]) == ("ner/news", "champion")
    (folder,) = (stored.cwd / "runs").iterdir()
    assert "Leaderboard" in done.out and f"Stopped. Go on with: make sweep RESUME={folder.name}" in done.out
    status = {run.data.tags["job"]: run.info.status for run in stored.runs("job")}
    assert status == {"ner/news": "FINISHED", "intent/default": "FAILED"}
    assert {run.info.status for run in stored.runs("sweep")} == {"FAILED"}


@pytest.fixture
def ask(swept: Swept, workplace: Workplace) -> Callable[..., Done]:
    """Ask a champion from another folder: predict knows the tracking address alone."""

    def ask(task: str, **given: str) -> Done:
        environment = {name: given.get(name, "") for name in ("TEXT", "ITEM", "FILE")}
        uri = f"tracking.uri=sqlite:///{swept[0].cwd}/mlflow.db"
        return workplace.call("predict", f"job={task}", uri, environment=environment)

    return ask


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://127.0.0.1:9", "The tracking server http://127.0.0.1:9 cannot be reached. Start it with"),
        ("sqlite:////etc/hostname", "/etc/hostname is no SQLite file. Set tracking.uri to another one."),
    ],
)
def test_a_tracking_store_that_cannot_be_used_is_told_before_there_is_a_sweep(
    workplace: Workplace, call: Call, checkpoints: dict[str, str], uri: str, message: str
) -> None:
    done = call("sweep", "tasks=[ner]", f"checkpoint={checkpoints['bert']}", f"tracking.uri={uri}")
    assert done.code == 1
    assert done.err.startswith(f"Failed: {message}") and "RESUME" not in done.out + done.err
    assert workplace.left() == []


def test_a_gpu_that_is_not_used_is_told(
    call: Call, checkpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["tasks=[sentiment/films]", f"checkpoint={checkpoints['bert']}", "dryrun=true"]
    pace = Pace(train_s=1e-4, eval_s=1e-4, test_s=1e-4, memory_bytes=2**20)
    monkeypatch.setattr("pipeline.steps.outlook.measure_together", lambda *_: ([pace], 1.0))
    told = "The GPU of this machine is not used: cluster.gpus_per_trial=0.25 trains four trials at once on each"
    for is_there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda is_there=is_there: is_there)
        done = call("sweep", *words)
        assert done.code == 0, done.err
        assert (told in done.out) == is_there


def test_the_champion_answers_text_items_files_and_standard_input(
    swept: Swept, ask: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, done, _ = swept
    assert done.code == 0, done.err
    hard = "the film was 'good', \"fine\", $5 [great]\n(love)"
    separated = json.dumps("the film was good\u2028fine", ensure_ascii=False)
    asked = [json.dumps({"text": hard}), json.dumps(hard), separated]
    file = tmp_path / "asked.jsonl"
    file.write_text("\n".join(asked) + "\n", "utf-8")
    by_file = ask("intent", FILE=str(file))
    with file.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        by_input = place.call("predict", "TASK=intent")
    assert (by_file.code, by_file.err) == (by_input.code, by_input.err) == (0, "")
    assert by_file.out == by_input.out
    answers = [json.loads(line) for line in by_file.out.splitlines()]
    assert len(answers) == 3
    assert answers[0] == answers[1]
    assert set(answers[0]["scores"]) == {"positive", "negative"}
    text = json.loads(ask("intent", TEXT=hard).out)
    assert text["label"] == answers[0]["label"]
    assert text["score"] == pytest.approx(answers[0]["score"], abs=1e-5)  # another batch: other padding
    item = {"question": "what capital is in italy", "options": ["paris", "rome", "oslo"]}
    assert json.loads(ask("medqa", ITEM=json.dumps(item)).out)["answer"] in (0, 1, 2)


@pytest.mark.parametrize(
    ("task", "given", "message"),
    [
        (
            "intend",
            {"TEXT": "good"},
            "TASK: 'intend' has no champion yet. Run `make sweep TASKS=intend` first. Did you",
        ),
        ("intent/mail", {"TEXT": "good"}, "TASK: 'intent/mail' has no champion yet."),
        ("intent", {"ITEM": '{"words": 1}'}, 'ITEM: "{\'words\': 1}" has no text. Give {"text": ...}.'),
        ("intent", {"TEXT": " "}, "TEXT: has an empty text."),
        (
            "medqa",
            {"TEXT": "what"},
            "TEXT: 'what' must be an object with question and options. Give {\"question\": ...,",
        ),
    ],
)
def test_predict_refuses_what_no_champion_can_answer(
    ask: Callable[..., Done], task: str, given: dict[str, str], message: str
) -> None:
    done = ask(task, **given)
    assert done.code == 2
    title, text = done.err.splitlines()
    assert title == "Not started:"
    assert message in text
