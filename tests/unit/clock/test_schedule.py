"""How the last pass of a schedule went, in words; and a schedule for the tests of crontabs and units."""

from datetime import UTC, datetime

from pipeline.clock.schedule import Schedule, Stamp, outcome
from pipeline.config.cron import parse

WEDNESDAY = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)
ODD = 'tracking.uri="sqlite:////data/100% it\'s \\% $HOME/mlflow.db"'


def made(*, words: tuple[str, ...] = ("run",), cron: str = "0 3 * * 0", folder: str = "/data/runs") -> Schedule:
    return Schedule(
        id="weekly",
        cron=parse(cron),
        timezone=None,
        words=["/venv/bin/python", *words],
        missed=["/venv/bin/python", "missed", *words[1:]],
        path="/check out",
        cwd="/data",
        files=folder,
    )


def test_the_outcome_says_what_went_wrong() -> None:
    began = Stamp(began=WEDNESDAY, log="/l/x.log", pid=7)
    assert outcome(began, running=True) == "running"
    assert "killed" in outcome(began, running=False)
    ended = {code: Stamp(began=WEDNESDAY, log="/l/x.log", pid=7, ended=WEDNESDAY, code=code) for code in (0, 1, 130)}
    assert outcome(ended[0], running=False) == "done"
    assert outcome(ended[1], running=False) == "FAILED, exit code 1"
    assert "stopped" in outcome(ended[130], running=False)
