"""A hook that does not listen: it is told, and nothing else comes of it."""

import socket
import threading
import time

import pytest

from pipeline.config import HookConfig
from pipeline.reports.hook import tell_hook

EVENT = {"event": "promoted", "name": "ner", "version": 3}


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        (HookConfig(command="echo no such desk >&2; exit 7"), "ended with 7: no such desk"),
        (HookConfig(command="sleep 5", timeout_s=0.1), "timed out"),
        (HookConfig(url="http://127.0.0.1:9/"), "Connection refused"),
        (HookConfig(command=r"printf '\377\376' >&2; exit 1"), "ended with 1: \N{REPLACEMENT CHARACTER}"),
        (HookConfig(command="sleep 5 & sleep 5", timeout_s=0.1), "timed out"),
        (HookConfig(command="yes >&2", timeout_s=0.1), "timed out"),
        (HookConfig(command="echo \0"), "null byte"),
        (HookConfig(url="http://127.0.0.1:x/"), "nonnumeric port"),
        (HookConfig(url="http://[::1/"), "Invalid IPv6 URL"),
        (HookConfig(url="http://a b/"), "control characters"),
        (HookConfig(url=f"http://{'a' * 70}.example/"), "label"),
    ],
)
def test_a_hook_that_fails_is_told(hook: HookConfig, why: str) -> None:
    failed = tell_hook(hook, EVENT)
    assert failed is not None
    assert failed.startswith("The hook was not told of promoted ner v3: ")
    assert why in failed


@pytest.mark.parametrize(
    "says",
    [b"garbage\r\n\r\n", b"", b"HTTP/1.1 xyz\r\n\r\n", b"\xff\xfe\0", b"HTTP/1.1 302 F\r\nLocation: x://\r\n\r\n"],
)
def test_a_webhook_that_answers_garbage_is_told(says: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(says)

        threading.Thread(target=answer, daemon=True).start()
        failed = tell_hook(HookConfig(url=f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_s=5.0), EVENT)
    assert failed is not None
    assert failed.startswith("The hook was not told of promoted ner v3: http://127.0.0.1:")


def test_a_hook_that_leaves_a_process_behind_is_not_waited_for() -> None:
    begun = time.monotonic()
    assert tell_hook(HookConfig(command="sleep 4 & exit 0"), EVENT) is None
    assert time.monotonic() - begun < 3


def test_what_a_hook_says_without_end_is_not_kept_on_the_disk() -> None:
    told = tell_hook(HookConfig(command="readlink /proc/$$/fd/2 >&2; exit 3"), EVENT)
    assert told is not None and "ended with 3: pipe:" in told


def test_a_hook_that_listens_has_nothing_to_tell() -> None:
    assert (
        tell_hook(HookConfig(command='test "$(cat)" = \'{"event": "promoted", "name": "ner", "version": 3}\''), EVENT)
        is None
    )
    assert tell_hook(HookConfig(), EVENT) is None


def test_an_address_that_is_a_secret_comes_from_the_environment_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "http://127.0.0.1:9/services/T0/s3cret"
    assert "HOOK_URL is not set in the environment" in str(tell_hook(HookConfig(url="$HOOK_URL"), EVENT))
    monkeypatch.setenv("HOOK_URL", secret)
    for hook in (HookConfig(url="$HOOK_URL"), HookConfig(url=secret)):
        failed = tell_hook(hook, EVENT)
        assert failed is not None and "Connection refused" in failed
        assert "s3cret" not in failed + caplog.text
    monkeypatch.setenv("HOOK_URL", "http://me:s3cret@host:x/")
    assert "s3cret" not in str(tell_hook(HookConfig(url="$HOOK_URL"), EVENT))
