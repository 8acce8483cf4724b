import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError, TrackingError
from pipeline.tracking.lookup import champions, choose
from pipeline.tracking.sqlite import SqliteRegistry
from pipeline.tracking.store import Store, open_registry
from tests.unit.tracking.conftest import Story, enrol, verdict


@pytest.fixture
def filled(store: Store, story: Story) -> Store:
    """Three versions, of which one was deleted, and what others keep in the same store."""
    for sweep, alias in (("one", "champion"), ("two", "champion"), ("three", "challenger")):
        enrol(store, sweep, story.tested(), verdict(alias))  # type: ignore[arg-type]
    store.client.delete_model_version("sentiment", "1")
    store.client.create_registered_model("theirs", tags={"owner": "somebody"})
    store.client.create_model_version("theirs", source="elsewhere", run_id=None)
    store.client.set_registered_model_alias("theirs", "champion", "1")
    store.client.register_prompt("a-prompt", "say {{this}}")
    return store


def change(tracking: TrackingConfig, statement: str) -> None:
    with closing(sqlite3.connect(tracking.uri.removeprefix("sqlite:///"))) as database, database:
        database.execute(statement)


def test_the_tables_say_what_mlflow_says_who_is_asked_where_they_have_another_form(
    filled: Store, tracking: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = open_registry(tracking)
    assert isinstance(read.client, SqliteRegistry)
    assert (read.uri, read.experiment_id) == (filled.uri, filled.experiment_id)
    ours, theirs = (
        [
            (model.name, dict(model.tags), {alias: int(number) for alias, number in model.aliases.items()})
            for model in one.client.search_registered_models()
        ]
        for one in (read, filled)
    )
    assert ours == theirs
    assert [name for name, _, _ in ours] == ["sentiment", "theirs"]
    assert champions(read) == champions(filled)
    for alias, number in (("champion", None), ("challenger", None), ("previous", 2), ("champion", 3)):
        assert choose(read, "sentiment/films", alias, number) == choose(filled, "sentiment/films", alias, number)
    monkeypatch.setattr("pipeline.tracking.sqlite._FORMS", ("of another version",))
    asked = open_registry(tracking)
    assert not isinstance(asked.client, SqliteRegistry)
    assert choose(asked, "sentiment") == choose(read, "sentiment")


def test_what_is_not_there_is_told_alike(filled: Store, tracking: TrackingConfig) -> None:
    read = open_registry(tracking)
    for asked in (("sentimen", "champion", None), ("sentiment", "previous", 1), ("theirs", "challenger", None)):
        said = []
        for one in (read, filled):
            with pytest.raises(ConfigError) as error:
                choose(one, *asked)
            said.append(str(error.value))
        assert said[0] == said[1]
    change(tracking, "UPDATE registered_model_aliases SET version = 9 WHERE alias = 'champion'")
    with pytest.raises(TrackingError, match="sentiment version 9 is not registered any more"):
        choose(open_registry(tracking), "sentiment")


@pytest.mark.parametrize("statement", ["DROP TABLE registered_model_tags", "DROP TABLE alembic_version"])
def test_tables_that_cannot_be_read_are_left_to_mlflow(
    tracking: TrackingConfig, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    change(tracking, statement)
    asked: list[TrackingConfig] = []
    monkeypatch.setattr("pipeline.tracking.store.open_store", lambda config, create: asked.append(config))
    open_registry(tracking)
    assert asked == [tracking]


def test_an_experiment_that_is_not_there_is_told_by_what_makes_them(store: Store, tracking: TrackingConfig) -> None:
    with pytest.raises(ConfigError, match="holds nothing yet"):
        open_registry(replace(tracking, experiment="another"))
