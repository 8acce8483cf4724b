"""Bad input to what comes after a sweep: one clear message, exit code 2, and nothing made or recorded."""

import io
import sys

import pytest

from tests.commands.conftest import messages_of
from tests.commands.workplace import Call, Workplace

PREDICT = [
    ("TASK that is missing", [], {"TEXT": "x"}, "TASK: is missing. Name a task that has a champion"),
    ("nothing recorded", ["job=ner"], {"TEXT": "x"}, "tracking.uri: 'sqlite:///mlflow.db' holds nothing yet. Run"),
    ("two at once", ["job=ner"], {"TEXT": "x", "ITEM": "{}"}, "TEXT and ITEM: exclude each other. Give only one"),
    ("three", ["job=ner"], {"TEXT": "x", "ITEM": "{}", "FILE": "x"}, "TEXT and ITEM and FILE: exclude each other."),
    ("invalid item", ["job=ner"], {"ITEM": '{"a": '}, "ITEM: '{\"a\": ' is not valid JSON (Expecting value"),
    ("brackets", ["job=ner"], {"ITEM": "[" * 100_000}, "is not valid JSON (maximum recursion depth exceeded"),
    ("no such file", ["job=ner"], {"FILE": "x.jsonl"}, "FILE: 'x.jsonl' cannot be read (No such file or directory)"),
    ("unknown key", ["job=ner", "jib=x"], {"TEXT": "x"}, "jib: is no config key. Did you mean job."),
]


@pytest.mark.parametrize(("arguments", "environment", "message"), [p[1:] for p in PREDICT], ids=[p[0] for p in PREDICT])
def test_predict_answers_a_mistake_with_one_message_and_leaves_nothing(
    workplace: Workplace,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    message: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = call("predict", *arguments)
    assert done.code == 2
    assert [message in line for line in done.err.splitlines()] == [False, True]
    assert done.out == ""
    assert workplace.left() == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"", "standard input: is empty. Give TEXT='...', ITEM='<json>', FILE=<file>, or one text"),
        (b"\n \n", "standard input: is empty."),
    ],
)
def test_predict_of_an_empty_standard_input_says_what_to_give(
    workplace: Workplace, call: Call, monkeypatch: pytest.MonkeyPatch, given: bytes, message: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    done = call("predict", "job=sentiment")
    assert done.code == 2
    assert message in done.err
    assert workplace.left() == []


RETRAIN = [
    ("nothing recorded", ["tasks=[ner]"], "tracking.uri: 'sqlite:///mlflow.db' holds nothing yet. Run"),
    ("a resumed pass", ["tasks=[ner]", "resume=x"], "resume: 'x' has no effect: a pass that was cut off"),
    ("replay", ["tasks=[ner]", "challenger.replay=2"], "challenger.replay: '2.0' must be"),
    ("rate", ["tasks=[ner]", "challenger.new_label_rate=0"], "challenger.new_label_rate: '0.0' must be above 0"),
    ("two hooks", ["tasks=[ner]", "hook.command=x", "hook.url=http://x"], "hook.url: 'http://x' stands beside"),
]


@pytest.mark.parametrize(("arguments", "message"), [case[1:] for case in RETRAIN], ids=[case[0] for case in RETRAIN])
def test_retrain_answers_a_mistake_with_one_message_and_leaves_nothing(
    workplace: Workplace, call: Call, arguments: list[str], message: str
) -> None:
    done = call("retrain", *arguments)
    assert done.code == 2
    assert [message in line for line in done.err.splitlines()] == [False, True]
    assert workplace.left() == []


def test_a_rollback_wants_a_task_and_a_reason(workplace: Workplace, call: Call) -> None:
    reason, task = messages_of(call("rollback"))
    assert reason.startswith("REASON: is missing. Say why")
    assert task.startswith("TASK: is missing. Name a task that has a champion")
    assert workplace.left() == []


def test_a_promotion_wants_a_task_a_version_and_a_reason(workplace: Workplace, call: Call) -> None:
    reason, task, version = messages_of(call("promote"))
    assert reason.startswith("REASON: is missing. Say why")
    assert task.startswith("TASK: is missing. Name a task that has a champion")
    assert version.startswith("VERSION: is missing. Name a challenger: make promote TASK=")
    last = call("promote", "TASK=ner", "VERSION=last", "REASON=x")
    assert last.code == 2 and "version: 'last' must be a whole number." in last.err
    (below,) = call("promote", "TASK=ner", "VERSION=-1", "REASON=x").err.splitlines()[1:]
    assert below.strip().startswith("VERSION: '-1' is no number of a version: they begin at 1")
    assert workplace.left() == []


def test_status_of_nothing_says_what_to_run_first(workplace: Workplace, call: Call) -> None:
    done = call("status")
    assert done.code == 2
    assert "tracking.uri: 'sqlite:///mlflow.db' holds nothing yet. Run `make sweep TASKS=sentiment` first" in done.err
    assert workplace.left() == []
