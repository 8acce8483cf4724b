"""What is registered, looked up: the versions with an alias, and the files of one. MLflow is loaded where it is needed.

Whatever the store refuses is raised as a TrackingError; so is that files are not where the registry says.
"""

import atexit
import contextlib
import functools
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline.config.strict import nearest
from pipeline.errors import ConfigError, TrackingError, fault
from pipeline.pyfunc import BUNDLE, LEDGER
from pipeline.rules.versions import Chosen, Files, Version
from pipeline.tracking.store import Store, every, store_errors

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel


def champions(store: Store) -> list[Version]:
    """List the versions that are champion or challenger, by name; champions first."""
    found = []
    with store_errors(store.uri):
        for model in every(store.client.search_registered_models, order_by=["name"]):
            for alias in ("champion", "challenger"):
                if alias in model.aliases:
                    version = store.client.get_model_version(model.name, model.aliases[alias])
                    if "sweep_id" in version.tags:  # else somebody else's model
                        found.append(_describe(version, alias))
    return found


def fetch(store: Store, name: str, alias: str = "champion") -> Path:
    """Locate the bundle of a registered version; from a server it is downloaded, for as long as this process lives.

    What it has seen lies beside it, in `ledger`. Arguments and errors are those of `choose`.
    """
    return choose(store, name, alias).files.bundle


def choose(store: Store, name: str, alias: str = "champion", version: int | None = None) -> Chosen:
    """Find a registered version by its alias, or by its number where one is given.

    Args:
        store: The tracking store.
        name: Registered name (`sentiment`, `sentiment.movies`) or job (`sentiment/films`).
        alias: Which version.
        version: Its number.

    Raises:
        ConfigError: There is no such name, or it has no such alias or version.
    """
    with store_errors(store.uri):
        models = list(every(store.client.search_registered_models))
        if version is not None:
            model = _named(name, models)
            numbers = {int(one.version) for one in every(store.client.search_model_versions, f"name = '{model.name}'")}
            if version not in numbers:
                there = ", ".join(map(str, sorted(numbers)))
                raise ConfigError(fault("VERSION", version, f"is no version of {model.name}", f"Use one of: {there}"))
            number = str(version)
        else:
            model = _named(name, models, alias)
            number = str(model.aliases[alias])
        folder = bundle_folder(store, store.client.get_model_version(model.name, number))
    files = Files(bundle=folder, ledger=folder.parent / LEDGER)
    called = next((one for one, its in model.aliases.items() if str(its) == number), "")
    return Chosen(name=model.name, version=int(number), alias=called, files=files)


def registered_as(store: Store, name: str) -> str:
    """Find the registered name of a task or job that a user names; a ConfigError where there is none."""
    with store_errors(store.uri):
        models = list(every(store.client.search_registered_models))
    return str(_named(name, models).name)


def bundle_folder(store: Store, version: "ModelVersion") -> Path:
    """Where the bundle of a version lies on this machine; a TrackingError where there is none."""
    source = str(version.source)
    if not store.is_local:
        from mlflow.artifacts import download_artifacts

        Path(_downloads()).mkdir(exist_ok=True)
        own = tempfile.mkdtemp(prefix="version-", dir=_downloads())
        source = download_artifacts(artifact_uri=source, tracking_uri=store.uri, dst_path=own)
    model = Path(source)
    try:
        described = yaml.safe_load((model / "MLmodel").read_text("utf-8"))
        folder = model / str(described["flavors"]["python_function"]["data"]) / BUNDLE
    except (yaml.YAMLError, ValueError, LookupError, TypeError) as error:
        raise TrackingError(f"{version.name} version {version.version}: {model / 'MLmodel'} is damaged") from error
    if not folder.is_dir():
        raise TrackingError(f"{version.name} version {version.version}: there is no bundle at {folder}")
    return folder


def _named(name: str, models: "Sequence[RegisteredModel]", alias: str = "") -> "RegisteredModel":
    """The model that a user names; if an `alias` is given, one that has it."""
    wanted, remedy = name.replace("/", "."), f"Run `make sweep TASKS={name.replace('.', '/')}` first"
    usable = [model for model in models if not alias or alias in model.aliases]
    for model in models:
        # The default domain's job has the task's bare name.
        if wanted in (model.name, f"{model.tags.get('task')}.{model.tags.get('domain')}"):
            if model in usable:
                return model
            if model.aliases:
                raise ConfigError(fault("TASK", name, f"has no {alias} yet", f"It has: {', '.join(model.aliases)}"))
    if usable:
        remedy += f". {nearest(wanted, [model.name for model in usable])}"
    raise ConfigError(fault("TASK", name, f"has no {alias or 'champion'} yet", remedy))


@functools.cache
def _downloads() -> str:
    """Folder of what this process downloads, gone when it ends: MLflow would leave one for each call."""
    folder = tempfile.mkdtemp(prefix="registered-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def release(folder: Path) -> None:
    """Remove a bundle that is needed no more, if it was downloaded by this process; a store's own stays."""
    if not _downloads.cache_info().currsize:
        return
    root = Path(_downloads())
    for own in folder.parents:
        if own.parent == root:
            shutil.rmtree(own, ignore_errors=True)
    with contextlib.suppress(OSError):  # others are there
        root.rmdir()


def _describe(version: "ModelVersion", alias: str) -> Version:
    tags: Mapping[str, Any] = version.tags
    return Version(
        name=version.name,
        version=int(version.version),
        alias=alias,
        metric=tags["metric"],
        validation=float(tags["validation"]),
        test=float(tags["test"]),
        low=float(tags["test_low"]),
        high=float(tags["test_high"]),
        baseline=float(tags["baseline"]),
        checkpoint=tags["checkpoint"],
        method=tags["method"],
        source=tags["source"],
        created=datetime.fromtimestamp(version.creation_timestamp / 1000, tz=UTC),
    )
