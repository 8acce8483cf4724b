import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.bundle import read_bundle
from pipeline.engine.trials import Job
from pipeline.errors import CheckpointError, ConfigError, Fault, TrackingError
from pipeline.tracking.registry import Registered, champions, fetch, judge, register
from pipeline.tracking.run import create_run
from pipeline.tracking.store import Store

NAN = float("nan")


def never(*_: Path) -> tuple[float, float]:
    raise AssertionError("there is no champion to compare with")


def enter(
    store: Store, story: Any, sweep: str, *, scores: tuple[float, float] | None = None, job: Job | None = None
) -> Registered:
    """Register trial 0 as the winner of a sweep; `scores` are those of challenger and champion."""
    run = create_run(store, "job", {"kind": "job", "sweep_id": sweep})
    rescore = never if scores is None else lambda *_: scores
    return register(store, sweep, job or story.job, story.tested(), run.id, rescore)


def aliases(store: Store) -> dict[str, int]:
    return {alias: int(version) for alias, version in store.client.get_registered_model("sentiment").aliases.items()}


@pytest.mark.parametrize(
    ("challenger", "champion", "alias"),
    [
        (0.92, 0.91, "champion"),
        (0.91, 0.91, "challenger"),
        (0.90, 0.91, "challenger"),
        (NAN, 0.91, "challenger"),
    ],
)
def test_only_a_better_score_takes_the_place(challenger: float, champion: float, alias: str) -> None:
    verdict = judge(challenger, champion, version=3, num_rows=120)
    assert verdict.alias == alias
    assert "0.9100 of version 3 on its 120 validation rows" in verdict.reason


def test_champion_whose_score_is_no_number_stays() -> None:
    assert judge(0.9, NAN, version=3, num_rows=120).alias == "challenger"


def test_first_winner_of_a_name_is_champion(store: Store, story: Any) -> None:
    registered = enter(store, story, "one")
    assert registered == Registered(name="sentiment", version=1, alias="champion", reason="the first of sentiment")
    assert aliases(store) == {"champion": 1}


def test_better_winner_becomes_champion(store: Store, story: Any) -> None:
    enter(store, story, "one")
    assert enter(store, story, "two", scores=(0.8, 0.7)).alias == "champion"
    assert aliases(store) == {"champion": 2}


def test_winner_that_is_no_better_is_challenger_and_the_champion_stays(store: Store, story: Any) -> None:
    enter(store, story, "one")
    registered = enter(store, story, "two", scores=(0.7, 0.7))
    assert registered.alias == "challenger"
    assert registered.reason == "0.7000 does not beat the 0.7000 of version 1 on its 2 validation rows"
    assert aliases(store) == {"champion": 1, "challenger": 2}


def test_both_are_scored_on_the_validation_rows_of_the_champion(store: Store, story: Any, job: Job) -> None:
    enter(store, story, "one")
    row = job.dataset.validation.rows[0]
    changed = dataclasses.replace(job.dataset.validation, rows=(row,))
    other = dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, validation=changed))
    run = create_run(store, "job", {"kind": "job", "sweep_id": "two"})
    asked = []

    def rescore(challenger: Path, champion: Path, rows: Path) -> tuple[float, float]:
        asked.append((challenger, champion, [json.loads(line) for line in rows.read_text().splitlines()]))
        return 0.8, 0.7

    register(store, "two", other, story.tested(), run.id, rescore)
    [(challenger, champion, rows)] = asked
    assert challenger == story.bundle()
    assert read_bundle(champion).record == read_bundle(story.bundle()).record
    assert rows == [{"text": f"validation {i}", "label": "good"} for i in range(2)]


def test_rows_with_odd_line_ends_stay_one_line(store: Store, story: Any, job: Job) -> None:
    row = dataclasses.replace(job.dataset.validation.rows[0], fields={"text": "a\u2028b\x85c\nd", "label": "good"})
    validation = dataclasses.replace(job.dataset.validation, rows=(row,))
    odd = dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, validation=validation))
    enter(store, story, "one", job=odd)
    lines = (fetch(store, "sentiment").parent / "validation.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["a\u2028b\x85c\nd"]


def test_champion_that_cannot_be_scored_keeps_its_place(store: Store, story: Any) -> None:
    enter(store, story, "one")
    run = create_run(store, "job", {"kind": "job", "sweep_id": "two"})

    def gone(*_: Path) -> tuple[float, float]:
        raise CheckpointError(Fault(where="checkpoint", value="old", rule="is no folder", remedy="Restore it"))

    registered = register(store, "two", story.job, story.tested(), run.id, gone)
    assert registered.alias == "challenger"
    assert "version 1 could not be scored again: checkpoint: 'old' is no folder" in registered.reason
    assert aliases(store) == {"champion": 1, "challenger": 2}


def test_resumed_sweep_registers_nothing_twice(store: Store, story: Any) -> None:
    first = enter(store, story, "one")
    assert enter(store, story, "one") == first
    assert len(store.client.search_model_versions("name = 'sentiment'")) == 1


def test_alias_that_was_not_set_before_a_kill_is_set_on_resume(store: Store, story: Any) -> None:
    enter(store, story, "one")
    second = enter(store, story, "two", scores=(0.8, 0.7))
    store.client.set_registered_model_alias("sentiment", "champion", "1")  # as if killed just before
    assert enter(store, story, "two") == second
    assert aliases(store)["champion"] == 2


def test_resumed_sweep_does_not_take_the_place_of_a_later_champion(store: Store, story: Any) -> None:
    enter(store, story, "one")
    enter(store, story, "two", scores=(0.8, 0.7))
    enter(store, story, "one")
    assert aliases(store) == {"champion": 2}


def test_version_without_a_verdict_is_judged_on_resume(store: Store, story: Any) -> None:
    enter(store, story, "one")
    enter(store, story, "two", scores=(0.8, 0.7))
    for tag in ("verdict", "reason"):
        store.client.delete_model_version_tag("sentiment", "2", tag)
    store.client.set_registered_model_alias("sentiment", "champion", "1")
    assert enter(store, story, "two", scores=(0.6, 0.7)).alias == "challenger"


def test_other_jobs_of_other_names_are_untouched(store: Store, story: Any, job: Job) -> None:
    enter(store, story, "one")
    other = dataclasses.replace(job, name="sentiment/shops", registered_name="sentiment.shops")
    assert enter(store, story, "one", job=other).name == "sentiment.shops"
    assert [(version.name, version.version) for version in champions(store)] == [
        ("sentiment", 1),
        ("sentiment.shops", 1),
    ]


def test_version_is_tagged_with_what_it_stands_for(store: Store, story: Any) -> None:
    enter(store, story, "one")
    tags = store.client.get_model_version("sentiment", "1").tags
    expected = {
        "sweep_id": "one",
        "checkpoint_sha256": "c0ffee",
        "method": "pfeiffer",
        "validation": "0.75",
        "test": "0.7",
        "data_fingerprint": "train-print-validation-print-test-print",
        "verdict": "champion",
    }
    assert {key: tags[key] for key in expected} == expected


def test_status_lists_champion_then_challenger(store: Store, story: Any) -> None:
    enter(store, story, "one")
    enter(store, story, "two", scores=(0.6, 0.7))
    store.client.create_registered_model("somebody-elses")
    first, second = champions(store)
    assert (first.alias, first.version, second.alias, second.version) == ("champion", 1, "challenger", 2)
    assert (first.metric, first.validation, first.test, first.low, first.high) == (
        "accuracy",
        0.75,
        0.7,
        0.6,
        0.8,
    )
    assert (first.checkpoint, first.method, first.source) == ("tiny", "pfeiffer", "starter")


def test_model_belongs_to_the_run_of_its_job(store: Store, story: Any) -> None:
    run = create_run(store, "job", {"kind": "job", "sweep_id": "one"})
    register(store, "one", story.job, story.tested(), run.id, never)
    assert store.client.get_model_version("sentiment", "1").run_id == run.id
    assert len(store.client.get_run(run.id).outputs.model_outputs) == 1


def test_model_states_its_requirements_and_holds_no_code_and_no_pickle(store: Store, story: Any) -> None:
    enter(store, story, "one")
    model = fetch(store, "sentiment").parent.parent.parent
    files = {file.relative_to(model).as_posix() for file in model.rglob("*") if file.is_file()}
    assert {
        "data/data/bundle/bundle.json",
        "data/data/bundle/weights.safetensors",
        "requirements.txt",
    } <= files
    assert not [file for file in files if file.endswith((".py", ".pkl"))]
    assert "torch==" in (model / "requirements.txt").read_text()


def test_champion_of_a_local_store_is_used_where_it_lies(store: Store, story: Any, tmp_path: Path) -> None:
    enter(store, story, "one")
    assert (tmp_path / "mlartifacts") in fetch(store, "sentiment").parents


def test_unknown_name_is_answered_with_the_names_there_are(store: Store, story: Any) -> None:
    enter(store, story, "one")
    with pytest.raises(ConfigError) as caught:
        fetch(store, "sentimant")
    [fault] = caught.value.faults
    assert (fault.where, fault.value) == ("TASK", "sentimant")
    assert "make sweep TASKS=sentimant" in fault.remedy
    assert "Did you mean sentiment" in fault.remedy


@pytest.mark.parametrize("name", ["sentiment", "sentiment/films", "sentiment.films"])
def test_default_domain_is_found_by_its_job_too(name: str, store: Store, story: Any) -> None:
    enter(store, story, "one")
    assert read_bundle(fetch(store, name)).record.job == "sentiment/films"


def test_more_names_than_a_page_are_listed(store: Store, story: Any, job: Job) -> None:
    for number in range(120):
        store.client.create_registered_model(f"a{number}")
    enter(store, story, "one")
    assert [version.name for version in champions(store)] == ["sentiment"]
    assert fetch(store, "sentiment").is_dir()


def test_name_without_the_alias_is_answered_too(store: Store, story: Any) -> None:
    enter(store, story, "one")
    with pytest.raises(ConfigError, match="has no challenger yet"):
        fetch(store, "sentiment", "challenger")


def test_bundle_that_was_deleted_is_named(store: Store, story: Any) -> None:
    enter(store, story, "one")
    folder = fetch(store, "sentiment")
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(TrackingError, match=r"sentiment version 1: there is no bundle at .*bundle"):
        fetch(store, "sentiment")
