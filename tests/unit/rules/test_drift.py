"""Drift that is planted is found and named, and where there is none, none is found."""

import json
import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.config import DriftConfig, TaskConfig
from pipeline.config.strict import build
from pipeline.core.data.rows import Row, make_row
from pipeline.core.tasks.kinds import restore
from pipeline.errors import ConfigError
from pipeline.rules import drift as module
from pipeline.rules.drift import Drift, Sample, choose, findings, retrain_reason
from pipeline.rules.shifts import embedding_shift, label_shift, number_shift

CONFIG = DriftConfig(policy="drift")
NAMES = ["praise", "blame", "question", "order"]
SHARES = [0.4, 0.3, 0.2, 0.1]


def sample(
    seed: int,
    num: int = 300,
    *,
    shares: list[float] = SHARES,
    names: list[str] = NAMES,
    length: float = 20,
    shift: float = 0.0,
    score: float = 0.9,
) -> Sample:
    """Rows of one world: labels, lengths around `length`, embeddings of which the first 8 of 32 axes are shifted."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(num, 32))
    vectors[:, :8] += shift
    return Sample(
        labels=[(str(label),) for label in rng.choice(names, num, p=shares)],
        lengths=rng.poisson(length, num).tolist(),
        vectors=vectors.astype(np.float32),
        score=score,
    )


def measure(old: Sample, new: Sample) -> Drift:
    return module.measure(old, new, CONFIG)


@pytest.mark.parametrize("seed", range(10))
def test_no_drift_is_found_between_rows_of_the_same_world(seed: int) -> None:
    drift = measure(sample(2 * seed), sample(2 * seed + 1, num=150))
    decision = retrain_reason(drift, 150, CONFIG)
    assert not decision.retrain
    assert decision.reason.startswith("no drift in 150 new rows: label distance: 0.")


def test_p_values_alone_keep_their_level_where_nothing_differs() -> None:
    """Whatever the thresholds: of 100 pairs of the same world, about 5 % have a test below its share of 5 %."""
    config = replace(CONFIG, label_distance=1e-9, length_distance=1e-9, embedding_auc=0.0)
    flagged = sum(bool(findings(measure(sample(2 * s, 60), sample(2 * s + 1, 40)), config)) for s in range(100))
    assert 1 <= flagged <= 12  # P(X > 12) of 100 draws at 5 % is 0.15 %


def test_labels_within_a_row_are_no_independent_draws() -> None:
    """Sentences that name one type of entity many times: the chi-square distribution would see drift in most pairs."""
    p_values = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rows = [[str(rng.choice(["PER", "LOC"]))] * int(rng.integers(1, 9)) for _ in range(120)]
        shift = label_shift(rows[:60], rows[60:])
        assert shift
        p_values.append(shift.p_value)
    assert sum(p < 0.05 for p in p_values) <= 8  # P(X > 8) of 60 draws at 5 % is 0.3 %


@pytest.mark.parametrize("seed", range(3))
def test_a_shift_of_label_shares_is_found_and_named(seed: int) -> None:
    drift = measure(sample(seed), sample(seed + 50, 150, shares=[0.1, 0.3, 0.2, 0.4]))
    assert drift.labels
    assert {move.label for move in drift.labels.moved[:2]} == {"praise", "order"}
    [found] = findings(drift, CONFIG)
    assert found.startswith("label shares moved by 0.")
    assert "(least 0.1, p 0.0005): " in found
    decision = retrain_reason(drift, 150, CONFIG)
    assert decision.retrain
    assert decision.reason == found


@pytest.mark.parametrize("seed", range(3))
def test_a_shift_of_length_is_found_and_named(seed: int) -> None:
    drift = measure(sample(seed), sample(seed + 50, 150, length=28))
    assert drift.lengths
    assert (drift.lengths.old_median, drift.lengths.new_median) == pytest.approx((20, 28), abs=1.5)
    [found] = findings(drift, CONFIG)
    assert found.startswith("lengths moved by 0.")
    assert found.endswith(f"median {drift.lengths.old_median:g} -> {drift.lengths.new_median:g}")


def test_a_shift_of_targets_that_are_numbers_is_found_and_named() -> None:
    rng = np.random.default_rng(0)
    old, same, high = (rng.normal(mean, 1, 300).tolist() for mean in (3.0, 3.0, 3.6))
    drift = measure(replace(sample(0), labels=[], numbers=old), replace(sample(1), labels=[], numbers=same))
    assert findings(drift, CONFIG) == () and drift.labels is None
    drift = measure(replace(sample(0), labels=[], numbers=old), replace(sample(1), labels=[], numbers=high))
    assert drift.numbers
    [found] = findings(drift, CONFIG)
    assert found.startswith("targets moved by 0.2") and "(least 0.1, p " in found
    assert found.endswith(": median 2.923 -> 3.557")
    assert drift.metrics()["drift/target_distance"] == drift.numbers.distance
    assert "target distance" in [line.partition(":")[0] for line in drift.lines()]


@pytest.mark.parametrize("seed", range(3))
def test_a_shift_of_topic_is_found_and_named(seed: int) -> None:
    drift = measure(sample(seed), sample(seed + 50, 150, shift=0.6))
    [found] = findings(drift, CONFIG)
    assert found.startswith("texts moved: new rows are told from old by their embeddings with an AUC of 0.")
    assert drift.embeddings
    assert drift.embeddings.auc > 0.75
    assert drift.embeddings.p_value == 1 / 2000
    assert drift.embeddings.mmd2 > 0


def test_a_drop_of_the_score_is_found_and_named() -> None:
    old, new = sample(0), sample(1, 150)
    [found] = findings(measure(old, replace(new, score=0.85)), CONFIG)
    scores = "0.900 on its past slice, 0.850 on the new rows"
    assert found == f"the champion's score dropped by 0.050 (least 0.03): {scores}"
    assert findings(measure(old, replace(new, score=0.88)), CONFIG) == ()
    assert findings(measure(old, replace(new, score=0.85, high=0.91)), CONFIG) == ()  # it may be chance
    assert len(findings(measure(old, replace(new, score=0.85, high=0.89)), CONFIG)) == 1
    assert findings(measure(old, replace(new, score=0.99)), CONFIG) == ()
    [found] = findings(measure(old, replace(new, score=math.nan)), CONFIG)
    assert found.endswith("is no number")


def test_a_new_label_is_a_reason_at_any_distance_and_is_named_with_its_number() -> None:
    old, new = sample(0), sample(1, 150)
    drift = measure(old, replace(new, labels=[*new.labels[:-2], ("thanks",), ("thanks",)]))
    assert drift.labels
    assert drift.labels.appeared == {"thanks": 2}
    assert retrain_reason(drift, 150, CONFIG).reason == "new label: thanks (2)"


def test_a_label_that_went_away_is_named() -> None:
    drift = measure(sample(0), sample(1, 150, shares=[0.5, 0.3, 0.2], names=NAMES[:3]))
    assert drift.labels
    assert drift.labels.gone == ("order",)
    assert "; gone: order" in findings(drift, CONFIG)[0]


def test_every_difference_is_named_not_the_first_alone() -> None:
    new = sample(9, 150, shares=[0.1, 0.3, 0.2, 0.4], length=28, shift=0.6, score=0.5)
    reason = retrain_reason(measure(sample(0), new), 150, CONFIG).reason
    parts = [part.split()[0:2] for part in reason.split("; ")]
    assert parts == [["label", "shares"], ["lengths", "moved"], ["texts", "moved:"], ["the", "champion's"]]


def test_a_difference_that_is_significant_but_small_is_no_drift() -> None:
    drift = measure(sample(0, 20_000), sample(1, 20_000, shares=[0.37, 0.3, 0.2, 0.13], length=20.6))
    assert drift.labels
    assert drift.lengths
    assert drift.labels.p_value < 0.001
    assert drift.lengths.p_value < 0.001
    assert findings(drift, CONFIG) == ()


def test_a_difference_that_is_large_but_of_few_rows_is_no_drift() -> None:
    drift = measure(sample(0, 8), sample(2, 8))
    assert drift.labels
    assert drift.labels.distance > CONFIG.label_distance
    assert findings(drift, CONFIG) == ()


def test_too_few_new_rows_wait_whatever_they_are() -> None:
    drift = measure(sample(0), sample(1, 49, shift=3.0))
    for policy in ("drift", "always"):
        decision = retrain_reason(drift, 49, DriftConfig(policy=policy))
        assert not decision.retrain
        assert decision.reason == "49 new rows, fewer than the 50 that are worth a retraining"


def test_always_retrains_without_drift_and_says_what_drift_there_is() -> None:
    config = DriftConfig(policy="always")
    same = measure(sample(0), sample(1, 150))
    assert retrain_reason(same, 150, config).retrain
    assert retrain_reason(same, 150, config).reason == "150 new rows, and the policy is to retrain always"
    moved = measure(sample(0), sample(1, 150, length=40))
    assert "always; lengths moved by" in retrain_reason(moved, 150, config).reason
    assert retrain_reason(None, 150, config).retrain


def test_where_nothing_can_be_measured_a_challenger_is_trained() -> None:
    nothing = Drift(num_old=0, num_new=150, labels=None, numbers=None, lengths=None, embeddings=None, score=None)
    for drift in (None, nothing):
        decision = retrain_reason(drift, 150, CONFIG)
        assert decision.retrain
        assert decision.reason == "150 new rows, and no drift could be measured"


def test_label_distance_is_half_the_sum_of_differences() -> None:
    shift = label_shift([["a"]] * 6 + [["b"]] * 4, [["a"]] * 3 + [["b"]] * 5 + [["c"]] * 2)
    assert shift
    assert shift.distance == pytest.approx((0.3 + 0.1 + 0.2) / 2)
    assert [(move.label, move.old, move.new) for move in shift.moved] == [
        ("a", 0.6, 0.3),
        ("c", 0.0, 0.2),
        ("b", 0.4, 0.5),
    ]


def test_label_p_value_is_that_of_the_exact_test() -> None:
    from scipy.stats import fisher_exact  # type: ignore[import-untyped]

    shift = label_shift([["a"]] * 12 + [["b"]] * 8, [["a"]] * 6 + [["b"]] * 14)
    assert shift
    # With two labels and equal sides chi-square orders the tables as their probabilities do.
    assert shift.p_value == pytest.approx(fisher_exact([[12, 8], [6, 14]]).pvalue, abs=0.02)


def test_sides_without_any_label_differ_wholly() -> None:
    rows: list[list[str]] = [["PER"], ["LOC", "PER"]] * 10
    shift = label_shift(rows, [[]] * 20)
    assert shift
    assert shift.distance == 1.0
    assert shift.p_value < 0.001
    assert shift.gone == ("PER", "LOC")
    assert label_shift([[]] * 3, [[]] * 3) is None
    assert label_shift(rows, []) is None


def test_a_side_without_rows_is_not_compared() -> None:
    assert number_shift([], [1, 2]) is None
    assert embedding_shift(np.zeros((3, 2), np.float32), np.zeros((9, 2), np.float32)) is None


def test_equal_embeddings_do_not_differ() -> None:
    """The same text over and over, on both sides: no scale, and nothing to tell."""
    shift = embedding_shift(np.ones((20, 4), np.float32), np.ones((10, 4), np.float32))
    assert shift
    assert (shift.auc, shift.p_value) == (0.5, 1.0)
    assert shift.mmd2 == pytest.approx(0.0)


def test_discrepancy_is_that_of_its_formula() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    both = [*old.astype(float), *new.astype(float)]
    median = np.median([np.sum((a - b) ** 2) for i, a in enumerate(both) for b in both[:i]])

    def mean(xs: list[Any], ys: list[Any]) -> float:
        return float(np.mean([np.exp(-np.sum((x - y) ** 2) / (2 * median)) for x in xs for y in ys if x is not y]))

    xs, ys = both[:5], both[5:]
    shift = embedding_shift(old, new)
    assert shift
    assert shift.mmd2 == pytest.approx(mean(xs, xs) + mean(ys, ys) - 2 * mean(xs, ys))
    assert (shift.num_old, shift.num_new) == (5, 4)


def test_five_hundred_rows_a_side_are_compared_in_seconds() -> None:
    rng = np.random.default_rng(0)
    old, new = (rng.normal(size=(500, 384)).astype(np.float32) for _ in range(2))
    start = time.perf_counter()
    embedding_shift(old, new)
    assert time.perf_counter() - start < 15  # 0.7 to 1 s on two cores that 14 processes wanted


def test_no_more_embeddings_are_compared_than_the_config_says() -> None:
    found = module.measure(sample(0, 100), sample(1, 80), replace(CONFIG, max_rows=60)).embeddings
    assert found
    assert (found.num_old, found.num_new) == (60, 60)


def test_the_same_rows_give_the_same_numbers() -> None:
    first, second = (measure(sample(0), sample(1, 150, shift=0.3)) for _ in range(2))
    assert first == second


def test_metrics_are_finite_floats_and_records_plain_json() -> None:
    drift = measure(sample(0), sample(1, 150, score=math.nan))
    found = drift.metrics()
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    assert sorted(found) == [
        "drift/embedding_auc",
        "drift/embedding_mmd2",
        "drift/embedding_p",
        "drift/gone_labels",
        "drift/label_distance",
        "drift/label_p",
        "drift/length_distance",
        "drift/length_p",
        "drift/new_labels",
        "drift/new_length",
        "drift/new_rows",
        "drift/old_length",
        "drift/old_rows",
        "drift/past_score",
    ]
    records = json.loads(json.dumps(drift.records(), allow_nan=False))
    names = ["label distance", "length distance", "embedding AUC", "score drop"]
    assert [record["measure"] for record in records] == names
    assert records[3] == {"measure": "score drop", "size": None, "p_value": None, "detail": "0.900 -> nan"}
    assert [line.split(":")[0] for line in drift.lines()] == names


def row(task: TaskConfig, **fields: Any) -> Row:
    made = next(make_row(fields, task, "rows:1"))
    assert isinstance(made, Row)
    return made


def test_labels_of_a_row_by_kind() -> None:
    task = TaskConfig(name="t", kind="classification")
    assert restore(task).labels_of(row(task, text="x", label="good")) == ("good",)
    task = TaskConfig(name="t", kind="tagging")
    tags = ["B-PER", "I-PER", "B-PER", "O", "B-LOC"]
    assert restore(task).labels_of(row(task, tokens=list("abcde"), tags=tags)) == ("PER", "PER", "LOC")
    task = TaskConfig(name="t", kind="multiple_choice")
    assert restore(task).labels_of(row(task, question="x", options=["a", "b"], answer=1)) == ("1",)
    task = TaskConfig(name="t", kind="extractive_qa")
    answers = {"text": ["x"], "answer_start": [0]}
    assert restore(task).labels_of(row(task, question="x", context="x", answers=answers)) == ()
    task = TaskConfig(name="t", kind="generation")
    assert restore(task).labels_of(row(task, text="x", target="y")) == ()
    task = TaskConfig(name="t", kind="generation", completion="{label}")
    assert restore(task).labels_of(row(task, text="x", label="good")) == ("good",)


def test_rows_are_chosen_whatever_their_order() -> None:
    task = TaskConfig(name="t", kind="classification")
    rows = [row(task, text=str(number), label="a") for number in range(50)]
    chosen = choose(rows, 20)
    assert chosen == choose(rows[::-1], 20)
    assert len({one.digest for one in chosen}) == 20
    assert chosen != rows[:20]
    assert len(choose(rows, 99)) == 50


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("policy", "never", "drift.policy: 'never' must be one of always, drift"),
        ("min_new_rows", 0, "drift.min_new_rows: '0' must be above 0"),
        ("significance", 0.001, "drift.significance: '0.001' must be between 0.01 and 0.5"),
        ("label_distance", 0.0, "drift.label_distance: '0.0' must be above 0"),
        ("length_distance", 1.5, "drift.length_distance: '1.5' must be between 0 and 1"),
        ("embedding_auc", 0.4, "drift.embedding_auc: '0.4' must be between 0.5 and 1"),
        ("score_drop", math.nan, "drift.score_drop: 'nan' must be a finite number"),
        ("max_rows", 3, "drift.max_rows: '3' must be between 20 and 5000"),
    ],
)
def test_faults_of_the_config(key: str, value: object, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(DriftConfig, {key: value}, "drift")
    assert fault in str(caught.value)


def test_least_significance_can_be_reached_by_the_permutations() -> None:
    """A test that cannot get below its share of the significance would never find anything."""
    drift = measure(sample(0), sample(1, 150, shift=2.0, shares=[0.0, 0.0, 0.0, 1.0], length=60))
    assert len(findings(drift, replace(CONFIG, significance=0.01))) == 3
