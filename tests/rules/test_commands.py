"""The table of commands against what there is: files, targets of the Makefile, variables, and what is refused."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.__main__ import main
from pipeline.config.commands import COMMANDS, VARIABLES, overrides_of
from pipeline.config.overrides import read_command
from pipeline.errors import ConfigError

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", "")


def words_of(name: str) -> list[str]:
    """The words of a variable of the Makefile."""
    (found,) = re.findall(rf"^{name} := (.*)", MAKEFILE, re.M)
    return str(found).split()


def test_every_command_has_a_file_a_target_and_a_row() -> None:
    files = {file.stem for file in (ROOT / "jobs").glob("*.py")} - {"__init__", "__main__"}
    assert files == set(COMMANDS) == set(words_of("COMMANDS"))


def test_every_variable_of_the_makefile_is_one_of_the_table() -> None:
    assert {*words_of("VARIABLES"), *words_of("FREE")} == set(VARIABLES)
    assert set(words_of("FREE")) == {name for name, variable in VARIABLES.items() if variable.form == "free"}
    for command in COMMANDS.values():
        assert set(command.keys()) <= set(VARIABLES)
        fields = {*command.config.__dataclass_fields__, "conf", ""}
        assert {key.split(".")[0] for key in command.keys().values()} <= fields


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("predict", ["TASK=ner", "EPOCHS=3"], "EPOCHS: '3' is not used by `predict`. It takes TASK, TEXT"),
        ("retrain", ["TASKS=ner", "METHOD=lora"], "METHOD: 'lora' is not used by `retrain`"),
        ("retrain", ["TASKS=ner", "TRIALS=2"], "TRIALS: '2' is not used by `retrain`"),
        ("retrain", ["tasks=[ner]", "method.width=3"], "method.width: '3' is not used by `retrain`. A challenger has"),
        ("retrain", ["tasks=[ner]", "search.trials=3"], "search.trials: '3' is not used by `retrain`. Set challenger"),
        (
            "retrain",
            ["tasks=[ner]", "search.space.method.width={choice:[3]}"],
            "is not used by `retrain`. A challenger",
        ),
        ("compare", ["tasks=[ner]", "gate.margin=0.1"], "gate.margin: '0.1' is not used by `compare`"),
        ("status", ["TASKS=ner"], "TASKS: 'ner' is not used by `status`"),
        ("status", ["engine.epochs=3"], "engine: is no config key"),
        ("schedule", ["TASKS=ner", "PORT=3"], "PORT: '3' is not used by `schedule`"),
        ("submit", ["COMMAND=status", "TASKS=ner"], "TASKS: 'ner' is not used by `submit`"),
        ("sweep", ["TASKS=ner", "TRAILS=2"], "TRAILS: '2' is no variable. Did you mean TRIALS"),
        (
            "sweep",
            ["tasks=[ner]", "search=grid", "TRIALS=2"],
            "search.trials: '2' has no effect with search.algorithm=grid",
        ),
        ("sweep", ["tasks=[ner]", "search.cohort=2"], "search.cohort: '2' has no effect with search.algorithm=random"),
    ],
)
def test_what_a_command_does_not_use_it_refuses_by_name(command: str, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_command(command, words)
    assert message in str(caught.value)


def test_a_variable_of_the_environment_counts_where_it_is_taken_and_nothing_else_was_said() -> None:
    assert overrides_of("sweep", ["EPOCHS?=3", "PORT?=8080"]) == ["engine.epochs=3"]
    assert overrides_of("sweep", ["EPOCHS=2", "EPOCHS?=3"]) == ["engine.epochs=2"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_every_setting_with_what_it_is_for(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    prefix = f"{command}." if COMMANDS[command].wraps else ""
    for field in COMMANDS[command].config.__dataclass_fields__:
        assert f"{prefix}{field}" in shown
    if command == "sweep":
        assert "engine.learning_rate a number 0.001 Peak learning rate of AdamW." in shown
        assert re.search(r"method.width a whole number 48 Bottleneck size R", shown), (
            "as conf/method/houlsby.yaml has it"
        )


def test_an_unknown_command_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swep"]) == 2
    assert "command: 'swep' is no command. Did you mean sweep" in capsys.readouterr().err


def test_the_overview_needs_nothing_installed() -> None:
    bare = subprocess.run(
        [
            sys.executable,
            "-IS",
            "-c",
            "import runpy, sys; sys.path.insert(0, '.'); sys.argv = ['jobs', '--help']; "
            "runpy.run_module('jobs', run_name='__main__')",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert bare.returncode == 0, bare.stderr
    assert all(name in bare.stdout for name in (*COMMANDS, *VARIABLES))
