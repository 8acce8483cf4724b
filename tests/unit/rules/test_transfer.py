"""Numbers worked out by hand from the formulas of the papers."""

import json
import math

import numpy as np
import pytest

from pipeline.rules.transfer import Mean, continual_metrics, continual_records, flat

NAN = math.nan
TWO = np.array([[0.9, 0.3], [0.7, 0.8]])
THREE = np.array([[0.9, 0.4, 0.2], [0.6, 0.8, 0.5], [0.7, 0.5, 1.0]])


def same(found: Mean, value: float, known: int, wanted: int) -> bool:
    is_value = math.isnan(found.value) if math.isnan(value) else found.value == pytest.approx(value)
    return is_value and (found.known, found.wanted) == (known, wanted)


def test_two_periods() -> None:
    _, last = continual_metrics(TWO, [0.5, 0.1])
    assert same(last.average_accuracy, (0.7 + 0.8) / 2, 2, 2)
    assert same(last.backward_transfer, 0.7 - 0.9, 1, 1)
    assert same(last.forward_transfer, 0.3 - 0.1, 1, 1)
    assert same(last.forgetting, 0.9 - 0.7, 1, 1)


def test_three_periods_version_by_version() -> None:
    first, second, last = continual_metrics(THREE, [0.3, 0.1, 0.4])
    assert same(first.average_accuracy, 0.9, 1, 1)
    for nothing in (first.backward_transfer, first.forward_transfer, first.forgetting):
        assert same(nothing, NAN, 0, 0)
    assert same(second.average_accuracy, (0.6 + 0.8) / 2, 2, 2)
    assert same(second.backward_transfer, 0.6 - 0.9, 1, 1)
    assert same(second.forward_transfer, 0.4 - 0.1, 1, 1)
    assert same(second.forgetting, 0.9 - 0.6, 1, 1)
    assert same(last.average_accuracy, (0.7 + 0.5 + 1.0) / 3, 3, 3)
    assert same(last.backward_transfer, ((0.7 - 0.9) + (0.5 - 0.8)) / 2, 2, 2)
    assert same(last.forward_transfer, ((0.4 - 0.1) + (0.5 - 0.4)) / 2, 2, 2)
    assert same(last.forgetting, ((0.9 - 0.7) + (0.8 - 0.5)) / 2, 2, 2)


def test_forgetting_is_from_the_best_version_since_the_slice_was_trained_on_not_from_the_first() -> None:
    scores = np.array([[0.6, 0.99, 0.0], [0.9, 0.7, 0.0], [0.5, 0.8, 0.7]])
    last = continual_metrics(scores)[-1]
    # Slice 1: the best is version 2's. Slice 2: version 1 did not know it yet, and what it guessed is not forgotten.
    assert same(last.forgetting, ((0.9 - 0.5) + (0.7 - 0.8)) / 2, 2, 2)
    assert same(last.backward_transfer, ((0.5 - 0.6) + (0.8 - 0.7)) / 2, 2, 2)


def test_a_rejected_period_repeats_the_champion_and_transfers_nothing() -> None:
    rejected = np.array([[0.9, 0.4], [0.9, 0.4]])
    last = continual_metrics(rejected, [0.0, 0.4])[-1]
    assert same(last.average_accuracy, 0.65, 2, 2)
    for nothing in (last.backward_transfer, last.forward_transfer, last.forgetting):
        assert same(nothing, 0.0, 1, 1)


def test_a_mean_over_what_is_known_says_of_how_many() -> None:
    scores = np.array([[0.9, NAN, NAN], [0.6, NAN, NAN], [0.7, 0.5, 1.0]])
    last = continual_metrics(scores, [NAN, 0.1, 0.4])[-1]
    assert same(last.average_accuracy, (0.7 + 0.5 + 1.0) / 3, 3, 3)
    assert same(last.backward_transfer, 0.7 - 0.9, 1, 2)
    assert same(last.forward_transfer, NAN, 0, 2)
    assert same(last.forgetting, 0.9 - 0.7, 1, 2)
    assert last.average_accuracy.complete
    assert not last.backward_transfer.complete


def test_forward_transfer_is_not_known_without_an_untrained_score() -> None:
    assert same(continual_metrics(THREE)[-1].forward_transfer, NAN, 0, 2)


def test_metrics_for_a_run_leave_out_what_is_unknown_and_say_what_is_missing() -> None:
    scores = np.array([[0.9, NAN, NAN], [0.6, NAN, NAN], [0.7, 0.5, NAN]])
    assert flat(continual_metrics(scores)[-1]) == {
        "continual/average_accuracy": pytest.approx(0.6),
        "continual/average_accuracy_missing": 1.0,
        "continual/backward_transfer": pytest.approx(-0.2),
        "continual/backward_transfer_missing": 1.0,
        "continual/forgetting": pytest.approx(0.2),
        "continual/forgetting_missing": 1.0,
    }
    assert flat(continual_metrics(np.array([[0.5]]))[-1]) == {"continual/average_accuracy": 0.5}


def test_records_are_plain_json_without_nan() -> None:
    scores = np.array([[0.75, NAN], [0.5, 0.25]])
    records = continual_records(scores, ["spring", "autumn"])
    assert json.loads(json.dumps(records, allow_nan=False)) == [
        {
            "after": "spring",
            "scores": {"spring": 0.75, "autumn": None},
            "average_accuracy": 0.75,
            "backward_transfer": None,
            "forward_transfer": None,
            "forgetting": None,
            "incomplete": [],
        },
        {
            "after": "autumn",
            "scores": {"spring": 0.5, "autumn": 0.25},
            "average_accuracy": 0.375,
            "backward_transfer": -0.25,
            "forward_transfer": None,
            "forgetting": 0.25,
            "incomplete": [],
        },
    ]
    scores = np.array([[0.75, NAN], [NAN, 0.25]])
    assert continual_records(scores, ["spring", "autumn"])[1]["incomplete"] == ["average_accuracy"]


@pytest.mark.parametrize(
    ("scores", "untrained", "message"),
    [
        (np.zeros((2, 3)), None, r"scores must be square.*\(2, 3\)"),
        (np.zeros((0, 0)), None, r"scores must be square.*\(0, 0\)"),
        (np.zeros(4), None, r"scores must be square.*\(4,\)"),
        (np.zeros((2, 2)), [0.5], r"one score for each of 2 slices.*\(1,\)"),
    ],
)
def test_a_matrix_of_another_shape_is_refused(scores: object, untrained: list[float] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        continual_metrics(scores, untrained)  # type: ignore[arg-type]


def test_records_of_other_periods_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        continual_records(TWO, ["spring"])
