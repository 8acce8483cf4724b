"""What a request has to keep before anybody looks at what it says: the length of its body, and the token."""

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, final

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/healthz", "/readyz", "/docs", "/openapi.json")
"""What is answered without a token: nothing of it is anybody's."""


class BodyTooLarge(Exception):
    """The body of a request is longer than it may be."""


def digest_of(token: str) -> str:
    """What is kept of a token: whoever sees it cannot ask with it. Empty where there is none."""
    return hashlib.sha256(token.encode()).hexdigest() if token else ""


@final
class Gate:
    """ASGI middleware that refuses requests without the token, and ends the reading of a body that is too long."""

    def __init__(self, app: App, max_body_bytes: int, token_digest: str) -> None:
        self._app, self._most, self._digest = app, max_body_bytes, token_digest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = {name.lower(): value for name, value in scope["headers"]}
        if self._digest and scope["path"] not in OPEN and not self._is_known(headers.get(b"authorization", b"")):
            remedy = "Send the header Authorization: Bearer <token>, with the SERVE_TOKEN of the service."
            more = [(b"www-authenticate", b"Bearer")]
            return await _refuse(send, 401, "unauthorized", f"The token is missing or wrong. {remedy}", more)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._most:
            return await self._refuse_body(send)
        read, is_begun = 0, False

        async def counted() -> MutableMapping[str, Any]:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                raise BodyTooLarge
            return message

        async def begun(message: MutableMapping[str, Any]) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            await self._app(scope, counted, begun)
        except BodyTooLarge:
            if not is_begun:
                await self._refuse_body(send)

    async def _refuse_body(self, send: Send) -> None:
        told = f"The body is longer than {self._most} bytes. Send its inputs in several requests."
        await _refuse(send, 413, "too_large", told)

    def _is_known(self, header: bytes) -> bool:
        kind, _, token = header.partition(b" ")
        digest = hashlib.sha256(token.strip()).hexdigest()
        return kind.lower() == b"bearer" and hmac.compare_digest(digest, self._digest)


async def _refuse(
    send: Send, status: int, error_type: str, error: str, more: list[tuple[bytes, bytes]] | None = None
) -> None:
    body = json.dumps({"error": error, "error_type": error_type}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
