"""Whoever wants to know that a champion has changed: a command, or a webhook."""

import json
import logging
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from pipeline.config import HookConfig

log = logging.getLogger(__name__)


def tell_hook(hook: HookConfig, event: Mapping[str, Any]) -> str | None:
    """Tell the event as JSON; the champion has changed whether or not anybody listens.

    Returns:
        What went wrong, if anything; it is logged too.
    """
    text = json.dumps(dict(event))
    failed = None
    try:
        if hook.command:
            words = ["bash", "-c", hook.command]
            done = subprocess.run(
                words, input=text, text=True, capture_output=True, timeout=hook.timeout_s, check=False
            )
            if done.returncode:
                failed = f"{hook.command!r} ended with {done.returncode}: {done.stderr.strip()[-200:]}"
        elif hook.url:
            request = urllib.request.Request(hook.url, text.encode(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=hook.timeout_s):  # a status of 400 or more raises
                pass
    except (OSError, subprocess.TimeoutExpired) as error:
        failed = f"{hook.command or hook.url}: {error}"
    if failed:
        failed = f"The hook was not told of {event['event']} {event['name']} v{event['version']}: {failed}"
        log.warning("%s", failed)
    return failed
