"""A command on the head node of a cluster, by Ray's Jobs API: shipped, submitted, followed, stopped."""

import asyncio
import hashlib
import logging
import os
import shlex
import shutil
import ssl
import stat
import time
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import ray
from ray.job_submission import JobSubmissionClient

from pipeline.config.typed import quoted
from pipeline.errors import ConfigError, Fault, PipelineError, fault

CODE = ("pipeline", "conf", "jobs", "Makefile", "pyproject.toml", "constraints.txt", "README.md")
"""What is shipped of the checkout: all that a command reads."""
# Ray 2.60's store of packages takes 512 MiB, but its dashboard refuses a request's body above 100 MiB on its way there.
LIMIT_BYTES = 100 * 2**20
_LEFT_OUT = ("__pycache__",)  # and what is hidden
_ANSWER_S = 5.0
_LOST_S = 120.0  # how long a head that does not answer is waited for
_IDLE_S = 10.0  # a silence of the log after which the head is asked how things are
_SETUP_S = 3600  # torch for GPUs is 3 GB and more
_STOP_S = 60  # for the snapshots and the last records; Ray's own default is 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a job ended."""

    status: str
    """Ray's: SUCCEEDED, FAILED or STOPPED."""
    driver_code: int | None
    """Exit code of the command; None if it never ran or was stopped."""
    message: str

    @property
    def exit_code(self) -> int:
        """The exit code as a shell would have it.

        Raises:
            PipelineError: The command did not run.
        """
        if self.status == "STOPPED":
            return 130
        if self.driver_code is None:
            raise PipelineError(f"The cluster could not run the command. It says:\n{self.message[-6000:].strip()}")
        return self.driver_code if self.driver_code >= 0 else 128 - self.driver_code


def contents(root: Path, files: Mapping[str, Path]) -> dict[str, Path]:
    """Map the names in the shipped folder to files: the code of the checkout `root`, and those of the user's.

    Raises:
        ConfigError: The checkout has a link to a file elsewhere.
    """
    found = dict(files)
    for name in CODE:
        path = root / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            inside = file.relative_to(root)
            if file.is_file() and not any(part.startswith(".") or part in _LEFT_OUT for part in inside.parts):
                if not file.resolve().is_relative_to(root.resolve()):
                    rule, remedy = "is a link that leaves the checkout, and would be shipped", "Take it away"
                    raise ConfigError(fault(file, "", rule, remedy))
                found[str(inside)] = file
    return dict(sorted(found.items()))


def pack(target: Path, root: Path, files: Mapping[str, Path], folders: Mapping[str, Path]) -> int:
    """Zip what is shipped into the file `target`; return its size.

    Args:
        target: Must not be there yet.
        root: The checkout.
        files: Name in the shipped folder -> file of the user's.
        folders: Beginning of such names -> where these files come from, for messages.

    Ray would leave out of a folder what any `.gitignore` or `.rayignore` in it names, data too; of a zip it takes all.
    The same contents give the same bytes, which are uploaded once.

    Raises:
        ConfigError: It is more than a cluster takes.
    """
    files = contents(root, files)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            info = zipfile.ZipInfo(name)  # of 1980
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            with path.open("rb") as source, archive.open(info, "w", force_zip64=True) as sink:
                shutil.copyfileobj(source, sink, 2**20)
            if target.stat().st_size > LIMIT_BYTES:  # at once: a folder of many GB would fill the disk
                raise ConfigError(_too_large(files, folders))
    size = target.stat().st_size
    if size > LIMIT_BYTES:
        raise ConfigError(_too_large(files, folders))
    return size


def _too_large(files: Mapping[str, Path], folders: Mapping[str, Path]) -> Fault:
    sizes = {str(folder): _bytes(files, f"{name}/") for name, folder in folders.items()}
    sizes["the code"] = _bytes(files, "") - sum(sizes.values())
    parts = ", ".join(f"{name} {size / 2**20:,.0f} MiB" for name, size in sizes.items())
    rule = f"is more than the {LIMIT_BYTES / 2**20:.0f} MiB, zipped, that Ray's dashboard takes ({parts})"
    remedy = "Use DATA=hub and a CHECKPOINT of the hub, or put the folders where the head node has them at the same "
    remedy += "path and say ARGS=submit.ship=false"
    return fault("what is shipped", "", rule, remedy)


def _bytes(files: Mapping[str, Path], prefix: str) -> int:
    return sum(path.stat().st_size for name, path in files.items() if name.startswith(prefix))


def entrypoint(command: str, arguments: Sequence[str], *, runs: str | None = None) -> str:
    """Write the line that the head's shell runs: the arguments reach the command as they are.

    Args:
        runs: Folder on the head for the sweep's own files; `~` is the home of the user that Ray runs as there.
    """
    words = shlex.join(["python", "-m", "jobs", command, *arguments])
    if runs is not None:
        home = runs.startswith("~/")
        begin, rest = '"', quoted(runs[1:] if home else runs)[1:]
        words += " " + shlex.quote(f"runs={begin}") + ('"$HOME"' if home else "") + shlex.quote(rest)
    return f"exec {words}"  # no shell stays between Ray's signals and the command


def environment(root: Path, package: Path, *, install: bool) -> dict[str, Any]:
    """Describe the job's environment to Ray, with the package that `pack` wrote.

    Args:
        install: Let the nodes install what `pyproject.toml` and `constraints.txt` in `root` say; else they have it.
    """
    # What the trials need is set by whoever joins the cluster (connection.py); twice would be a conflict to Ray.
    variables = {
        "RAY_JOB_STOP_SIGNAL": "SIGINT",  # to the command, as by Ctrl-C on the head itself
        "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_S),
    }
    described: dict[str, Any] = {"working_dir": str(package), "env_vars": variables}
    if install:
        pinned = (root / "constraints.txt").read_bytes()
        wanted = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
        # Ray knows an environment again by these lines alone, of which the last changes with the versions.
        lines = ["-c ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt"]
        lines += [f"# constraints {hashlib.sha256(pinned).hexdigest()[:16]}"]
        described["pip"] = {"packages": [*wanted, *lines], "pip_check": False}
        described["config"] = {"setup_timeout_seconds": _SETUP_S}
    return described


def pinned_ray(root: Path) -> str:
    """The version of Ray in `constraints.txt`."""
    lines = (root / "constraints.txt").read_text("utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith("ray=="))


class Head:
    """The head node of a cluster, by the address of its dashboard; runs one job."""

    def __init__(self, address: str, job: str, show: Callable[[str], None], note: Callable[[str], None]) -> None:
        """Connect.

        Args:
            address: `http://<head>:8265`.
            job: Id of the job that is to be.
            show: Takes pieces of its log.
            note: Takes what is to be said about it.

        Raises:
            ConfigError: Nobody answers there, it is no Ray, or it wants a token.
        """
        self.address = address.rstrip("/")
        self._job, self._show, self._note = job, show, note
        self._shown = 0  # characters of the log
        self._told = False
        logging.getLogger("ray").handlers.clear()  # Ray's own, to standard error
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address  # or Ray would prefer RAY_ADDRESS to what was asked for
        if (problem := self._silent()) is not None:
            remedy = "Give the address of the head node's dashboard, ADDRESS=http://<head>:8265, and see that this "
            remedy += "machine reaches it (`ray start --head --dashboard-host 0.0.0.0`, or a tunnel)"
            raise ConfigError(fault("ADDRESS", self.address, f"does not answer ({problem})", remedy))
        with self._authenticated():
            try:
                self._client = JobSubmissionClient(self.address)
            except (OSError, RuntimeError, ValueError, KeyError) as error:
                rule, remedy = f"is no dashboard of Ray ({_line(error)})", "Give ADDRESS=http://<head>:8265"
                raise ConfigError(fault("ADDRESS", self.address, rule, remedy)) from error

    def require_ray(self, version: str) -> None:
        """Refuse a head with another version of Ray than the environment would have.

        Raises:
            ConfigError: It has another one.
        """
        # The client asks for it, with the token, when it is made, and shows it by no public name.
        there = getattr(self._client, "_server_ray_version", None) or version
        if there != version:
            rule = f"runs Ray {there}, and constraints.txt has {version}: Ray lets no environment change its version"
            remedy = f"Start the cluster with Ray {version}, or with our image and ARGS=submit.environment=image"
            raise ConfigError(fault("ADDRESS", self.address, rule, remedy))

    def submit(self, line: str, described: Mapping[str, Any]) -> None:
        """Upload what is shipped and start the job.

        Raises:
            PipelineError: The head does not take it.
        """
        began = time.monotonic()
        while True:
            try:
                with self._authenticated():
                    self._client.submit_job(entrypoint=line, submission_id=self._job, runtime_env=dict(described))
                    return
            except (OSError, RuntimeError) as error:
                # Some seconds pass between a head that answers and one that takes jobs.
                if "No available agent" not in str(error) or time.monotonic() - began > _LOST_S:
                    raise PipelineError(f"{self.address} did not take the job ({_line(error)})") from error

    def follow(self) -> Ended:
        """Show the log until the job has ended; a lost connection is made again, and nothing shown twice.

        Raises:
            PipelineError: The head is gone, or knows no such job.
        """
        lost: float | None = None
        while True:
            try:
                with self._authenticated():
                    asyncio.run(self._read())
                    if (ended := self._ended()) is not None:
                        return ended
                lost = None
            except (OSError, RuntimeError) as error:
                if "status code 404" in str(error):
                    message = f"{self.address} knows no job {self._job}: was the cluster started anew?"
                    raise PipelineError(message) from error
                now = time.monotonic()
                if lost is None:
                    lost = now
                    self._note(f"Connection lost ({_line(error)}), trying again ...")
                if now - lost > _LOST_S:
                    message = f"{self.address} does not answer any more; job {self._job} may still run"
                    raise PipelineError(message) from error
            time.sleep(1)

    def stop(self) -> bool:
        """Ask the job to stop, as by Ctrl-C; False if there is none that runs."""
        try:
            return bool(self._client.stop_job(self._job))
        except (OSError, RuntimeError):
            return False

    async def _read(self) -> None:
        """Read the log, which Ray sends from its beginning at each connection, and show what is new of it.

        Raises:
            OSError, RuntimeError: The connection is lost.
        """
        position = 0
        async for text in self._pieces():
            position += len(text)
            if position > self._shown:
                self._show(text[self._shown - position :])
                self._shown = position

    async def _pieces(self) -> AsyncIterator[str]:
        pieces = self._client.tail_job_logs(self._job)
        following = None
        try:
            while True:
                following = asyncio.ensure_future(anext(pieces))
                while not (await asyncio.wait({following}, timeout=_IDLE_S))[0]:
                    self._look()
                try:
                    yield following.result()
                except StopAsyncIteration:
                    return
        finally:
            if following is not None:
                following.cancel()
                await asyncio.wait({following})
            await pieces.aclose()

    def _look(self) -> None:
        """See that the head is there, since one that has lost its power closes no connection; and what it waits for."""
        if (problem := self._silent()) is not None:
            raise TimeoutError(problem)
        if not self._told and str(self._client.get_job_info(self._job).status.value) == "PENDING":
            self._told = True
            self._note("The head node prepares the environment; the first time that takes minutes ...")

    def _ended(self) -> Ended | None:
        details = self._client.get_job_info(self._job)
        if not details.status.is_terminal():
            return None
        status, code = str(details.status.value), details.driver_exit_code
        return Ended(status=status, driver_code=code, message=details.message or "")

    def _silent(self) -> str | None:
        """Why nobody answers at the address; None if somebody does."""
        try:
            with urllib.request.urlopen(f"{self.address}/api/version", timeout=_ANSWER_S):
                return None
        except urllib.error.HTTPError:
            return None  # an answer: it wants a token, say
        except (OSError, ValueError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            return None if isinstance(reason, ssl.SSLError) else _line(reason)  # Ray has its own certificates

    @contextmanager
    def _authenticated(self) -> Iterator[None]:
        """Turn Ray's complaint about a token into one that says what to do."""
        try:
            yield
        except ray.exceptions.AuthenticationError as error:
            rule = "refuses the token" if str(error).startswith("Authentication failed") else "wants a token"
            remedy = "Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN=<the cluster's token> (or RAY_AUTH_TOKEN_PATH=<file>)"
            raise ConfigError(fault("ADDRESS", self.address, rule, remedy)) from error


def _line(error: object) -> str:
    """The first words of an error."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
