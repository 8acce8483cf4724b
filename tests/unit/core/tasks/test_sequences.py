"""Sequences of tags: the probability of an entity, held against a sum over every sequence that there is."""

from itertools import pairwise, product

import numpy as np
import pytest

from pipeline.core.tasks.metrics import spans
from pipeline.core.tasks.sequences import likeliest, span_probabilities

TAGS = ["O", "B-a", "I-a", "B-b", "I-b"]
FOLLOWS = np.array([[tag[:2] != "I-" or tag[2:] == before[2:] for tag in TAGS] for before in TAGS])


def test_the_probability_of_an_entity_is_that_of_all_sequences_with_exactly_it() -> None:
    checked = 0
    for seed in range(12):
        logits = np.random.default_rng(seed).normal(scale=2, size=(4, 5)).astype(np.float32)
        sums: dict[tuple[str, int, int], float] = {}
        total = 0.0
        for numbers in product(range(5), repeat=4):
            if all(FOLLOWS[before, tag] for before, tag in pairwise((0, *numbers))):
                weight = float(np.exp(sum(float(logits[i, number]) for i, number in enumerate(numbers))))
                total += weight
                for span in spans([TAGS[number] for number in numbers]):
                    sums[span] = sums.get(span, 0.0) + weight
        tags = likeliest(logits, FOLLOWS, 0)
        found = spans([TAGS[number] for number in tags])
        scores = span_probabilities(logits, FOLLOWS, 0, tags, found)
        assert scores == pytest.approx([sums[span] / total for span in found], rel=1e-9)
        checked += len(found)
    assert checked > 12


def test_a_tag_that_can_be_no_other_has_a_probability_of_1_and_no_sum_is_0() -> None:
    logits = np.full((2, 5), -np.inf, dtype=np.float32)
    logits[0, 1], logits[1, 0] = 0.0, 0.0
    assert span_probabilities(logits, FOLLOWS, 0, [1, 0], [("a", 0, 1)]) == [1.0]
    logits = np.array([[0, 0, 5000, 0, 0], [0, 0, 5000, 0, 0]], dtype=np.float32)  # I-a, where no a is open
    tags = likeliest(logits, FOLLOWS, 0)
    assert [TAGS[number] for number in tags] == ["B-a", "I-a"]
    assert span_probabilities(logits, FOLLOWS, 0, tags, [("a", 0, 2)]) == [pytest.approx(1.0)]


def test_without_entities_nothing_is_computed() -> None:
    assert span_probabilities(np.zeros((0, 5), dtype=np.float32), FOLLOWS, 0, [], []) == []
