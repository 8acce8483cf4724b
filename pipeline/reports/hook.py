"""Whoever wants to know that a champion has changed: a command, or a webhook."""

import json
import logging
import os
import signal
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pipeline.config import HookConfig
from pipeline.errors import up_to_host

log = logging.getLogger(__name__)


def tell_hook(hook: HookConfig, event: Mapping[str, Any]) -> str | None:
    """Tell the event as JSON; the champion has changed whether or not anybody listens, and whatever the listener does.

    Returns:
        What went wrong, if anything; it is logged too.
    """
    failed: str | None = None
    try:
        text = json.dumps(dict(event), default=str).encode()
        if hook.command:
            failed = _run(hook.command, text, hook.timeout_s)
        elif hook.url:
            failed = _post(hook.url, text, hook.timeout_s)
    except Exception as error:  # a shell that is not there
        failed = f"{hook.command or up_to_host(str(hook.url))}: {error or type(error).__name__}"
    if failed:
        failed = f"The hook was not told of {event['event']} {event['name']} v{event['version']}: {failed}"
        log.warning("%s", failed)
    return failed


def _run(command: str, text: bytes, timeout_s: float) -> str | None:
    """Run a command, and end it and what it has started when its time is over; say how it failed."""
    said = [b""]

    def listen() -> None:  # and keep the end alone: a file could fill the disk
        assert process.stderr is not None
        with process.stderr as pipe:
            while some := os.read(pipe.fileno(), 1 << 16):
                said[0] = (said[0] + some)[-200:]

    with tempfile.TemporaryFile() as given:  # a pipe could be full
        given.write(text)
        given.seek(0)
        process = subprocess.Popen(
            ["bash", "-c", command],
            stdin=given,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        listener = threading.Thread(target=listen, daemon=True, name="hook")
        listener.start()
        try:
            code = process.wait(timeout_s)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        listener.join(1)  # no longer: what the command has left behind may keep the pipe open
        return f"{command!r} ended with {code}: {said[0].decode('utf-8', 'replace').strip()}" if code else None


def _post(named: str, text: bytes, timeout_s: float) -> str | None:
    """Post to a webhook; say how it failed, and do not wait for an answer that comes byte by byte."""
    url = os.environ.get(named[1:], "") if named.startswith("$") else named
    if not url:
        return f"{named} is not set in the environment"
    name = named if named.startswith("$") else up_to_host(named)
    failed: list[str | None] = [f"{name}: timed out"]

    def post() -> None:
        try:
            request = urllib.request.Request(url, text, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=timeout_s):  # a status of 400 or more raises
                failed[0] = None
        except Exception as error:
            said = str(error) or type(error).__name__
            failed[0] = f"{name}: {said.replace(url, name).replace(url.partition('://')[2], name)}"

    poster = threading.Thread(target=post, daemon=True, name="hook")
    poster.start()
    poster.join(timeout_s + 1)  # the socket's own timeout has the better words
    return failed[0]
