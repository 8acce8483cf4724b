"""A client of the ingress' application in this process, and what stands behind it in tests."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from pipeline.config.serve import ServingConfig
from pipeline.serving.front import Front
from pipeline.serving.http import application
from pipeline.serving.limits import digest_of
from pipeline.serving.state import Entry, Reply, Serving, Standing, Table

Send = Callable[[str, Sequence[Entry], float], Awaitable[Sequence[Reply]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def standing(name: str, kind: str = "classification", fields: tuple[str, ...] = ("text",), **reasons: str) -> Standing:
    """A task with champion 3, previous 2 and challenger 4 on one checkpoint; `reasons`: alias -> why it does not."""
    versions = tuple(
        Serving(
            alias=alias, version=version, checkpoint="tiny", home="home", num_bytes=5, reason=reasons.get(alias, "")
        )
        for alias, version in (("champion", 3), ("challenger", 4), ("previous", 2))
    )
    ranks = kind != "tagging"
    return Standing(name=name, kind=kind, ranks=ranks, labels=("bad", "good"), fields=fields, versions=versions)


TABLE = Table(
    tasks={
        one.name: one
        for one in (
            standing("sentiment"),
            standing("sentiment.movies"),
            standing("ner", "tagging", ("tokens",)),
            standing("whole", champion="method: is a whole copy of its checkpoint."),
            standing("slow", champion="is being loaded"),
        )
    }
)
ANSWER = [{"label": "good", "score": 0.75}, {"label": "bad", "score": 0.25}]


async def answers(home: str, entries: Sequence[Entry], timeout_s: float) -> Sequence[Reply]:
    """Good for every input of every entry; entities of tagging are none."""
    return [
        Reply(version=one.version, answers=[[] if one.name == "ner" else ANSWER for _ in one.items]) for one in entries
    ]


def front_of(send: Send = answers, table: Table = TABLE, refreshed: Table | None = None, **limits: Any) -> Front:
    """A front that knows a table; `refreshed` is what it is told when it asks again."""

    async def refresh() -> Table:
        return refreshed or table

    front = Front(ServingConfig(**limits), send, refresh)
    front.take(table)
    return front


def app_of(front: Front, token: str = "", registry: str = "") -> FastAPI:
    """The application around a front."""

    async def refresh() -> str:
        return registry

    async def metrics() -> str:
        return "adapter_request_count_total 1.0\n"

    return application(front, refresh, metrics, token_digest=digest_of(token))


async def asked(
    app: FastAPI, verb: str, path: str, body: bytes | Any = b"", headers: dict[str, str] | None = None, chunk: int = 0
) -> Response:
    """Ask the application. A body that is no bytes is sent as JSON; `chunk`: in pieces, without a length."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    pieces = [content[i : i + chunk] for i in range(0, len(content), chunk)] if chunk else [content]
    messages = [
        {"type": "http.request", "body": piece, "more_body": number + 1 < len(pieces)}
        for number, piece in enumerate(pieces)
    ]
    waiting, sent = iter(messages), list[Any]()

    async def receive() -> Any:
        for message in waiting:
            return message
        await asyncio.Event().wait()  # the client stays

    async def send(message: Any) -> None:
        sent.append(message)

    length = {} if chunk else {"content-length": str(len(content))}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": verb,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in {**length, **(headers or {})}.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    try:
        await app(scope, receive, send)
    except Exception:  # Starlette raises an error of ours again, behind its answer
        assert sent, "an error that nobody was told of"
    start = sent[0]
    told = {name.decode(): value.decode() for name, value in start["headers"]}
    return Response(status=start["status"], headers=told, body=b"".join(one.get("body", b"") for one in sent[1:]))


def ask(app: FastAPI, verb: str, path: str, body: bytes | Any = b"", **more: Any) -> Response:
    """As `asked`, from outside of an event loop."""
    return asyncio.run(asked(app, verb, path, body, **more))
