"""The gate on a metric of the rows themselves: their values are resampled, not sums of counts."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import GateConfig
from pipeline.core.tasks.correlation import SPEARMAN
from pipeline.rules import paired
from pipeline.rules.evidence import Evidence, SliceEvidence
from pipeline.rules.gate import decide
from pipeline.rules.paired import draw
from tests.unit.rules.decided import checks, numbers, on_past

ALL = np.ones(2, np.bool_)


def scored(name: str, rows: int, noise: tuple[float, float] = (0.5, 0.5), seed: int = 0) -> SliceEvidence:
    """Both sides see the true number with noise, half of which they share."""
    rng = np.random.default_rng([seed, rows])
    gold, shared = rng.normal(size=(2, rows))
    sides = [np.stack([gold, gold + of * (shared + rng.normal(size=rows))], axis=1) for of in noise]
    return SliceEvidence(name=name, champion=sides[0], challenger=sides[1], statistic=SPEARMAN)


def plain(one: SliceEvidence, resamples: int) -> NDArray[np.float64]:
    """The paired bootstrap row by row."""
    from scipy.stats import spearmanr  # type: ignore[import-untyped]

    assert one.champion is not None
    rng = np.random.default_rng(1)
    found = []
    for _ in range(resamples):
        rows = rng.integers(0, len(one.champion), len(one.champion))
        found.append([spearmanr(*side[rows].T).statistic for side in (one.challenger, one.champion)])
    return np.array(found) @ [1.0, -1.0]


def test_the_bounds_are_those_of_the_plain_bootstrap() -> None:
    one = scored("a", 120, noise=(0.5, 0.6))
    assert one.champion is not None
    found = draw("a", one.champion, one.challenger, SPEARMAN, 600).compare(ALL)
    theirs = plain(one, 600)
    assert found.differences_R.std() == pytest.approx(theirs.std(), rel=0.12)
    assert found.differences_R.mean() == pytest.approx(theirs.mean(), abs=0.004)
    low, high = found.bounds(0.95)
    assert low == pytest.approx(np.quantile(theirs, 0.05), abs=0.012)
    assert high == pytest.approx(np.quantile(theirs, 0.95), abs=0.012)


def test_blocks_change_nothing_and_neither_does_the_order_of_rows_and_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [scored("a", 130), scored("b", 170, seed=1)]
    config = GateConfig(resamples=300)
    decided = decide(Evidence(past=parts), config)
    turned = [
        dataclasses.replace(one, champion=one.champion[::-1].copy(), challenger=one.challenger[::-1].copy())
        for one in reversed(parts)
        if one.champion is not None
    ]
    assert decide(Evidence(past=turned), config) == decided
    monkeypatch.setattr(paired, "_DRAWN_AT_ONCE", 7 * 300)
    again = decide(Evidence(past=parts), config)
    assert [one.reason for one in again.checks] == [one.reason for one in decided.checks]


def test_equal_answers_of_a_hundred_rows_do_not_show_two_points_and_those_of_three_hundred_do() -> None:
    few, many = (
        dataclasses.replace(one, champion=one.challenger) for one in (scored("a", rows) for rows in (100, 300))
    )
    assert numbers(on_past(few)) == pytest.approx((0, -0.03, 0.03), abs=1e-4)
    assert not decide(Evidence(past=[few]), GateConfig()).promote
    assert decide(Evidence(past=[many]), GateConfig()).promote


def test_a_challenger_that_is_plainly_worse_or_answers_the_same_to_all_is_stopped() -> None:
    worse = scored("a", 300, noise=(0.3, 0.8))
    assert not decide(Evidence(past=[worse]), GateConfig()).promote
    assert decide(Evidence(past=[scored("a", 300, noise=(0.8, 0.3))]), GateConfig()).promote
    constant = worse.challenger.copy()
    constant[:, 1] = 3.0
    decision = decide(Evidence(past=[dataclasses.replace(worse, challenger=constant)]), GateConfig())
    assert checks(decision)["past"].challenger == 0.0 and not decision.promote


def test_a_first_champion_has_its_correlation() -> None:
    first = dataclasses.replace(scored("a", 300), champion=None)
    decision = decide(Evidence(past=(), new=first, first=True), GateConfig(floor=0.5))
    assert decision.promote and 0.7 < (decision.checks[0].challenger or 0) < 0.9
