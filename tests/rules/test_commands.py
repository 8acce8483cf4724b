"""The table of commands against what there is: files, targets of the Makefile, variables, and what is refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.__main__ import main
from pipeline.config import SweepConfig
from pipeline.config.champions import PredictConfig
from pipeline.config.commands import COMMANDS, VARIABLES, overrides_of, standing
from pipeline.config.overrides import pairs, read_command, read_config
from pipeline.config.typed import typed
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


HOSTILE = [
    "x\"'; touch ran; echo '",
    "$(shell touch ran)",
    "$$(touch ran)",
    "`touch ran`",
    "${oc.env:HOME}",
    "o'neil",
    "cost$100",
    "ner/français",
    "a\nb",
    "a # b",
    "C:\\dir\\",
    "{a: 1}",
    "[x",
    "a=b, c",
    "%s \\${x} \\\\${y}",
    "~/*",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_typed_behind_make_arrives_as_it_was_typed(text: str, tmp_path: Path) -> None:
    """Through the real Makefile, neither by way of the shell nor of make's own functions."""
    for name in ("pyproject.toml", "constraints.txt", "installed"):  # the last one is the newest
        (tmp_path / name).touch()
    (tmp_path / "echo.py").write_text(
        "import os, json, sys; sys.path.insert(0, os.environ['ROOT']); from pipeline.config.typed import typed;"
        "json.dump([sys.argv[1:], typed(os.environ)], open('words.json', 'w'))"
    )
    given = [f"RUN={sys.executable} echo.py", "STAMP=installed", f"TASK={text}", f"DATA={text}", f"FOO={text}"]
    done = subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), "sweep", *given, "ARGS=a='b c' d=\"$x\""],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "ROOT": str(ROOT), "SEED": "9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    arguments, words = json.loads((tmp_path / "words.json").read_text())
    assert arguments == ["jobs", "sweep", "--make"]
    assert sorted(words) == sorted([f"TASK={text}", f"DATA={text}", f"FOO={text}", "a=b c", "d=$x"])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_variable_means_its_text_and_nothing_of_hydras_grammar(text: str) -> None:
    written = overrides_of("predict", [f"TASK={text}"])
    assert read_config("predict", PredictConfig, written).job == text
    assert pairs(written) == [("job", text)]
    (tasks,) = overrides_of("sweep", [f"TASKS={text},ner"])
    config = read_config("sweep", SweepConfig, [tasks])
    assert config.tasks == [*(part.strip() for part in text.split(",")), "ner"]


def test_a_variable_of_the_environment_is_not_used_and_a_note_says_so() -> None:
    environment = {"ADAPTERS_STANDING": "SEED PORT DATA", "SEED": "9", "PORT": "80", "DATA": "/a b"}
    notes = standing("sweep", ["TASKS=ner", "DATA=hub"], environment)
    assert notes == ["SEED stands in the environment, and is not used: write make sweep SEED=9"]
    notes = standing("submit", ["TASKS=ner"], environment)
    assert notes[1] == "DATA stands in the environment, and is not used: write make submit DATA='/a b'"


def test_a_quote_in_args_that_is_not_closed_is_told() -> None:
    with pytest.raises(ConfigError, match=r"ARGS: .* cannot be split into words \(No closing quotation\)"):
        typed({"ADAPTERS_WORDS": "1", "ADAPTERS_WORD_1": "ARGS=a='b"})


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
            "as conf/method/parallel.yaml has it"
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
