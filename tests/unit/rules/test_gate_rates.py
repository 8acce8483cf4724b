"""How often the gate errs, by a short simulation through it; `python -m tests.bench.gate` is the long one."""

import dataclasses
import math

import pytest

from pipeline.config import GateConfig
from tests.bench.gate import Setting, measure

pytestmark = pytest.mark.long

QUICK, REPETITIONS = GateConfig(resamples=500), 120


@pytest.mark.parametrize("discordance", [0.06, 0.12])
@pytest.mark.parametrize("slices", [1, 5])
def test_a_challenger_that_is_worse_by_the_margin_seldom_passes(discordance: float, slices: int) -> None:
    """`python -m tests.bench.gate` in small: the seed is fixed, the limits are three standard errors away."""
    setting = Setting(discordance=discordance, difference=-0.02, slices=slices, rows=500)
    rates = measure(setting, QUICK, REPETITIONS)
    assert rates.promoted <= rates.past
    assert 0.005 < rates.past < 0.05 + 3 * math.sqrt(0.05 * 0.95 / REPETITIONS)
    assert measure(dataclasses.replace(setting, difference=-0.05), QUICK, 50).promoted == 0


@pytest.mark.parametrize("discordance", [0.06, 0.12])
def test_an_equal_challenger_mostly_passes_five_slices(discordance: float) -> None:
    setting = Setting(discordance=discordance, difference=0.0, slices=5, rows=500)
    rates = measure(setting, QUICK, REPETITIONS)
    assert rates.promoted > 0.8 - 3 * math.sqrt(0.8 * 0.2 / REPETITIONS)
    assert 0.95 - 3 * math.sqrt(0.05 * 0.95 / REPETITIONS) < rates.new < 1


def test_of_five_attempts_that_are_worse_by_the_margin_hardly_more_pass_than_of_one() -> None:
    setting = Setting(discordance=0.12, difference=-0.02, slices=2, rows=500, attempts=5)
    assert measure(setting, GateConfig(), 60).promoted <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)


def test_an_exchange_in_which_the_past_loses_all_that_it_may_seldom_passes() -> None:
    setting = Setting(discordance=0.12, difference=-0.05, slices=2, rows=500, grown=True, attempts=5)
    assert measure(setting, GateConfig(), 40).promoted <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 40)
    assert measure(dataclasses.replace(setting, difference=-0.1), GateConfig(), 10).promoted == 0
    assert measure(dataclasses.replace(setting, difference=-0.01), GateConfig(), 10).promoted >= 0.7
