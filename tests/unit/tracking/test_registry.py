import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.data.ledger import Ledger, read_ledger
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.trials import Job
from pipeline.errors import ConfigError, TrackingError
from pipeline.rules.versions import Alias, Registered, Verdict
from pipeline.tracking.lookup import champions, choose, fetch, registered_as
from pipeline.tracking.promotion import rollback
from pipeline.tracking.registry import champion_of, check_owners, past_of, register, registered_before
from pipeline.tracking.run import create_run
from pipeline.tracking.store import Store
from tests.unit.tracking.conftest import TASK, Story, a_row, enrol, verdict


def enter(
    store: Store,
    story: Any,
    sweep: str,
    alias: Alias = "champion",
    *,
    job: Job | None = None,
    said: Verdict | None = None,
) -> Registered:
    """Register trial 0 as the winner of a sweep; where nothing else is said it gets `alias`."""
    return enrol(store, sweep, story.tested(), said or verdict(alias), job=job)


def aliases(store: Store) -> dict[str, int]:
    return {alias: int(version) for alias, version in store.client.get_registered_model("sentiment").aliases.items()}


def test_first_winner_of_a_name_is_judged_beside_nothing(store: Store, story: Any) -> None:
    assert champion_of(store, "sentiment") is None
    registered = enter(store, story, "one", said=verdict("champion", "the first"))
    assert registered == Registered(name="sentiment", version=1, alias="champion", reason="the first", first=True)
    assert aliases(store) == {"champion": 1}


def test_better_winner_becomes_champion(store: Store, story: Any) -> None:
    enter(store, story, "one")
    second = enter(store, story, "two")
    assert (second.alias, second.first) == ("champion", False)
    assert aliases(store) == {"champion": 2, "previous": 1}


def test_winner_that_is_no_better_is_challenger_and_the_champion_stays(store: Store, story: Any) -> None:
    enter(store, story, "one")
    registered = enter(store, story, "two", said=verdict("challenger", "it is worse"))
    assert (registered.alias, registered.reason) == ("challenger", "it is worse")
    assert aliases(store) == {"champion": 1, "challenger": 2}


def test_champion_is_found_with_what_it_has_seen(store: Store, story: Any, job: Job) -> None:
    seen = Ledger(trained=job.dataset.train.rows)
    enter(store, story, "one", said=verdict("champion", ledger=seen))
    present = champion_of(store, "sentiment")
    assert present is not None
    assert (present.version, present.test) == (1, 0.7)
    assert read_bundle(present.files.bundle).record == read_bundle(story.bundle()).record
    known = read_ledger(present.files.ledger, TASK).trained
    assert [row.fields for row in known] == [row.fields for row in seen.trained]


def test_rows_with_odd_line_ends_stay_one_line(store: Store, story: Any) -> None:
    row = a_row("a\u2028b\x85c\nd")
    enter(store, story, "one", said=verdict("champion", ledger=Ledger(trained=(row,))))
    ledger = read_ledger(fetch(store, "sentiment").parent / "ledger", TASK)
    assert [row.fields["text"] for row in ledger.trained] == ["a\u2028b\x85c\nd"]


def test_champion_that_cannot_be_read_is_told_with_its_version(store: Store, story: Any) -> None:
    enter(store, story, "one")
    folder = fetch(store, "sentiment")
    folder.rename(folder.with_name("elsewhere"))
    present = champion_of(store, "sentiment")
    assert present is not None and present.version == 1
    with pytest.raises(TrackingError, match=r"^sentiment version 1: there is no bundle"):
        present.files  # noqa: B018
    enter(store, story, "two", "challenger")
    assert aliases(store) == {"champion": 1, "challenger": 2}


def test_winner_judged_beside_a_champion_that_is_none_any_more_is_challenger(store: Store, story: Any) -> None:
    enter(store, story, "one")
    enter(store, story, "two")
    run = create_run(store, "job", {"kind": "job", "sweep_id": "three"})
    said = verdict("champion", "better")
    bundle = read_bundle(story.bundle())
    late = register(store, "three", story.job, story.tested(), bundle, run.id, said, replaces=1)
    reason = "it was judged beside version 1, and version 2 has become champion since"
    assert (late.alias, late.reason) == ("challenger", reason)
    assert aliases(store) == {"champion": 2, "previous": 1, "challenger": 3}


def test_resumed_sweep_registers_nothing_twice(store: Store, story: Any) -> None:
    assert registered_before(store, "one", story.job) is None
    first = enter(store, story, "one")
    assert registered_before(store, "one", story.job) == first
    assert enter(store, story, "one", "challenger") == first
    assert len(store.client.search_model_versions("name = 'sentiment'")) == 1


def test_alias_that_was_not_set_before_a_kill_is_set_on_resume(store: Store, story: Any) -> None:
    enter(store, story, "one")
    second = enter(store, story, "two")
    store.client.set_registered_model_alias("sentiment", "champion", "1")  # as if killed just before
    store.client.delete_model_version_tag("sentiment", "2", "moved")
    assert registered_before(store, "two", story.job) == second
    assert aliases(store)["champion"] == 2


def test_resumed_sweep_does_not_take_the_place_of_a_later_champion(store: Store, story: Any) -> None:
    enter(store, story, "one")
    enter(store, story, "two")
    registered_before(store, "one", story.job)
    assert aliases(store) == {"champion": 2, "previous": 1}


def test_past_is_what_was_rejected_since_the_champion_and_what_was_rolled_back(store: Store, story: Any) -> None:
    verdicts: list[Alias] = ["champion", "challenger", "champion", "champion", "challenger"]
    for number, alias in enumerate(verdicts, start=1):
        said = verdict(alias, f"reason {number}", Ledger(trained=(), added=(str(number),)), news=f"news {number}")
        enter(store, story, str(number), said=said)
    assert [(one.version, one.alias) for one in past_of(store, "sentiment", champion=4)] == [(5, "challenger")]
    rollback(store, "sentiment", "it answers badly")
    past = sorted(past_of(store, "sentiment", champion=3), key=lambda one: one.version)
    assert [(one.version, one.alias, one.quarantined, one.news, one.replaces, one.reason) for one in past] == [
        (4, "rolled back", True, "news 4", 3, "reason 4"),
        (5, "challenger", False, "news 5", 4, "reason 5"),
    ]
    assert [read_ledger(one.ledger, TASK).added for one in past] == [("4",), ("5",)]


def test_champion_of_a_name_that_is_not_there_or_has_none(store: Store, story: Any) -> None:
    assert champion_of(store, "sentiment") is None
    enter(store, story, "one", "challenger")
    assert champion_of(store, "sentiment") is None
    enter(store, story, "two")
    found = champion_of(store, "sentiment")
    assert found is not None
    assert (found.version, found.files.bundle, found.test) == (2, fetch(store, "sentiment"), 0.7)


@pytest.mark.parametrize("name", ["sentiment", "sentiment/films", "sentiment.films"])
def test_registered_name_is_found_by_task_and_by_job(name: str, store: Store, story: Any) -> None:
    with pytest.raises(ConfigError, match="make sweep TASKS="):
        registered_as(store, name)
    enter(store, story, "one", "challenger")
    assert registered_as(store, name) == "sentiment"


def test_other_jobs_of_other_names_are_untouched(store: Store, story: Any, job: Job) -> None:
    enter(store, story, "one")
    other = dataclasses.replace(job, name="sentiment/shops", registered_name="sentiment.shops")
    assert enter(store, story, "one", job=other).name == "sentiment.shops"
    assert [(version.name, version.version) for version in champions(store)] == [
        ("sentiment", 1),
        ("sentiment.shops", 1),
    ]


def test_version_is_tagged_with_what_it_stands_for(store: Store, story: Any) -> None:
    enter(store, story, "one", said=verdict("champion", "better", news="those of May"))
    tags = store.client.get_model_version("sentiment", "1").tags
    expected = {
        "sweep_id": "one",
        "checkpoint_sha256": "c0ffee",
        "method": "pfeiffer",
        "validation": "0.75",
        "test": "0.7",
        "data_fingerprint": "train-print-validation-print-test-print",
        "verdict": "champion",
        "reason": "better",
        "replaces": "",
        "news": "those of May",
    }
    assert {key: tags[key] for key in expected} == expected


def test_status_lists_champion_then_challenger(store: Store, story: Any) -> None:
    enter(store, story, "one")
    enter(store, story, "two", "challenger")
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
    enrol(store, "one", story.tested(), verdict("champion"), run_id=run.id)
    assert store.client.get_model_version("sentiment", "1").run_id == run.id
    assert len(store.client.get_run(run.id).outputs.model_outputs) == 1


def test_model_states_its_requirements_and_holds_no_code_and_no_pickle(store: Store, story: Any) -> None:
    enter(store, story, "one")
    model = fetch(store, "sentiment").parent.parent.parent
    files = {file.relative_to(model).as_posix() for file in model.rglob("*") if file.is_file()}
    assert {
        "data/data/bundle/bundle.json",
        "data/data/bundle/weights.safetensors",
        "data/data/ledger/ledger.json",
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


def test_a_version_is_chosen_by_its_alias_or_its_number(store: Store, story: Any) -> None:
    enter(store, story, "one")
    first = choose(store, "sentiment/films")
    assert (first.name, first.version, first.alias) == ("sentiment", 1, "champion")
    assert choose(store, "sentiment", version=1) == first
    assert first.files.ledger == fetch(store, "sentiment").parent / "ledger"
    with pytest.raises(ConfigError, match=r"VERSION: '2' is no version of sentiment\. Use one of: 1"):
        choose(store, "sentiment", version=2)
    with pytest.raises(ConfigError, match=r"TASK: 'sentiment' has no challenger yet\. It has: champion"):
        choose(store, "sentiment", "challenger")


def test_bundle_that_was_deleted_is_named(store: Store, story: Any) -> None:
    enter(store, story, "one")
    folder = fetch(store, "sentiment")
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(TrackingError, match=r"sentiment version 1: there is no bundle at .*bundle"):
        fetch(store, "sentiment")


def test_a_name_that_another_task_has_is_refused_before_anything_is_trained(store: Store, story: Any) -> None:
    enter(store, story, "one")
    check_owners(store, {"sentiment": "sentiment", "ner": "ner"})
    with pytest.raises(ConfigError, match="would be registered as sentiment, which is the task sentiment's"):
        check_owners(store, {"sentiment": "sent", "ner": "ner"})


def test_a_dry_run_finds_the_champion_and_completes_nothing(store: Store, story: Story) -> None:
    enrol(store, "one", story.tested(), verdict("champion"))
    enrol(store, "two", story.tested(), verdict("challenger"))
    store.client.set_model_version_tag("sentiment", "2", "verdict", "champion")  # a promotion that was cut off
    dry = champion_of(store, "sentiment", settle=False)
    assert dry is not None and dry.version == 1
    assert int(store.client.get_registered_model("sentiment").aliases["champion"]) == 1
    settled = champion_of(store, "sentiment")
    assert settled is not None and settled.version == 2
