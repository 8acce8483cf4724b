"""The statistics behind the intervals agree with the libraries, and the intervals with theory."""

import math
import random
import sys

import numpy as np
import pytest
from seqeval.metrics.sequence_labeling import get_entities
from sklearn.metrics import f1_score

from pipeline.core.tasks import metrics
from pipeline.core.tasks.metrics import spans


def labels(seed: int, number: int, names: str = "abcd") -> list[str]:
    return random.Random(seed).choices(names, k=number)


def tags(seed: int, number: int) -> list[list[str]]:
    """Random tags, broken BIO among them."""
    rng = random.Random(seed)
    known = ["O", "O", "O", "B-per", "I-per", "B-creative-work", "I-creative-work"]
    return [rng.choices(known, k=rng.randint(1, 12)) for _ in range(number)]


def disturbed(gold: list[list[str]]) -> list[list[str]]:
    """The same tags but for three in ten."""
    rng = random.Random(1)
    return [[tag if rng.random() < 0.7 else "I-per" for tag in row] for row in gold]


def test_the_accuracy_statistic_equals_scikit_learn() -> None:
    gold, predicted = labels(0, 200), labels(1, 200)
    sums = metrics.match_counts(gold, predicted).sum(0)
    assert float(metrics.mean_of(sums)) == pytest.approx(metrics.accuracy(gold, predicted))
    assert 0 < metrics.accuracy(gold, predicted) < 1


@pytest.mark.parametrize("predicted_names", ["abcd", "a", "xy"])
def test_the_macro_f1_statistic_equals_scikit_learn(predicted_names: str) -> None:
    gold, predicted = labels(0, 200), labels(1, 200, predicted_names)
    sums = metrics.label_counts(gold, predicted).sum(0)
    assert float(metrics.macro_f1_of(sums)) == pytest.approx(metrics.macro_f1(gold, predicted))


def test_the_macro_f1_statistic_equals_scikit_learn_on_a_resample_without_a_label() -> None:
    gold, predicted = [*labels(0, 20, "ab"), "c"], [*labels(1, 20, "ab"), "c"]
    weights = np.array([2.0] * 10 + [0.0] * 11)
    drawn = [*gold[:10], *gold[:10]], [*predicted[:10], *predicted[:10]]
    expected = f1_score(*drawn, average="macro", zero_division=0)
    value = metrics.macro_f1_of(weights @ metrics.label_counts(gold, predicted))
    assert float(value) == pytest.approx(expected)


def test_the_span_statistic_equals_seqeval_with_broken_bio_too() -> None:
    gold = tags(0, 200)
    predicted = disturbed(gold)
    sums = metrics.span_counts([spans(row) for row in gold], [spans(row) for row in predicted]).sum(0)
    library = metrics.span_scores(gold, predicted)
    assert float(metrics.f1_of(sums)) == pytest.approx(library["f1"])
    assert sums[0] / sums[1] == pytest.approx(library["precision"])
    assert sums[0] / sums[2] == pytest.approx(library["recall"])
    assert 0.1 < library["f1"] < 0.9


def test_span_scores_without_any_entity_are_0_and_warn_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    assert metrics.span_scores([["O"]], [["O"]])["f1"] == 0
    assert float(metrics.f1_of(np.zeros(3))) == 0
    assert not recwarn.list


def test_the_values_are_the_same_without_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    gold, predicted = labels(0, 200), labels(1, 200)
    gold_tags = tags(0, 100)
    predicted_tags = disturbed(gold_tags)

    def values() -> list[float]:
        both = [metrics.accuracy(gold, predicted), metrics.macro_f1(gold, predicted)]
        return [*both, *metrics.span_scores(gold_tags, predicted_tags).values()]

    with_libraries = values()
    for name in ("sklearn.metrics", "seqeval.metrics.sequence_labeling"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it now raises ModuleNotFoundError
    assert values() == pytest.approx(with_libraries)
    assert metrics.span_scores([["O"]], [["O"]]) == {"f1": 0, "precision": 0, "recall": 0}


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    hits = [True] * 320 + [False] * 80
    low, high = metrics.interval(metrics.value_counts(hits), metrics.mean_of)
    half = 1.96 * math.sqrt(0.8 * 0.2 / 400)
    assert low == pytest.approx(0.8 - half, abs=0.004)
    assert high == pytest.approx(0.8 + half, abs=0.004)
    assert (low, high) == metrics.interval(metrics.value_counts(hits), metrics.mean_of)


def test_spans_are_read_as_seqeval_reads_them() -> None:
    for row in tags(2, 500):
        assert spans(row) == [(type_, start, end + 1) for type_, start, end in get_entities(row)]


def test_the_interval_of_a_constant_is_the_constant() -> None:
    assert metrics.interval(metrics.value_counts([1.0] * 9), metrics.mean_of) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "f1"),
    [
        ("The  cat!", ["cat"], 1, 1),
        ("a black cat", ["white", "black cats", "cat"], 0, 2 / 3),
        ("cat cat", ["cat"], 0, 2 / 3),
        ("dog", ["cat"], 0, 0),
        ("", ["cat"], 0, 0),
        ("COVID-19", ["covid19"], 1, 1),
    ],
)
def test_answers_are_compared_as_squad_does(answer: str, gold: list[str], exact: float, f1: float) -> None:
    assert metrics.exact_match(answer, gold) == exact
    assert metrics.word_f1(answer, gold) == pytest.approx(f1)


def test_entity_scores_name_each_type_once_and_no_average() -> None:
    gold = [["B-per", "O", "B-loc"], ["B-per", "I-per", "O"]]
    predicted = [["B-per", "O", "O"], ["B-per", "O", "B-loc"]]
    assert metrics.entity_scores(gold, predicted) == {
        "loc": {"precision": 0, "recall": 0, "f1": 0, "support": 1},
        "per": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2},
    }
