"""The registered versions of a SQLite store, read from its tables: MLflow takes longer to load than torch.

The tables are not part of MLflow's public interface. So they are read only where the file says that it has the form
that is known here; any other is left to MLflow, and a test compares what both say of a store. Nothing is written.
"""

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from pipeline.errors import TrackingError

_FORMS = ("dc11669786a5",)
"""Of MLflow 3.17, as the table `alembic_version` has it."""
_PATIENCE_S = 5.0  # for another process that is writing just now
_BY_NAME = re.compile(r"name = '(?P<name>.+)'")


@dataclass(kw_only=True, slots=True)
class Model:
    """A registered name, as MLflow's `RegisteredModel` says it."""

    name: str
    tags: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class ModelVersion:
    """A registered version, as MLflow's class of that name says it."""

    name: str
    version: int
    source: str
    creation_timestamp: int
    """Milliseconds since 1970."""
    tags: dict[str, str] = field(default_factory=dict)


class Page(tuple[Any, ...]):
    """All that a search finds."""

    token = None
    """Of the next page, which there never is."""


@final
class SqliteRegistry:
    """What was registered when it was read: the part of `MlflowClient` with which versions are looked up."""

    def __init__(self, models: Sequence[Model], versions: Sequence[ModelVersion]) -> None:
        self._models = sorted(models, key=lambda model: model.name)
        self._versions = {(version.name, version.version): version for version in versions}

    def search_registered_models(self, *, page_token: None = None, order_by: Sequence[str] = ()) -> Page:
        """All of them, by name."""
        return Page(self._models)

    def search_model_versions(self, filter_string: str, *, page_token: None = None) -> Page:
        """Those of a name, which is what `name = '<name>'` asks for."""
        asked = _BY_NAME.fullmatch(filter_string)
        assert asked is not None, filter_string
        return Page(one for (name, _), one in self._versions.items() if name == asked["name"])

    def get_model_version(self, name: str, version: str) -> ModelVersion:
        """One version.

        Raises:
            TrackingError: There is none: its files were deleted, and its alias was not.
        """
        if (name, int(version)) not in self._versions:
            raise TrackingError(f"{name} version {version} is not registered any more")
        return self._versions[name, int(version)]


def read_registry(file: Path, experiment: str) -> tuple[SqliteRegistry, str] | None:
    """Read what is registered, and the id of an experiment.

    Returns:
        None where MLflow has to be asked: the file has another form or cannot be read now, or there is no such
        experiment.
    """
    if os.environ.get("MLFLOW_ENABLE_WORKSPACES"):  # names of several owners in one store
        return None
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", timeout=_PATIENCE_S, uri=True)) as database:
            database.execute("BEGIN")  # all of it as it is at one moment
            return _read(database, experiment)
    except sqlite3.Error:
        return None


def _read(database: sqlite3.Connection, experiment: str) -> tuple[SqliteRegistry, str] | None:
    if [form for (form,) in database.execute("SELECT version_num FROM alembic_version")] not in [
        [one] for one in _FORMS
    ]:
        return None
    wanted = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
    if (found := database.execute(wanted, (experiment,)).fetchone()) is None:
        return None
    models = {name: Model(name=name) for (name,) in database.execute("SELECT name FROM registered_models")}
    for name, key, value in database.execute("SELECT name, key, value FROM registered_model_tags"):
        models[name].tags[key] = value
    for name, alias, number in database.execute("SELECT name, alias, version FROM registered_model_aliases"):
        models[name].aliases[alias] = str(number)
    versions = {(one.name, one.version): one for one in _versions(database)}
    for name, number, key, value in database.execute("SELECT name, version, key, value FROM model_version_tags"):
        if (name, number) in versions:
            versions[name, number].tags[key] = value
    prompts = {name for name, model in models.items() if _is_prompt(model.tags)}
    return (
        SqliteRegistry(
            [model for name, model in models.items() if name not in prompts],
            [version for version in versions.values() if version.name not in prompts],
        ),
        str(found[0]),
    )


def _versions(database: sqlite3.Connection) -> Iterator[ModelVersion]:
    columns = "name, version, source, creation_time"
    for name, number, source, created in database.execute(
        f"SELECT {columns} FROM model_versions WHERE current_stage != 'Deleted_Internal'"
    ):
        yield ModelVersion(name=name, version=number, source=source, creation_timestamp=created)


def _is_prompt(tags: Mapping[str, str]) -> bool:
    """Whether a name is of a prompt, which MLflow keeps among the models."""
    return tags.get("mlflow.prompt.is_prompt", "").lower() == "true"
