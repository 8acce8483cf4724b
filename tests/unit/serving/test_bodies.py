"""Bodies into items, answers into Hugging Face's shapes, and the limits of what is asked."""

from typing import Any

import pytest

from pipeline.config.serve import ServingConfig
from pipeline.serving.bodies import checked, example_of, items_of, shown, top_k_of, unreadable
from pipeline.serving.state import Problem

LIMITS = ServingConfig(max_rows=3, max_chars=10)


@pytest.mark.parametrize(
    ("kind", "answer", "expected"),
    [
        (
            "classification",
            {"label": "bad", "score": 0.75, "scores": {"good": 0.25, "bad": 0.75}},
            [{"label": "bad", "score": 0.75}, {"label": "good", "score": 0.25}],
        ),
        (
            "multi_label",
            {"labels": ["art"], "scores": {"art": 0.4, "law": 0.45}},
            [{"label": "law", "score": 0.45, "said": False}, {"label": "art", "score": 0.4, "said": True}],
        ),
        ("regression", {"score": 3.5}, [{"score": 3.5}]),
        (
            "tagging",
            {
                "tags": ["B-LOC", "O"],
                "entities": [
                    {"type": "LOC", "text": "Oslo", "start": 0, "end": 1, "start_char": 2, "end_char": 6, "score": 0.9}
                ],
            },
            [{"entity_group": "LOC", "score": 0.9, "word": "Oslo", "start": 2, "end": 6}],
        ),
        ("tagging", {"tags": ["O"], "entities": []}, []),
        (
            "extractive_qa",
            {"answer": "Oslo", "score": 0.5, "start": 3, "end": 7},
            [{"answer": "Oslo", "score": 0.5, "start": 3, "end": 7}],
        ),
        (
            "extractive_qa",
            {"answer": "", "score": 0.6, "start": 0, "end": 0, "no_answer": 0.6},
            [{"answer": "", "score": 0.6, "start": 0, "end": 0, "no_answer": 0.6}],
        ),
        (
            "multiple_choice",
            {"answer": 1, "option": "b", "scores": [0.2, 0.8], "options": ["a", "b"]},
            [{"label": "b", "score": 0.8, "index": 1}, {"label": "a", "score": 0.2, "index": 0}],
        ),
        ("generation", {"text": "a plot"}, [{"generated_text": "a plot"}]),
    ],
)
def test_each_kind_answers_in_the_shape_of_hugging_face(
    kind: str, answer: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    assert shown(kind, answer, None) == expected


def test_a_text_that_was_cut_says_so_in_each_part_of_its_answer() -> None:
    answer = {"scores": {"a": 0.6, "b": 0.4}, "truncated": True}
    assert shown("classification", answer, 1) == [{"label": "a", "score": 0.6, "truncated": True}]


def test_top_k_is_the_beginning_of_a_ranking() -> None:
    answer = {"scores": {"a": 0.2, "b": 0.5, "c": 0.3}}
    assert shown("classification", answer, 2) == [{"label": "b", "score": 0.5}, {"label": "c", "score": 0.3}]


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
    problem = top_k_of(kind, parameters)
    assert isinstance(problem, Problem)
    assert (problem.status, problem.error_type) == (422, "bad_body")
    assert message in problem.error


def test_parameters_that_are_left_out_ask_for_all_labels() -> None:
    assert [top_k_of("classification", one) for one in (None, {}, {"top_k": None}, {"top_k": 2})] == [
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
    assert example_of("classification", ["text"]) == "I loved every minute of it."
    assert example_of("tagging", ["tokens"]) == "Anna went from Oslo to Rome."
    assert example_of("extractive_qa", ["question", "context"]) == {
        "question": "Where was Anna born?",
        "context": "Anna was born in Oslo and went to Rome.",
    }
