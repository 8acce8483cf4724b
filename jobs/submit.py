"""`make submit`: a command on a Ray cluster; its log is followed here, and its exit code returned.

Everything is checked before anything is sent. Exit codes: those of the command; 2 not submitted, 130 stopped.
"""

import runpy
import sys
from collections.abc import Sequence

from rich.console import Console

from pipeline.config.commands import SubmitConfig
from pipeline.steps.submit import submit


def main(own: SubmitConfig, given: Sequence[str], console: Console) -> None:
    submit(own, given)


if __name__ == "__main__":  # one release: CronJobs that were written before call this file
    sys.argv.insert(1, "submit")
    runpy.run_module("jobs", run_name="__main__")
