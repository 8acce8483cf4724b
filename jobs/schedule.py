"""`make schedule`: a command at the times of CRON, by cron, systemd, Kubernetes, or a process that stays.

What is installed calls this command again with `schedule.action=run`, which holds the schedule's lock, keeps the log
below `runs/schedule/<id>/`, and ends as the command does. Exit codes of a pass: those of the command; 75 not started,
because the last pass still runs; 130 stopped. In the foreground: 0 ended between passes, 1 the last one had failed.
"""

import runpy
import sys
from collections.abc import Sequence

from rich.console import Console

from pipeline.config.schedule import ScheduleConfig
from pipeline.errors import ConfigError, fault
from pipeline.steps.schedule import install, remove, run, show


def main(own: ScheduleConfig, given: Sequence[str], console: Console) -> None:
    used = {"list": (), "remove": ("tasks=",)}.get(own.action, ("",))
    unused = [word.partition("=") for word in given if not word.startswith(used)]
    rule, remedy = f"is not used by ACTION={own.action}", "Leave it out"
    if unused:
        raise ConfigError([fault(key, value, rule, remedy) for key, _, value in unused])
    if own.action == "list":
        show(own, console)
    elif own.action == "remove":
        remove(own, given, console)
    elif own.action == "install":
        install(own, given, console)
    else:
        sys.exit(run(own, given))


if __name__ == "__main__":  # one release: crontabs and units that were written before call this file
    sys.argv.insert(1, "schedule")
    runpy.run_module("jobs", run_name="__main__")
