"""A service for tests: bundles of random heads, a registry of one file, clients, and what each must be answered."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from pipeline.config import EngineConfig, Kind, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Resident, load_checkpoint
from pipeline.core.bank.predictor import Predictor
from pipeline.core.data.rows import Row
from pipeline.core.engine.assemble import fresh_model, release
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.tasks.kinds import TASK_KINDS, restore
from tests import bundles
from tests.conftest import TinyBert
from tests.tiny import tiny_checkpoint

KINDS: Mapping[Kind, Sequence[str]] = {
    "classification": ["bad", "good"],
    "tagging": ["O", "B-LOC", "I-LOC"],
    "regression": [],
    "multi_label": ["art", "law", "war"],
}
"""Kind -> the labels of its tasks in the tests."""
TEXTS = ["a good film", "the food was awful", "anna went from oslo to rome", "dull"]
Expected = dict[tuple[str, int, str], Any]
"""Task, version, text -> its answer."""


@final
class FileRegistry:
    """Names and aliases in a file, `<name>-<version>` a folder beside it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def aliases(self) -> Mapping[str, Mapping[str, int]]:
        found: Mapping[str, Mapping[str, int]] = json.loads((self._root / "aliases.json").read_text("utf-8"))
        return found

    def bundle(self, name: str, version: int) -> Path:
        return self._root / f"{name}-{version}"

    def release(self, folder: Path) -> None:
        assert folder.parent == self._root

    def promote(self, name: str, version: int) -> None:
        """Make a version champion, and the champion the one before."""
        now = {one: dict(its) for one, its in self.aliases().items()}
        now[name] = {"previous": now[name]["champion"], "champion": version}
        self.tell(now)

    def tell(self, aliases: Mapping[str, Mapping[str, int]]) -> None:
        """Write all of it, whole or not at all."""
        draft = self._root / "aliases.draft"
        draft.write_text(json.dumps(aliases), "utf-8")
        draft.replace(self._root / "aliases.json")


def registry_of(root: Path, tiny_bert: TinyBert, num_tasks: int, versions: int = 2) -> tuple[FileRegistry, Expected]:
    """Make tasks of all kinds on a tiny checkpoint, the first with a further version on another one.

    Returns:
        The registry, whose champions are the first versions; and what each version answers to `TEXTS`.
    """
    model, tokenizer = tiny_bert()
    first = load_checkpoint(tiny_checkpoint(model, tokenizer, root / "tiny"))
    model.get_input_embeddings().weight.data *= 1.25
    other = load_checkpoint(tiny_checkpoint(model, tokenizer, root / "other"))
    expected: Expected = {}
    names = []
    for number in range(num_tasks):
        kind = list(KINDS)[number % len(KINDS)]
        name = f"{kind.replace('_', '-')}.{number}"
        names.append(name)
        for version in range(1, versions + 1):
            resident = other if number == 0 and version == versions else first
            _write(root / f"{name}-{version}", resident, name, kind, seed=100 * number + version)
            said = Predictor(resident).predict(read_bundle(root / f"{name}-{version}"), TEXTS)
            for text, answer in zip(TEXTS, said, strict=True):
                expected[name, version, text] = TASK_KINDS[kind].parts(Row({}, "", "", ""), answer)
    registry = FileRegistry(root)
    registry.tell({name: {"champion": 1} for name in names})
    return registry, expected


def _write(folder: Path, resident: Resident, name: str, kind: Any, seed: int) -> None:
    config, method = TaskConfig(name=name, kind=kind), MethodConfig(name="pfeiffer", width=4)
    task = restore(config, KINDS[kind])
    model = fresh_model(resident.base, resident.checkpoint, task, method, EngineConfig(), seed)
    labels = list(KINDS[kind])
    bundles.write(folder, model, checkpoint=resident.checkpoint, task=config, labels=labels, method=method, seed=seed)
    release(model, method)


@dataclass
class Outcome:
    """What clients were answered."""

    wrong: list[str] = field(default_factory=list)
    """Answers that are not those of the version that they name."""
    lost: list[str] = field(default_factory=list)
    """Requests without an answer, but for those that were refused with 429 or 503 and asked again."""
    seconds: list[float] = field(default_factory=list)
    """Of each request."""
    statuses: "Counter[int]" = field(default_factory=Counter)
    versions: dict[str, list[int]] = field(default_factory=dict)
    """Task -> the versions that have answered, in the order of the answers."""


@final
class Clients:
    """Threads that ask one request after another, each over a connection of its own."""

    def __init__(self, port: int, expected: Expected, count: int, total: int, token: str = "") -> None:
        self.outcome, self._port, self._expected, self._token = Outcome(), port, expected, token
        self._names = sorted({name for name, _, _ in expected})
        self._left, self._lock = total, threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(count)]

    @property
    def num_left(self) -> int:
        """Requests that nobody has begun yet."""
        return self._left

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def join(self, timeout_s: float) -> Outcome:
        """Wait for all of them."""
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0.0))
        assert not any(thread.is_alive() for thread in self._threads), f"{self._left} requests are left"
        return self.outcome

    def _ask(self, number: int) -> None:
        stream = random.Random(number)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        while True:
            with self._lock:
                if self._left <= 0:
                    return
                self._left -= 1
            name, texts = stream.choice(self._names), stream.sample(TEXTS, stream.choice((1, 1, 1, 3)))
            begin = time.monotonic()
            try:
                status, version, body = post(connection, name, texts, self._token)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                with self._lock:
                    self.outcome.lost.append(f"{name}: {type(error).__name__}: {error}")
                continue
            with self._lock:
                self._note(name, texts, status, version, body, time.monotonic() - begin)

    def _note(self, name: str, texts: Sequence[str], status: int, version: int, body: Any, seconds: float) -> None:
        self.outcome.statuses[status] += 1
        self.outcome.seconds.append(seconds)
        if status != 200:
            if status not in (429, 503):
                self.outcome.lost.append(f"{name}: {status}: {body}")
            return
        self.outcome.versions.setdefault(name, []).append(version)
        for text, found in zip(texts, body, strict=True):
            if not close(found, self._expected[name, version, text]):
                self.outcome.wrong.append(f"{name} v{version} {text!r}: {found}")


def post(
    connection: http.client.HTTPConnection, name: str, inputs: Sequence[Any], token: str = ""
) -> tuple[int, int, Any]:
    """Ask; return status, version and what is answered."""
    body = json.dumps({"inputs": list(inputs)})
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    connection.request("POST", f"/v1/tasks/{name}/predict", body, headers)
    response = connection.getresponse()
    content = response.read()
    return response.status, int(response.headers.get("X-Adapter-Version", 0)), json.loads(content)


def get(port: int, path: str, token: str = "") -> tuple[int, str]:
    """Fetch a page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def close(found: Any, expected: Any) -> bool:
    """Whether two answers are the same, but for the last digits of numbers."""
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    if isinstance(expected, dict):
        return bool(found.keys() == expected.keys()) and all(close(found[key], expected[key]) for key in expected)
    return abs(found - expected) < 1e-4 if isinstance(expected, float) else bool(found == expected)
