"""The service as whoever has started it sees it: begun on the Ray that is connected, looked at, and ended."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, final

import ray
from ray import serve

from pipeline.config.serve import ServeConfig
from pipeline.errors import ConfigError, PipelineError, fault
from pipeline.serving.deployments import APP, KEEPER, application_of
from pipeline.serving.state import Reader, Table
from pipeline.serving.table import LOADING

_LOOK_S = 0.2
_LISTENS_S = 30.0


@final
class Running:
    """A service on the Ray that is connected; a context, at whose end it is gone."""

    def __init__(
        self,
        reader: Reader,
        config: ServeConfig,
        *,
        token_digest: str = "",
        reserves: bool = True,
        node: str = "",
        tell: Callable[[str], None] = lambda what: None,
    ) -> None:
        """Say what is to run; arguments are those of `application_of`, and `tell` is told what is being started."""
        self._config, self._tell = config, tell
        self._arguments: dict[str, Any] = {"token_digest": token_digest, "reserves": reserves, "node": node}
        self._reader = reader

    def __enter__(self) -> "Running":
        """Begin.

        Raises:
            ConfigError: There is such a service on this Ray already.
            PipelineError: Ray Serve does not start it.
        """
        limits, port = self._config.serve, self._config.port
        if APP in _applications():
            remedy = "Ask that one, or stop it first"
            raise ConfigError(fault("cluster.address", self._config.cluster.address, "serves already", remedy))
        self._tell(f"Ray Serve, which is to listen at {limits.host}:{port}")
        http = {"host": limits.host, "port": port, "keep_alive_timeout_s": 75}
        # Each node that has one of the processes listens: this one has the keeper.
        serve.start(proxy_location="EveryNode", http_options=http, logging_config={"enable_access_log": False})
        self._tell("the keeper, which reads the registry, and what takes requests")
        try:
            application = application_of(self._reader, self._config.tasks, limits, **self._arguments)
            serve.run(application, name=APP, route_prefix="/")
            self._require_listening()
        except BaseException as error:
            _end()
            if isinstance(error, RuntimeError | ray.exceptions.RayError):
                raise PipelineError(f"The service did not start: {' '.join(str(error).split())[:300]}") from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let what is under way be answered, and end."""
        with contextlib.suppress(ray.exceptions.RayError, TimeoutError):  # whoever is silent is ended all the same
            self._keeper().drain.remote().result(timeout_s=self._config.serve.drain_s + 5)
        _end()

    def _require_listening(self) -> None:
        """Refuse a Ray Serve that was there already and listens elsewhere: it cannot be told another address."""
        host = "127.0.0.1" if self._config.serve.host == "0.0.0.0" else self._config.serve.host
        until = time.monotonic() + _LISTENS_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection((host, self._config.port), timeout=1):
                return
            time.sleep(_LOOK_S)
        remedy = "Give the PORT that it listens at, or end it with `serve shutdown`"
        raise ConfigError(fault("PORT", self._config.port, "is not where Ray Serve listens on this Ray", remedy))

    def table(self, ended: threading.Event) -> Table:
        """Wait until every task is served, or has a reason why not; or until it is to end."""
        told = ""
        while not ended.wait(_LOOK_S):
            table: Table = self._keeper().table.remote().result()
            versions = [one for standing in table.tasks.values() for one in standing.versions]
            num_loading = sum(one.reason == LOADING for one in versions)
            what = f"checkpoints and adapters: {len(versions) - num_loading} of {len(versions)}"
            if versions and what != told:
                self._tell(what)
                told = what
            if versions and not num_loading:
                ended.wait(self._config.serve.poll_s)  # in which each ingress has asked for it
                return table
            if failed := _failed():
                raise PipelineError(f"A process did not start: {failed}")
        return Table()

    def _keeper(self) -> Any:
        return serve.get_deployment_handle(KEEPER, app_name=APP)


def _applications() -> Mapping[str, Any]:
    found: Mapping[str, Any] = serve.status().applications
    return found


def _failed() -> str:
    """Why an application could not be deployed, if one could not."""
    for one in _applications().values():
        if one.status == "DEPLOY_FAILED":
            return " ".join(str(one.message).split())[-300:]
    return ""


def _end() -> None:
    """End the processes; those of others on the same Ray stay."""
    own = [name for name in _applications() if name == APP or name.startswith("bank-")]
    for name in own:
        serve.delete(name)
    if not _applications():
        serve.shutdown()
