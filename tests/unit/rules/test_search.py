import math
from collections import Counter
from typing import Any, Literal

import pytest

from pipeline.config import EngineConfig, MethodConfig, Range, SearchConfig
from pipeline.core.engine.trials import Settings
from pipeline.errors import ConfigError
from pipeline.rules.search import PROPOSERS, Params, check, num_trials, proposer_of

RATE = Range(log_uniform=[1e-4, 1e-2])
WIDTH = Range(choice=[16, 32, 64])


def config(algorithm: Literal["random", "grid", "optuna"] = "random", **given: Any) -> SearchConfig:
    space = given.pop("space", {"engine.learning_rate": RATE, "method.width": WIDTH})
    return SearchConfig(algorithm=algorithm, space=space, **given)


def cohort(search: SearchConfig, job: str = "ner", seed: int = 0) -> list[Params]:
    proposed = proposer_of(search, job, seed).propose()
    assert proposed is not None
    return proposed


@pytest.mark.parametrize("algorithm", list(PROPOSERS))
def test_the_seed_and_the_job_decide_everything(algorithm: Literal["random", "grid", "optuna"]) -> None:
    search = config(algorithm, trials=4)
    assert cohort(search) == cohort(search)
    if algorithm != "grid":
        assert cohort(search) != cohort(search, job="medqa")
        assert cohort(search) != cohort(search, seed=1)


@pytest.mark.parametrize("trials", [4, 6, 13])
def test_random_puts_one_draw_into_each_stratum(trials: int) -> None:
    rates = [params["engine.learning_rate"] for params in cohort(config(trials=trials))]
    shares = sorted(math.log(rate / 1e-4) / math.log(100) for rate in rates)
    for place, share in enumerate(shares):
        assert place / trials - 0.01 <= share <= (place + 1) / trials + 0.01  # rounding to three digits


def test_keys_are_paired_at_random() -> None:
    space = {"x": Range(uniform=[0.0, 1.0]), "y": Range(uniform=[0.0, 1.0])}
    pairs = [(params["x"], params["y"]) for params in cohort(config(space=space, trials=6))]
    assert sorted(pairs) not in (sorted(pairs, key=lambda pair: pair[1]), sorted(pairs, key=lambda pair: -pair[1]))


def test_random_uses_every_choice_equally_often() -> None:
    counts = Counter(params["method.width"] for params in cohort(config(trials=7)))
    assert sorted(counts.values()) == [2, 2, 3]


def test_another_key_moves_no_draws_of_the_others() -> None:
    wider = {"engine.learning_rate": RATE, "method.width": WIDTH, "engine.warmup": Range(uniform=[0.0, 0.2])}
    for alone, beside in zip(cohort(config()), cohort(config(space=wider)), strict=True):
        assert alone.items() <= beside.items()


def test_random_reads_uniform_ranges_linearly() -> None:
    values = [params["x"] for params in cohort(config(space={"x": Range(uniform=[-1.0, 1.0])}, trials=4))]
    assert [math.floor((value + 1) * 2) for value in sorted(values)] == [0, 1, 2, 3]


@pytest.mark.parametrize("trials", [5, 11, 12])
def test_random_never_repeats_a_trial(trials: int) -> None:
    space = {"a": Range(choice=[1, 2, 3, 4]), "b": Range(choice=[[0, 1], "all", None])}
    proposed = cohort(config(space=space, trials=trials))
    assert len(proposed) == trials
    assert not any(proposed[i] in proposed[:i] for i in range(trials))


def test_a_space_smaller_than_the_trials_is_tried_whole() -> None:
    search = config(space={"method.width": WIDTH}, trials=6)
    assert sorted(params["method.width"] for params in cohort(search)) == [16, 32, 64]
    assert num_trials(search) == 3


def test_an_empty_space_is_one_trial() -> None:
    assert cohort(config(space={})) == [{}]


def test_random_and_grid_have_one_cohort() -> None:
    for algorithm in ("random", "grid"):
        proposer = proposer_of(config(algorithm), "ner", 0)
        assert proposer.propose() is not None
        assert proposer.propose() is None


def test_values_are_short_enough_to_be_retyped() -> None:
    for params in cohort(config(trials=20)):
        rate = params["engine.learning_rate"]
        assert float(f"{rate:.3g}") == rate


def test_rounding_does_not_leave_the_range() -> None:
    space = {"x": Range(uniform=[0.12345, 0.12346])}
    for params in cohort(config(space=space, trials=5)):
        assert 0.12345 <= params["x"] <= 0.12346


def test_grid_is_the_product_with_points_evenly_on_the_log_scale() -> None:
    search = config("grid", grid_points=3)
    assert cohort(search) == [
        {"engine.learning_rate": rate, "method.width": width} for rate in (1e-4, 1e-3, 1e-2) for width in (16, 32, 64)
    ]
    assert num_trials(search) == 9


def test_a_grid_of_one_point_takes_the_middle() -> None:
    assert cohort(config("grid", grid_points=1, space={"x": RATE})) == [{"x": 1e-3}]


def test_optuna_proposes_cohorts_until_its_trials_are_used_up() -> None:
    proposer = proposer_of(config("optuna", trials=5, cohort=2), "ner", 0)
    sizes = []
    while (proposed := proposer.propose()) is not None:
        sizes.append(len(proposed))
        proposer.learn([0.5] * len(proposed))
    assert sizes == [2, 2, 1]


def test_optuna_learns_from_scores() -> None:
    search = config("optuna", trials=40, cohort=4, space={"x": Range(uniform=[0.0, 1.0])})
    proposer = proposer_of(search, "ner", 0)
    seen = []
    while (proposed := proposer.propose()) is not None:
        seen += [params["x"] for params in proposed]
        proposer.learn([-abs(params["x"] - 0.8) for params in proposed])
    assert sum(abs(x - 0.8) < 0.15 for x in seen[-20:]) >= 14  # by chance 6


def test_optuna_takes_failures_and_repeats_no_choice() -> None:
    space = {"layers": Range(choice=["all", [0, 1], "top-2"])}
    proposer = proposer_of(config("optuna", trials=10, cohort=2, space=space), "ner", 0)
    proposed = proposer.propose() or []
    proposer.learn([None, 0.5])
    proposed += proposer.propose() or []
    assert sorted(str(params["layers"]) for params in proposed) == ["[0, 1]", "all", "top-2"]
    proposer.learn([0.1])
    assert proposer.propose() is None


def test_unknown_keys_and_bad_values_are_refused_together() -> None:
    space = {
        "engine.learning_rat": RATE,
        "method.width": Range(choice=[16, -1]),
        "engine.warmup": Range(uniform=[0.0, 2.0]),
    }
    settings = Settings(method=MethodConfig(name="pfeiffer"), engine=EngineConfig())
    with pytest.raises(ConfigError) as caught:
        check(config(space=space), settings)
    assert [fault.where for fault in caught.value.faults] == [
        "search.space.engine.learning_rat",
        "search.space.method.width",
        "search.space.engine.warmup",
    ]
    check(config(), settings)


def test_whole_numbers_may_be_searched_by_a_range_and_other_settings_not_at_all() -> None:
    settings = Settings(method=MethodConfig(name="pfeiffer"), engine=EngineConfig())
    check(config(space={"method.width": Range(uniform=[16.0, 96.0])}), settings)
    with pytest.raises(ConfigError, match=r"search.space.seed: is no setting in which .* Search keys of method and"):
        check(config(space={"seed": Range(choice=[1, 2])}), settings)


def test_a_precision_that_is_searched_is_one_or_the_other() -> None:
    settings = Settings(method=MethodConfig(name="pfeiffer"), engine=EngineConfig())
    check(config(space={"engine.precision": Range(choice=["float32", "bfloat16"])}), settings)
    with pytest.raises(ConfigError, match=r"search\.space\.engine\.precision: 'auto' is settled once .* List float32"):
        check(config(space={"engine.precision": Range(choice=["auto", "float32"])}), settings)


def test_a_width_has_no_effect_beside_a_reduction_factor_and_is_no_setting_of_a_probe() -> None:
    settings = Settings(method=MethodConfig(name="houlsby", reduction_factor=16.0), engine=EngineConfig())
    with pytest.raises(ConfigError, match=r"search\.space\.method\.width: has no effect beside"):
        check(config(), settings)
    both = config(space={"method.width": Range(choice=[8]), "method.reduction_factor": Range(choice=[8, 16])})
    with pytest.raises(ConfigError, match=r"search\.space\.method\.width: has no effect beside"):
        check(both, Settings(method=MethodConfig(name="houlsby"), engine=EngineConfig()))
    with pytest.raises(ConfigError, match=r"search\.space\.method\.width: '16' is no setting of probe"):
        check(config(), Settings(method=MethodConfig(name="probe"), engine=EngineConfig()))
