"""Hints as the user types them."""

import sys

import pytest

from pipeline.config.hints import as_typed

MAKE, MODULE = ["/project/jobs/__main__.py", "sweep", "--make"], ["/project/jobs/__main__.py", "sweep", "TASKS=ner"]


@pytest.mark.parametrize(
    ("message", "made", "called"),
    [
        (
            "Mend them; or leave such rows out with data.bad_rows=skip.",
            "Mend them; or leave such rows out with ARGS='data.bad_rows=skip'.",
            "Mend them; or leave such rows out with data.bad_rows=skip.",
        ),
        (
            "Give about 1,000 test rows, or set gate.margin=0.082 gate.min_rows=84",
            "Give about 1,000 test rows, or set ARGS='gate.margin=0.082 gate.min_rows=84'",
            "Give about 1,000 test rows, or set gate.margin=0.082 gate.min_rows=84",
        ),
        (
            "'-' stands alone. If it means that there is none, set data.no_label=[-].",
            "'-' stands alone. If it means that there is none, set ARGS='data.no_label=[-]'.",
            "'-' stands alone. If it means that there is none, set data.no_label=[-].",
        ),
        (
            "Set tracking.uri=http://<host>:5000, where `mlflow server` runs.",
            "Set ARGS='tracking.uri=http://<host>:5000', where `mlflow server` runs.",
            "Set tracking.uri=http://<host>:5000, where `mlflow server` runs.",
        ),
        (
            "or for one command by data.columns.text=<its name in your files>",
            "or for one command by ARGS='data.columns.text=<its name in your files>'",
            "or for one command by data.columns.text=<its name in your files>",
        ),
        (
            "Go on with: make sweep RESUME=x ARGS='runs=elsewhere'",
            "Go on with: make sweep RESUME=x ARGS='runs=elsewhere'",
            "Go on with: python -m jobs sweep RESUME=x runs=elsewhere",
        ),
        (
            """make submit TASKS=ner ARGS='a.b=1 '"'"'data.x=[y z]'"'"' c=2'""",
            """make submit TASKS=ner ARGS='a.b=1 '"'"'data.x=[y z]'"'"' c=2'""",
            "python -m jobs submit TASKS=ner a.b=1 'data.x=[y z]' c=2",
        ),
        (
            "Train the first one with `make sweep TASKS=ner`, or set CHECKPOINT=minilm",
            "Train the first one with `make sweep TASKS=ner`, or set CHECKPOINT=minilm",
            "Train the first one with `python -m jobs sweep TASKS=ner`, or set CHECKPOINT=minilm",
        ),
        (
            "make predict TASK=ner TEXT='set data.bad_rows=skip'",
            "make predict TASK=ner TEXT='set data.bad_rows=skip'",
            "python -m jobs predict TASK=ner TEXT='set data.bad_rows=skip'",
        ),
        ("To make room make a list.", "To make room make a list.", "To make room make a list."),
        ("f:3: 'data.x=1' is no label", "f:3: 'data.x=1' is no label", "f:3: 'data.x=1' is no label"),
    ],
)
def test_a_hint_is_written_as_the_user_called_the_command(
    monkeypatch: pytest.MonkeyPatch, message: str, made: str, called: str
) -> None:
    monkeypatch.setattr(sys, "argv", MAKE)
    assert as_typed(message) == made
    monkeypatch.setattr(sys, "argv", MODULE)
    assert as_typed(message) == called
