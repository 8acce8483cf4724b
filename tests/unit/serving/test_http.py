"""What clients are answered: shapes, versions, and a reason for whatever is not answered."""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pipeline.config.serve import ServingConfig
from pipeline.serving.front import Front, ReplicaDied
from pipeline.serving.state import Entry, Problem, Reply, Table
from tests.unit.serving.clients import ANSWER, TABLE, answers, app_of, ask, asked, front_of, standing

PREDICT = "/v1/tasks/sentiment/predict"


def test_one_input_has_one_answer_and_a_list_a_list_and_both_name_the_version() -> None:
    app = app_of(front_of())
    one = ask(app, "POST", PREDICT, {"inputs": "fine", "parameters": {"top_k": 1}})
    assert (one.status, one.json, one.headers["x-adapter-version"]) == (200, [{"label": "good", "score": 0.75}], "3")
    many = ask(app, "POST", PREDICT, {"inputs": ["fine", "dull"]})
    ranked = [{"label": "good", "score": 0.75}, {"label": "bad", "score": 0.25}]
    assert many.json == [ranked, ranked]


def test_a_version_is_asked_by_its_number_and_another_is_told_which_there_are() -> None:
    app = app_of(front_of())
    found = ask(app, "POST", "/v1/tasks/sentiment/versions/2/predict", {"inputs": "fine"})
    assert (found.status, found.headers["x-adapter-version"]) == (200, "2")
    missing = ask(app, "POST", "/v1/tasks/sentiment/versions/1/predict", {"inputs": "fine"})
    assert missing.status == 404
    assert missing.json["error"] == (
        "version: '1' is no version of sentiment that is resident. "
        "Ask for one of: 3 (champion), 4 (challenger), 2 (previous)."
    )


def test_a_list_of_questions_is_answered_together_each_with_its_version_or_its_error() -> None:
    seen: list[list[str]] = []

    async def send(home: str, entries: Sequence[Entry], timeout_s: float) -> Sequence[Reply]:
        seen.append([one.name for one in entries])
        return await answers(home, entries, timeout_s)

    body = [
        {"task": "sentiment", "inputs": "fine", "parameters": {"top_k": 1}},
        {"task": "sentimnet", "inputs": "fine"},
        {"task": "ner", "inputs": ["Anna"], "version": 4},
        {"task": "ner", "inputs": []},
    ]
    said = ask(app_of(front_of(send)), "POST", "/v1/predict", body)
    assert said.status == 200
    first, wrong, third, empty = said.json
    assert first == {"task": "sentiment", "version": 3, "outputs": [{"label": "good", "score": 0.75}]}
    assert (wrong["status"], wrong["error_type"]) == (404, "not_found")
    assert "sentiment" in wrong["error"]
    assert third == {"task": "ner", "version": 4, "outputs": [[]]}
    assert (empty["status"], empty["error"]) == (422, "[3].inputs: '[]' is empty. Give at least one input.")
    assert seen == [["sentiment", "ner"]]


def test_where_nothing_of_a_list_has_an_answer_the_status_says_so() -> None:
    async def full(home: str, entries: Sequence[Entry], timeout_s: float) -> Sequence[Reply]:
        problem = Problem(status=429, error_type="queue_full", error="Full.", retry_after_s=1)
        return [Reply(problem=problem)] * len(entries)

    said = ask(app_of(front_of(full)), "POST", "/v1/predict", [{"task": "sentiment", "inputs": "a"}] * 2)
    assert (said.status, said.headers["retry-after"], said.json["error_type"]) == (429, "1", "queue_full")


@pytest.mark.parametrize(
    ("path", "body", "status", "error_type", "message"),
    [
        ("/v1/tasks/sentimen/predict", {"inputs": "a"}, 404, "not_found", "sentiment"),
        ("/v1/tasks/whole/predict", {"inputs": "a"}, 503, "not_served", "is a whole copy of its checkpoint"),
        ("/v1/tasks/slow/predict", {"inputs": "a"}, 503, "not_served", "is being loaded. Ask again later."),
        (PREDICT, b"", 422, "bad_body", "is no JSON (Expecting value: line 1 column 1 (char 0)). Send JSON such as"),
        (PREDICT, b"{", 422, "bad_body", "is no JSON"),
        (PREDICT, b"\xff\xfe", 422, "bad_body", "is no JSON"),
        (PREDICT, b"[" * 100_000, 422, "bad_body", "body: is nested too deep"),
        (PREDICT, b"1" * 5000, 422, "bad_body", "is no JSON"),
        (PREDICT, b'{"inputs": "a", "inputs": "b"}', 422, "bad_body", "the key 'inputs' stands several times in one"),
        (PREDICT, {}, 422, "bad_body", "inputs: field required"),
        (PREDICT, [], 422, "bad_body", "body: input should be a valid dictionary"),
        (PREDICT, {"inputs": "a", "parameters": 5}, 422, "bad_body", "parameters: input should be a valid dictionary"),
        (PREDICT, {"inputs": "a", "options": {}}, 422, "bad_body", "options: extra inputs are not permitted"),
        (PREDICT, {"inputs": "a", "\ud800": 1}, 422, "bad_body", "body: holds half of a surrogate pair"),
        (PREDICT, {"inputs": "\ud800"}, 422, "bad_body", "body: holds half of a surrogate pair"),
        (PREDICT, b'{"inputs": ' + b"[" * 50 + b"]" * 50 + b"}", 422, "bad_body", "body: is nested too deep"),
        (PREDICT, {"inputs": []}, 422, "bad_input", "is empty"),
        (PREDICT, {"inputs": ["a"] * 100_000}, 413, "too_large", "has 100000 inputs, and a request may have 1024"),
        (PREDICT, {"inputs": "a" * 200_000}, 413, "too_large", "has 200000 characters"),
        (PREDICT, {"inputs": "a" * 10_000_000}, 413, "too_large", "The body is longer than 8388608 bytes"),
        ("/v1/tasks/sentiment/versions/x/predict", {"inputs": "a"}, 422, "bad_body", "number of a version"),
        ("/v1/predict", {"task": "sentiment"}, 422, "bad_body", "body: input should be a valid list"),
        ("/v1/predict", [], 422, "bad_body", "body: '[]' is empty"),
        ("/v1/predict", [{"task": "ner", "inputs": ["a"] * 900}] * 2, 413, "too_large", "has 1800 inputs"),
        ("/v1/nothing", {"inputs": "a"}, 404, "not_found", "GET /docs lists what there is"),
    ],
)
def test_whatever_is_not_answered_has_a_reason(
    path: str, body: Any, status: int, error_type: str, message: str
) -> None:
    said = ask(app_of(front_of()), "POST", path, body)
    assert (said.status, said.json["error_type"]) == (status, error_type)
    assert message in said.json["error"]
    assert "Traceback" not in said.json["error"]


def test_a_body_of_unknown_length_is_refused_as_soon_as_it_is_too_long() -> None:
    said = ask(app_of(front_of(max_body_bytes=1000)), "POST", PREDICT, b"[" + b" " * 5000, chunk=100)
    assert (said.status, said.json["error_type"]) == (413, "too_large")


def test_a_process_that_dies_is_asked_no_more_and_another_one_answers() -> None:
    tries: list[str] = []

    async def send(home: str, entries: Sequence[Entry], timeout_s: float) -> Sequence[Reply]:
        tries.append(home)
        if len(tries) == 1:
            raise ReplicaDied
        return await answers(home, entries, timeout_s)

    assert ask(app_of(front_of(send)), "POST", PREDICT, {"inputs": "a"}).status == 200
    assert tries == ["home", "home"]


def test_where_two_processes_die_the_client_is_told_to_ask_again() -> None:
    async def send(home: str, entries: Sequence[Entry], timeout_s: float) -> Sequence[Reply]:
        raise ReplicaDied

    said = ask(app_of(front_of(send)), "POST", PREDICT, {"inputs": "a"})
    assert (said.status, said.headers["retry-after"]) == (503, "1")


def test_an_answer_that_comes_too_late_is_given_up() -> None:
    async def send(home: str, entries: Sequence[Entry], timeout_s: float) -> Sequence[Reply]:
        await asyncio.sleep(60)
        raise AssertionError

    said = ask(app_of(front_of(send, timeout_s=0.05)), "POST", PREDICT, {"inputs": "a"})
    assert (said.status, said.json["error_type"]) == (504, "timeout")


def test_a_version_that_was_withdrawn_on_the_way_is_asked_again_as_the_champion_of_now() -> None:
    now = standing("sentiment")
    later = Table(tasks={"sentiment": standing("sentiment")})
    versions = tuple(one for one in now.versions if one.version != 3)
    promoted = [type(one)(alias="champion", version=4, checkpoint="tiny", home="home") for one in versions[:1]]
    later = Table(tasks={"sentiment": type(now)(name="sentiment", kind=now.kind, ranks=True, labels=now.labels,
                                                fields=now.fields, versions=tuple(promoted))})  # fmt: skip

    async def send(home: str, entries: Sequence[Entry], timeout_s: float) -> Sequence[Reply]:
        gone = Problem(status=503, error_type="not_resident", error="It is gone.")
        return [
            Reply(problem=gone) if one.version == 3 else Reply(version=one.version, answers=[ANSWER]) for one in entries
        ]

    said = ask(app_of(front_of(send, refreshed=later)), "POST", PREDICT, {"inputs": "a"})
    assert (said.status, said.headers["x-adapter-version"]) == (200, "4")


def test_a_text_that_was_cut_is_told_in_body_and_header() -> None:
    async def send(home: str, entries: Sequence[Entry], timeout_s: float) -> Sequence[Reply]:
        cut = [{**one, "truncated": True} for one in ANSWER]
        return [Reply(version=3, answers=[ANSWER, cut], truncated=[1])]

    said = ask(app_of(front_of(send)), "POST", PREDICT, {"inputs": ["a", "b"], "parameters": {"top_k": 1}})
    assert said.json == [[{"label": "good", "score": 0.75}], [{"label": "good", "score": 0.75, "truncated": True}]]
    assert said.headers["x-truncated"] == "1"


def test_the_table_of_tasks_tells_what_answers_and_why_something_does_not() -> None:
    tasks = {one["name"]: one for one in ask(app_of(front_of()), "GET", "/v1/tasks").json["tasks"]}
    assert tasks["sentiment"] == {
        "name": "sentiment",
        "kind": "classification",
        "labels": ["bad", "good"],
        "fields": ["text"],
        "alias": "champion",
        "version": 3,
        "checkpoint": "tiny",
        "resident_bytes": 5,
        "reason": None,
        "versions": [
            {"alias": "champion", "version": 3, "checkpoint": "tiny", "resident_bytes": 5, "reason": None},
            {"alias": "challenger", "version": 4, "checkpoint": "tiny", "resident_bytes": 5, "reason": None},
            {"alias": "previous", "version": 2, "checkpoint": "tiny", "resident_bytes": 5, "reason": None},
        ],
    }
    assert tasks["whole"]["reason"] == "method: is a whole copy of its checkpoint."


def test_health_readiness_and_refresh_say_whether_the_registry_answers() -> None:
    app = app_of(front_of(table=Table(tasks=TABLE.tasks, registry="The store refused")), registry="The store refused")
    assert ask(app, "GET", "/healthz").body == b"ok"
    ready = ask(app, "GET", "/readyz")
    assert (ready.status, ready.json) == (
        200,
        {"ready": True, "tasks": 5, "unserved": 2, "registry": "The store refused"},
    )
    assert ask(app, "POST", "/v1/refresh", b"any").status == 503
    assert ask(app_of(front_of()), "POST", "/v1/refresh").json == {"registry": "answers"}


def test_requests_are_sent_elsewhere_until_something_is_served() -> None:
    async def send(home: str, entries: Sequence[Entry], timeout_s: float) -> Sequence[Reply]:
        return [Reply(version=3, answers=[ANSWER])]

    async def refresh() -> Table:
        return TABLE

    front = Front(ServingConfig(), send, refresh)
    app = app_of(front)

    def ready() -> tuple[int, str]:
        said = ask(app, "GET", "/readyz")
        return said.status, said.json["registry"]

    assert ready() == (503, "is being read")
    said = ask(app, "POST", PREDICT, {"inputs": "a"})
    assert (said.status, said.json["error_type"]) == (503, "not_served")
    assert said.json["error"] == "task: 'sentiment' is not known yet. Ask again: the service is starting."
    front.take(Table(is_unread=True, registry="The store refused"))
    assert ready() == (503, "The store refused")
    now = TABLE.tasks["sentiment"]
    loading = replace(now, versions=tuple(replace(one, reason="is being loaded") for one in now.versions))
    front.take(Table(tasks={"sentiment": loading}))
    assert ready() == (503, "answers")
    front.take(Table(tasks={"sentiment": now, "other": loading}))
    assert ready() == (200, "answers")
    # What is known stays, and so does whoever was ready, where a keeper that was started anew has nothing to tell.
    front.take(Table(is_unread=True, registry="The store refused"))
    assert ready() == (200, "The store refused") and [*front.table.tasks] == ["sentiment", "other"]


def test_while_it_is_stopped_nothing_further_is_taken() -> None:
    app = app_of(front_of(table=Table(tasks=TABLE.tasks, is_draining=True)))
    assert ask(app, "POST", PREDICT, {"inputs": "a"}).json["error_type"] == "draining"
    assert ask(app, "GET", "/readyz").status == 503


def test_with_a_token_only_those_who_send_it_are_answered() -> None:
    app = app_of(front_of(), token="t0p-secret")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic t0p-secret"}):
        said = ask(app, "POST", PREDICT, {"inputs": "a"}, headers=headers)
        assert (said.status, said.json["error_type"], said.headers["www-authenticate"]) == (
            401,
            "unauthorized",
            "Bearer",
        )
    assert ask(app, "POST", PREDICT, {"inputs": "a"}, headers={"Authorization": "bearer t0p-secret"}).status == 200
    assert ask(app, "GET", "/v1/tasks").status == ask(app, "GET", "/metrics").status == 401
    assert ask(app, "GET", "/readyz").status == ask(app, "GET", "/docs").status == 200


def test_no_token_and_no_text_of_a_client_stands_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(home: str, entries: Sequence[Entry], timeout_s: float) -> Sequence[Reply]:
        raise RuntimeError("it broke")

    app, header = app_of(front_of(broken), token="t0p-secret"), {"Authorization": "Bearer t0p-secret"}
    with caplog.at_level(logging.DEBUG):
        said = ask(app, "POST", PREDICT, {"inputs": "private words"}, headers=header)
    assert (said.status, said.json["error_type"]) == (500, "internal")
    assert "it broke" not in said.json["error"]
    assert "it broke" in caplog.text
    assert "t0p-secret" not in caplog.text
    assert "private words" not in caplog.text


def test_a_connection_that_closes_ends_the_request_behind_it() -> None:
    ended: list[str] = []

    async def send(home: str, entries: Sequence[Entry], timeout_s: float) -> Sequence[Reply]:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return []

    async def whole() -> None:
        front = front_of(send)
        asking = asyncio.create_task(asked(app_of(front), "POST", PREDICT, {"inputs": "a"}))
        await asyncio.sleep(0.05)
        asking.cancel()  # as Ray Serve does where the client is gone
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert front.num_open == 0

    asyncio.run(whole())
    assert ended == ["cancelled"]


def test_the_page_shows_every_path_and_loads_nothing_from_elsewhere() -> None:
    app = app_of(front_of())
    shown = ask(app, "GET", "/docs").body.decode()
    for path in app.openapi()["paths"]:
        assert path in shown
    assert "src=" not in shown
    assert "http://" not in shown and "https://" not in shown
    assert json.loads(ask(app, "GET", "/openapi.json").body)["info"]["title"] == "Adapters"
