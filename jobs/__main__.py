"""The one door: `python -m jobs <command> [VARIABLE=value ...] [key=value ...] [--help]`; `make` says `--make` instead.

It reads the config, then imports the command, so that a bad setting is told before torch is loaded; and it turns
errors into exit codes: 0 done, 1 failed while running, 2 something that the user can mend, 130 interrupted.
"""

import gc
import importlib
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress

if sys.version_info < (3, 11):  # noqa: UP036 (`make help` may run under any Python)
    sys.exit(f"Python 3.11 or later is needed, this is {sys.version.split()[0]}. Try: make PYTHON=python3.12 ...")

from pipeline.config.commands import COMMANDS, VARIABLES, Command, environment_of, standing
from pipeline.config.hints import as_typed
from pipeline.config.strict import nearest
from pipeline.config.typed import typed
from pipeline.errors import ConfigError, PipelineError, UserError, disk_full, fault, gathered


def main(words: Sequence[str]) -> int:
    """Run a command line; return its exit code."""
    name, *rest = words or ["--help"]
    if rest == ["--make"]:
        return run(lambda: made(name, typed(os.environ)))
    if name in ("--help", "-h", "help"):
        with suppress(BrokenPipeError):  # `make help | head`
            print(overview(), flush=True)
        return 0
    return run(lambda: explain(name) if {"--help", "-h"} & set(rest) else call(name, rest))


def made(name: str, words: Sequence[str]) -> None:
    """Do what a command line of `make` says."""
    if name == "help":
        explain(next((word.partition("=")[2] for word in words if word.startswith("COMMAND=")), ""))
        return
    command_of(name)
    for note in standing(name, words, os.environ):
        print(note, file=sys.stderr)
    call(name, words)


def overview() -> str:
    """List the commands and the variables; needs nothing installed, so that `make help` can come first."""
    commands = [f"  {name:<11} {command.says}" for name, command in COMMANDS.items()]
    variables = [f"  {name:<11} {variable.says}" for name, variable in VARIABLES.items()]
    args = "  ARGS        any setting: ARGS='gate.margin=0.01 seed=3'"
    return "\n".join([*commands, "", "Variables", *variables, args])


def explain(name: str) -> None:
    """List a command's settings."""
    from pipeline.config.overrides import settings_of
    from pipeline.reports.console import console
    from pipeline.reports.settings import settings_table

    command = command_of(name)
    shown = console()
    shown.print(f"{name}: {command.says}\n\nVariables: {' '.join(command.keys())}", soft_wrap=True)
    shown.print(settings_table(settings_of(name)))


def call(name: str, words: Sequence[str]) -> None:
    """Read the config and call the command.

    Raises:
        UserError: There is no such command, or its settings are wrong.
    """
    command_of(name)
    os.environ.update(environment_of(words))
    from pipeline.config.overrides import read_command
    from pipeline.reports.console import console

    arguments = read_command(name, words)
    command = importlib.import_module(f"jobs.{name}")
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    command.main(*arguments, console())


def command_of(name: str) -> Command:
    """The command of a name; where there is none, a ConfigError."""
    if name not in COMMANDS:
        raise ConfigError(fault("command", name, "is no command", nearest(name, list(COMMANDS))))
    return COMMANDS[name]


def run(main: Callable[[], None]) -> int:
    """Run a command and turn what it raises into a message and an exit code."""
    from rich.console import Console  # here: `make help` needs nothing installed

    errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    try:
        main()
    except UserError as error:
        count = len(gathered(error.faults))
        errors.print(f"{count} things to mend:" if count > 1 else "Not started:", style="bold red")
        errors.print(textwrap.indent(as_typed(str(error)), "  "))
        return error.exit_code
    except PipelineError as error:
        errors.print(as_typed(f"Failed: {error}"), style="bold red")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `make status | head`
        return 0
    except Exception as error:
        if full := disk_full(error):
            errors.print(f"Failed: {full}.", style="bold red")
            return 1
        traceback.print_exc()
        errors.print("This is a defect of the pipeline, not of your input. Please report it.", style="bold red")
        return 1
    return 0


if __name__ == "__main__":
    # What is imported stays. To look through it again and again, and once more at the end, is a quarter of the start.
    gc.disable()
    sys.exit(main(sys.argv[1:]))
