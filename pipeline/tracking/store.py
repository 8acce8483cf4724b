"""The tracking store: opened, and created where it is a file that is not there yet.

MLflow takes seconds to load. So it is imported where it is needed: a wrong address, a file that is not there and a
registered version of a SQLite store are told without it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError, PipelineError, TrackingError, fault
from pipeline.files import make_folder
from pipeline.tracking.sqlite import read_registry

if TYPE_CHECKING:
    from mlflow import MlflowClient

_REACH_TIMEOUT_S = 5
_SQLITE = "sqlite:///"


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """A tracking store that answers, and the experiment in it."""

    client: "MlflowClient"
    """Of a store that `open_registry` has opened it can only look up versions."""
    uri: str
    """Absolute: another process in another folder can use it as it is."""
    experiment_id: str
    config: TrackingConfig

    @property
    def is_local(self) -> bool:
        """Whether the artifacts are files of this machine."""
        return self.uri.startswith(_SQLITE)


def open_store(config: TrackingConfig, *, create: bool = True) -> Store:
    """Open the store; make the SQLite file, its tables (which takes seconds) and the experiment if need be.

    Args:
        config: Where it is.
        create: False for commands that only read: they leave no file behind and fail where nothing is.

    Raises:
        ConfigError: The address is of no known kind, or nothing was recorded there and `create` is off.
        TrackingError: The server or the file cannot be used.
    """
    uri = require_store(config, create=create)
    from mlflow import MlflowClient

    with store_errors(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        return Store(client=client, uri=uri, experiment_id=_experiment(client, config, create), config=config)


def open_registry(config: TrackingConfig) -> Store:
    """Open the store for what only looks up registered versions (`pipeline.tracking.lookup`).

    It raises what `open_store` does.
    """
    uri = require_store(config, create=False)
    file = Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None
    if file is None or (read := read_registry(file, config.experiment)) is None:
        return open_store(config, create=False)
    registry, experiment_id = read
    return Store(client=registry, uri=uri, experiment_id=experiment_id, config=config)


def require_store(config: TrackingConfig, *, create: bool = True) -> str:
    """Make sure that a server answers, or that the file may be written; open nothing yet. Return its absolute address.

    It raises what `open_store` does.
    """
    faults = list(config.faults("tracking"))
    if faults:
        raise ConfigError(faults)
    if config.uri.startswith(_SQLITE):
        return _prepare_file(config, create)
    uri = config.uri.rstrip("/")
    _reach(uri)
    return uri


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow raises, or its HTTP client and the file system, into a `TrackingError` that names the store."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        from mlflow.exceptions import MlflowException

        if not isinstance(error, (MlflowException, OSError)):
            raise
        first_line = str(error).strip().partition("\n")[0][:300]
        raise TrackingError(f"The tracking store {uri} refused: {first_line}") from error


def local_path(uri: str) -> Path | None:
    """Where artifacts are on this machine; None where they go through a server or to an object store."""
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    return Path(local_file_uri_to_path(uri)) if is_local_uri(uri) else None


def every(search: Callable[..., Any], *args: Any, **options: Any) -> Iterator[Any]:
    """Yield all that one of the client's searches finds, page by page."""
    token = None
    while True:
        page = search(*args, page_token=token, **options)
        yield from page
        token = page.token
        if not token:
            return


def _prepare_file(config: TrackingConfig, create: bool) -> str:
    file = Path(config.uri.removeprefix(_SQLITE)).expanduser().absolute()
    if not file.is_file():
        if not create:
            raise _nothing_recorded("tracking.uri", config.uri)
        make_folder(file.parent)
    elif file.stat().st_size:
        # Asked here, since MLflow would try to connect for most of a minute.
        with file.open("rb") as stream:
            if stream.read(16) != b"SQLite format 3\0":
                raise TrackingError(f"{file} is no SQLite file. Set tracking.uri to another one.")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise TrackingError(f"{file} cannot be written. Change its permissions, or set tracking.uri to another file.")
    return f"{_SQLITE}{file}"


def _reach(uri: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    other = "or use tracking.uri=sqlite:///mlflow.db on one machine."
    remedy = f"Start it with `mlflow server --host 0.0.0.0`, correct tracking.uri, {other}"
    asked = {"max_retries": 0, "timeout": _REACH_TIMEOUT_S, "raise_on_status": False}
    try:
        response = http_request(get_default_host_creds(uri), "/health", "GET", **asked)
    except MlflowException as error:
        raise TrackingError(f"The tracking server {uri} cannot be reached. {remedy}") from error
    if response.status_code == 403:
        raise TrackingError(
            f"The tracking server {uri} refused access (403: {response.text[:100].strip()}). "
            "Start it with --allowed-hosts for this name, or check MLFLOW_TRACKING_USERNAME and _PASSWORD."
        )
    if response.status_code != 200:
        raise TrackingError(f"{uri} answers {response.status_code} and seems to be no MLflow server. {remedy}")


def _experiment(client: "MlflowClient", config: TrackingConfig, create: bool) -> str:
    from mlflow.entities import LifecycleStage

    found = client.get_experiment_by_name(config.experiment)
    if found is None:
        if not create:
            raise _nothing_recorded("tracking.experiment", config.experiment)
        return _create_experiment(client, config)
    if found.lifecycle_stage != LifecycleStage.ACTIVE:
        raise TrackingError(
            f"The experiment {config.experiment!r} was deleted. Restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}`, or set another tracking.experiment."
        )
    return str(found.experiment_id)


def _create_experiment(client: "MlflowClient", config: TrackingConfig) -> str:
    from mlflow.exceptions import MlflowException

    local = config.uri.startswith(_SQLITE)
    location = str(Path(config.artifacts).expanduser().absolute()) if local else None
    if location is not None:
        make_folder(Path(location))  # the disk has its name before anything is recorded that is kept in it
    try:
        return str(client.create_experiment(config.experiment, artifact_location=location))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        found = client.get_experiment_by_name(config.experiment)  # another sweep was faster
        assert found is not None
        return str(found.experiment_id)


def _nothing_recorded(where: str, value: str) -> ConfigError:
    remedy = "Run `make sweep TASKS=sentiment` first, or point it to where the sweeps were recorded"
    return ConfigError(fault(where, value, "holds nothing yet", remedy))
