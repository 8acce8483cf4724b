"""A hook that does not listen: it is told, and nothing else comes of it."""

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
    ],
)
def test_a_hook_that_fails_is_told(hook: HookConfig, why: str) -> None:
    failed = tell_hook(hook, EVENT)
    assert failed is not None
    assert failed.startswith("The hook was not told of promoted ner v3: ")
    assert why in failed


def test_a_hook_that_listens_has_nothing_to_tell() -> None:
    assert (
        tell_hook(HookConfig(command='test "$(cat)" = \'{"event": "promoted", "name": "ner", "version": 3}\''), EVENT)
        is None
    )
    assert tell_hook(HookConfig(), EVENT) is None
