"""What a user writes arrives at the command as it was written, through the real Makefile."""

import json
import sys
from pathlib import Path

import pytest

from tests.commands.workplace import ROOT, Workplace

HARD = [
    "a text with 'single' and \"double\" quotes",
    "costs $5, not $(5) or ${HOME} or $$",
    "a, b; (c) [d] {e,f} <g> | h & i * j ? ~ ` ! #k",
    "first line\nsecond line",
    "back\\slash \\n and a tab\there, 100 % = all",
    "grüße, 世界, 🎬",
    "",
]


@pytest.fixture
def echo(workplace: Workplace) -> list[str]:
    """Words for make that put a program in the place of Python, which prints what it was given."""
    program = workplace.data / "echo.py"
    program.write_text(
        "import json, os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from pipeline.config.commands import environment_of\n"
        "from pipeline.config.typed import typed\n"
        "words = typed(os.environ)\n"
        "os.environ.update(environment_of(words))\n"
        "given = {name: os.environ.get(name, '') for name in ('TEXT', 'ITEM', 'FILE', 'REASON')}\n"
        "words = sorted(word for word in words if word.partition('=')[0] not in given)\n"
        "print(json.dumps({'arguments': sys.argv[1:], 'words': words, 'stdin': sys.stdin.read(), **given}))\n",
        "utf-8",
    )
    return [f"RUN={sys.executable} {program}"]


@pytest.mark.parametrize("text", HARD)
@pytest.mark.parametrize("name", ["TEXT", "ITEM"])
@pytest.mark.parametrize("way", ["word", "environment"])
def test_text_arrives_unharmed_through_make(
    workplace: Workplace, echo: list[str], name: str, text: str, way: str
) -> None:
    words = [*echo, "predict", "TASK=sentiment"]
    if way == "word":
        done = workplace.make(*words, f"{name}={text}")
    else:
        done = workplace.make(*words, environment={name: text})
    assert done.code == 0, done.err
    given = json.loads(done.out)
    assert given[name] == text
    assert given["arguments"] == ["jobs", "predict", "--make"] and given["words"] == ["TASK=sentiment"]


def test_a_reason_arrives_unharmed_through_make(workplace: Workplace, echo: list[str]) -> None:
    reason = 'it\'s "mixed", $HOME'
    done = workplace.make(*echo, "rollback", "TASK=sentiment", f"REASON={reason}")
    given = json.loads(done.out)
    assert (given["REASON"], given["words"]) == (reason, ["TASK=sentiment"])


def test_standard_input_arrives_unharmed_through_make(workplace: Workplace, echo: list[str]) -> None:
    done = workplace.make(*echo, "predict", "TASK=sentiment", stdin="\n".join(HARD))
    assert json.loads(done.out)["stdin"] == "\n".join(HARD)


def test_a_misspelt_variable_is_refused_with_those_that_there_are(workplace: Workplace, echo: list[str]) -> None:
    done = workplace.make(*echo, "sweep", "TASKS=ner", "TRAILS=2")
    assert json.loads(done.out)["words"] == ["TASKS=ner", "TRAILS=2"]
    done = workplace.make("sweep", "TASKS=ner", "TRAILS=2")
    assert done.code == 2
    assert "TRAILS: '2' is no variable. Did you mean TRIALS" in done.err
    assert done.out == ""


def test_overrides_and_folders_arrive_unharmed_through_make(workplace: Workplace, echo: list[str]) -> None:
    (workplace.cwd / "a").touch()  # a pattern such as [a] would stand for it
    overrides = "search=optuna search.space.method.dropout={choice:[0.0,0.1]} method.layers=[a]"
    data = str(Path("..") / "my data, (new)")
    done = workplace.make(*echo, "sweep", "TASKS=sentiment/*,ner", f"DATA={data}", "TRIALS=3", f"ARGS={overrides}")
    assert done.code == 0, done.err
    assert json.loads(done.out)["words"] == sorted(
        ["TASKS=sentiment/*,ner", f"DATA={data}", "TRIALS=3", *overrides.split()]
    )
