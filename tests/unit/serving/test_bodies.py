"""Bodies into items, and the limits of what is asked."""

from typing import Any

import pytest

from pipeline.config.serve import ServingConfig
from pipeline.serving.bodies import checked, example_of, items_of, top_k_of, unreadable
from pipeline.serving.state import Problem
from tests.unit.serving.clients import standing

LIMITS = ServingConfig(max_rows=3, max_chars=10)


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("classification", {"top_p": 1}, "parameters.top_p: is no parameter of classification. It takes top_k."),
        ("tagging", {"top_k": 1}, "parameters.top_k: is no parameter of tagging. It takes none: leave it out."),
        ("classification", {"top_k": 0}, "must be a whole number of 1 or more"),
        ("classification", {"top_k": True}, "must be a whole number of 1 or more"),
        ("multiple_choice", {"top_k": 1.5}, "must be a whole number of 1 or more"),
    ],
)
def test_a_parameter_that_means_nothing_is_refused(kind: str, parameters: dict[str, Any], message: str) -> None:
    problem = top_k_of(standing("one", kind), parameters)
    assert isinstance(problem, Problem)
    assert (problem.status, problem.error_type) == (422, "bad_body")
    assert message in problem.error


def test_parameters_that_are_left_out_ask_for_all_labels() -> None:
    assert [top_k_of(standing("one"), one) for one in (None, {}, {"top_k": None}, {"top_k": 2})] == [
        None, None, None, 2,
    ]  # fmt: skip


def test_a_list_is_many_inputs_and_anything_else_is_one() -> None:
    assert items_of(["a", "b"]) == (["a", "b"], True)
    assert items_of({"tokens": ["a", "b"]}) == ([{"tokens": ["a", "b"]}], False)


@pytest.mark.parametrize(
    ("items", "status", "message"),
    [
        ([], 422, "inputs: '[]' is empty"),
        (["a"] * 4, 413, "has 4 inputs, and a request may have 3"),
        (["a", "b" * 11], 413, "inputs[1]: has 11 characters, and an input may have 10"),
        ([{"tokens": ["aaaa", "bbbbbb"]}], 413, "has 16 characters"),
    ],
)
def test_what_is_too_much_is_refused(items: list[Any], status: int, message: str) -> None:
    problem = checked(items, LIMITS)
    assert problem is not None
    assert problem.status == status
    assert message in problem.error


def test_a_body_that_is_deep_or_no_text_is_found_without_recursion() -> None:
    deep: Any = "a"
    for _ in range(100_000):
        deep = [deep]
    assert unreadable(deep) == "is nested too deep"
    assert unreadable([{"task": "t", "inputs": [{"options": ["a", "b"]}]}]) == ""
    assert unreadable({"inputs": ["\ud800"]}).startswith("holds half of a surrogate pair")
    assert unreadable({"\udc00": 1}).startswith("holds half of a surrogate pair")


def test_the_example_has_the_fields_of_the_task() -> None:
    assert example_of(["text"]) == "I loved every minute of it."
    assert example_of(["tokens"]) == "Anna went from Oslo to Rome."
    assert example_of(["question", "context"]) == {
        "question": "Where was Anna born?",
        "context": "Anna was born in Oslo and went to Rome.",
    }
