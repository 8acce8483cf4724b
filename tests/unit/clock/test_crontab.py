"""A schedule as lines of a crontab, beside the lines of others."""

import shlex

import pytest

from pipeline.clock.crontab import LONGEST_LINE, crontab_block, merged
from pipeline.clock.schedule import installed
from pipeline.errors import ConfigError
from tests.unit.clock.test_schedule import ODD, made


def as_cron_runs(line: str) -> list[str]:
    """What the shell of a crontab's command makes of it, after cron has taken its percent signs."""
    command = line.split(" ", 5)[5]
    taken, kept = "", iter(command)
    for character in kept:
        if character == "\\":
            following = next(kept)
            taken += following if following == "%" else character + following
        else:
            assert character != "%", "cron would end the line here"
            taken += character
    return shlex.split(taken.partition("&& ")[2])


def test_a_crontab_entry_hands_every_character_on() -> None:
    block = crontab_block(made(words=("run", ODD)))
    entry, boot = block.splitlines()[2:4]
    assert entry.startswith("0 3 * * 0 cd /data && PYTHONPATH='/check out' /venv/bin/python run")
    assert as_cron_runs(entry) == ["PYTHONPATH=/check out", "/venv/bin/python", "run", ODD]
    assert boot.startswith("@reboot cd /data && ")
    assert " missed " in boot


@pytest.mark.parametrize(
    ("word", "why"), [("a\nb", "has a line break"), ("x" * 1000, f"longer than the {LONGEST_LINE} characters")]
)
def test_what_cron_would_cut_off_is_refused(word: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        crontab_block(made(words=("run", word)))


def test_other_lines_of_the_crontab_stay_and_a_second_time_replaces() -> None:
    others = "# mine: 5 \\% \n\nMAILTO=me\n0 1 * * *\tbackup  \n"
    first = merged(others, "weekly", crontab_block(made()))
    assert first == others + crontab_block(made())
    after = merged(first + "@daily more\n", "weekly", crontab_block(made(cron="5 4 * * *")))
    assert after == others + crontab_block(made(cron="5 4 * * *")) + "@daily more\n"
    assert installed(after) == {"weekly": "/data/runs"}
    assert merged(after, "week", "") == after  # another one, of a name that begins alike
    assert merged(after, "weekly", "") == others + "@daily more\n"
    assert merged("0 1 * * * backup", "weekly", "x\n") == "0 1 * * * backup\nx\n"


def test_a_block_that_was_cut_in_two_is_refused() -> None:
    table = "".join(crontab_block(made()).splitlines(keepends=True)[:-1])
    with pytest.raises(ConfigError, match="has lines of the schedule weekly without their first or last one"):
        merged(table + "0 1 * * * backup\n", "weekly", "")
