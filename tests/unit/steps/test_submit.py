"""How a command that was sent to a cluster ends here; the cluster is a stand-in, and no Ray is started."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

import pipeline.cluster.head as cluster
from pipeline.cluster.head import Ended
from pipeline.config.commands import SubmitConfig
from pipeline.steps.submit import submit

GIVEN = ["tasks=[sentiment]", "tracking.uri=http://tracking:5000"]


@pytest.mark.parametrize(
    ("ended", "code", "said"),
    [
        (Ended(status="SUCCEEDED", driver_code=0, message=""), 0, ""),
        (Ended(status="FAILED", driver_code=3, message=""), 3, "failed, exit code 3"),
        (Ended(status="FAILED", driver_code=-9, message=""), 137, "failed, exit code 137"),
        (Ended(status="STOPPED", driver_code=None, message=""), 130, "was stopped"),
    ],
)
def test_it_leaves_with_the_exit_code_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ended: Ended, code: int, said: str
) -> None:
    sent = []

    class Elsewhere:
        def __init__(self, address: str, job: str, show: Callable[[str], None], note: Callable[[str], None]) -> None:
            self.address = address

        def submit(self, line: str, described: Mapping[str, Any]) -> None:
            sent.append(line)

        def follow(self) -> Ended:
            return ended

    monkeypatch.setattr(cluster, "Head", Elsewhere)
    left = 0
    try:
        submit(SubmitConfig(address="http://head:8265", environment="image"), GIVEN)
    except SystemExit as leaving:
        assert isinstance(leaving.code, int)
        left = leaving.code
    assert left == code
    assert said in capsys.readouterr().err
    (line,) = sent
    assert "-m jobs sweep" in line and "tasks=[sentiment]" in line
