"""The values and the statistics behind the intervals agree with the libraries, and the intervals with theory."""

import math
import random

import numpy as np
import pytest
from seqeval.metrics import classification_report
from seqeval.metrics import f1_score as f1_of_seqeval
from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, recall_score

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


@pytest.mark.parametrize("predicted_names", ["abcd", "a", "xy"])
def test_accuracy_and_macro_f1_are_those_of_scikit_learn(predicted_names: str) -> None:
    """Also where a label is never predicted, or no gold one is."""
    gold, predicted = labels(0, 200), labels(1, 200, predicted_names)
    assert metrics.accuracy(gold, predicted) == accuracy_score(gold, predicted)
    assert metrics.macro_f1(gold, predicted) == f1_score(gold, predicted, average="macro", zero_division=0)
    sums = metrics.label_counts(gold, predicted).sum(0)
    assert float(metrics.macro_f1_of(sums)) == metrics.macro_f1(gold, predicted)


@pytest.mark.parametrize("names", ["ab", "abcd"])
def test_the_matthews_statistic_is_that_of_scikit_learn_on_a_resample_too(names: str) -> None:
    gold = labels(0, 60, names)
    predicted = [
        wanted if i % 3 else said for i, (wanted, said) in enumerate(zip(gold, labels(1, 60, names), strict=True))
    ]
    counts = metrics.label_counts(gold, predicted)
    assert float(metrics.matthews_of(counts.sum(0))) == pytest.approx(matthews_corrcoef(gold, predicted))
    drawn = [i for i in range(60) for _ in range(i % 3)]
    expected = matthews_corrcoef([gold[i] for i in drawn], [predicted[i] for i in drawn])
    times = np.arange(60) % 3
    assert float(metrics.matthews_of(times @ counts)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("gold", "predicted", "value"), [("aabb", "bbaa", -1), ("aabb", "aaaa", 0), ("aaaa", "aaaa", 0)]
)
def test_matthews_is_minus_1_of_all_wrong_and_0_of_one_label_alone(gold: str, predicted: str, value: float) -> None:
    counts = metrics.label_counts(list(gold), list(predicted))
    assert float(metrics.matthews_of(counts.sum(0))) == value
    assert metrics.interval(counts * 1.0, metrics.matthews_of)[0] == -1  # of four rows


@pytest.mark.parametrize(
    ("negative", "positive", "taken"), [(500, 500, 0.002), (700, 300, 0.00238), (950, 50, 0.01053)]
)
def test_one_error_takes_from_matthews_what_is_said_of_it(negative: int, positive: int, taken: float) -> None:
    gold = ["a"] * negative + ["b"] * positive
    counts = metrics.label_counts(gold, gold)
    assert metrics.row_weight(counts, metrics.matthews_of) == pytest.approx(taken, rel=1e-3)
    for wrong in (["b", *gold[1:]], [*gold[:-1], "a"]):
        value = float(metrics.matthews_of(metrics.label_counts(gold, wrong).sum(0)))
        assert 1 - value == pytest.approx(taken, rel=0.02)


def test_accuracy_and_macro_f1_lie_between_0_and_1() -> None:
    gold, predicted = labels(0, 200), labels(1, 200)
    assert 0 < metrics.macro_f1(gold, predicted) < 1
    assert 0 < metrics.accuracy(gold, predicted) < 1


def test_the_macro_f1_statistic_equals_scikit_learn_on_a_resample_without_a_label() -> None:
    gold, predicted = [*labels(0, 20, "ab"), "c"], [*labels(1, 20, "ab"), "c"]
    weights = np.array([2.0] * 10 + [0.0] * 11)
    drawn = [*gold[:10], *gold[:10]], [*predicted[:10], *predicted[:10]]
    expected = f1_score(*drawn, average="macro", zero_division=0)
    value = metrics.macro_f1_of(weights @ metrics.label_counts(gold, predicted))
    assert float(value) == pytest.approx(expected)


def test_what_is_found_of_each_label_is_its_recall() -> None:
    gold, predicted = labels(0, 200), labels(1, 200)
    found = metrics.found_labels(gold, predicted)
    recalls = recall_score(gold, predicted, labels=sorted(found), average=None)
    assert [right / there for right, there in found.values()] == pytest.approx(recalls.tolist())


def test_what_is_found_of_each_entity_type_is_its_recall() -> None:
    gold = tags(0, 200)
    found = metrics.found_entities(gold, disturbed(gold))
    report = classification_report(gold, disturbed(gold), output_dict=True)
    assert {type_: there for type_, (_, there) in found.items()} == {
        type_: report[type_]["support"] for type_ in ("creative-work", "per")
    }
    for type_, (right, there) in found.items():
        assert right / there == pytest.approx(report[type_]["recall"])


def test_span_scores_are_those_of_seqeval_with_broken_bio_too() -> None:
    gold = tags(0, 200)
    predicted = disturbed(gold)
    precision, recall, f1, _ = precision_recall_fscore_support(gold, predicted, average="micro", zero_division=0)
    scores = metrics.span_scores(gold, predicted)
    assert (scores["precision"], scores["recall"]) == (precision, recall)
    assert scores["f1"] == pytest.approx(f1, rel=1e-15)  # from the counts, not from precision and recall
    assert 0.1 < f1 < 0.9


@pytest.mark.parametrize(
    ("gold", "predicted", "f1"),
    [
        (["B-per", "I-per"], ["I-per", "I-per"], 1.0),  # conlleval opens an entity where strict IOB2 would not
        (["B-per", "I-per"], ["B-per", "I-loc"], 0.0),  # two entities, neither of them with both ends right
        (["B-per", "B-per"], ["B-per", "I-per"], 0.0),  # one entity where there are two
        (["B-per", "O"], ["O", "I-per"], 0.0),
        (["O", "O"], ["O", "B-per"], 0.0),  # nothing to find
    ],
)
def test_an_entity_counts_where_type_and_both_ends_are_right(gold: list[str], predicted: list[str], f1: float) -> None:
    assert metrics.span_scores([gold], [predicted])["f1"] == f1 == f1_of_seqeval([gold], [predicted], zero_division=0)


def test_span_scores_without_any_entity_are_0_and_warn_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    assert metrics.span_scores([["O"]], [["O"]]) == {"f1": 0, "precision": 0, "recall": 0}
    assert float(metrics.f1_of(np.zeros(3))) == 0
    assert not recwarn.list


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


def test_the_interval_of_a_constant_is_what_the_rule_of_three_leaves() -> None:
    assert metrics.interval(metrics.value_counts([1.0] * 100), metrics.mean_of) == pytest.approx((0.9631, 1), abs=1e-4)
    assert metrics.interval(metrics.value_counts([0.5] * 100), metrics.mean_of) == pytest.approx(
        (0.4631, 0.5369), abs=1e-4
    )


def test_the_interval_counts_the_rows_that_carry_the_metric() -> None:
    found = metrics.span_counts([[("PER", 0, 1)]] * 10 + [[]] * 490, [[("PER", 0, 1)]] * 10 + [[]] * 490)
    assert metrics.interval(found, metrics.f1_of) == pytest.approx((0.6311, 1), abs=1e-4)  # of 10 rows, not of 500
    nothing = metrics.span_counts([[]] * 500, [[]] * 500)
    assert metrics.interval(nothing, metrics.f1_of) == (0.0, 1.0)
    gold = ["a"] * 490 + ["b"] * 10
    low, high = metrics.interval(metrics.label_counts(gold, gold), metrics.macro_f1_of)
    assert (low, high) == pytest.approx((1 - 0.3689 / 2, 1), abs=1e-4)  # of 10 rows that carry half of it


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "f1"),
    [
        ("The  cat!", ["cat"], 1, 1),
        ("a black cat", ["white", "black cats", "cat"], 0, 2 / 3),
        ("cat cat", ["cat"], 0, 2 / 3),
        ("dog", ["cat"], 0, 0),
        ("", ["cat"], 0, 0),
        ("COVID-19", ["covid19"], 1, 1),
        ("", [], 1, 1),
        ("cat", [], 0, 0),
        ("The", [], 1, 1),  # as SQuAD 2 does: an article alone is nothing
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


def test_entity_scores_are_those_of_seqevals_report() -> None:
    gold = tags(0, 200)
    predicted = disturbed(gold)
    report = classification_report(gold, predicted, output_dict=True, zero_division=0)
    scores = metrics.entity_scores(gold, predicted)
    assert list(scores) == ["creative-work", "per"] == [name for name in report if not name.endswith(" avg")]
    for name, values in scores.items():
        expected = [report[name][key] for key in ("precision", "recall", "f1-score", "support")]
        assert list(values.values()) == pytest.approx(expected, rel=1e-15)
