"""Which attempts a pass may make, in which order, and what each has to show."""

import dataclasses

import numpy as np
import pytest

from pipeline.config import ChallengerConfig, Harder, RetrainConfig
from pipeline.config.overrides import read_config
from pipeline.errors import ConfigError
from pipeline.rules.ladder import Work, attempts, confidences, told

WORK = Work(old=3000, new=600, epochs=2, cold_epochs=5)


def names(challenger: ChallengerConfig, work: Work = WORK, begin: str = "") -> list[str]:
    return [one.name for one in attempts(challenger, work, begin)]


def test_the_cheapest_comes_first_and_one_begins_while_anything_of_the_budget_is_left() -> None:
    planned = attempts(ChallengerConfig(), WORK)
    assert [one.name for one in planned] == [
        "warm, replay 0.1, 2 epochs",
        "warm, replay 0.5, 2 epochs",
        "warm, replay 1, 2 epochs",
        "cold, replay 1, 5 epochs",
    ]
    assert [one.cost for one in planned] == [1800, 4200, 7200, 18000]  # of 18,000: a fifth would begin with none left
    assert told(planned, 1) == "attempt 2 of 4: warm, replay 0.5, 2 epochs"
    assert names(ChallengerConfig(budget=10))[-2:] == ["warm, replay 1, rate 0.3, 4 epochs", "cold, replay 1, 5 epochs"]
    assert len(names(ChallengerConfig(budget=0.1))) == 1
    assert names(ChallengerConfig(ladder=[])) == ["warm, replay 0.1, 2 epochs"]
    turned = [Harder(replay=1.0), Harder(replay=0.5)]
    assert names(ChallengerConfig(ladder=turned)) == names(ChallengerConfig())[:3]


def test_the_last_attempt_that_begins_is_the_last_of_the_ladder() -> None:
    grown = dataclasses.replace(WORK, epochs=4, grown=True)
    assert names(ChallengerConfig(), grown) == ["warm, replay 0.5, 4 epochs", "cold, replay 1, 5 epochs"]
    assert names(ChallengerConfig(budget=0.3), grown) == ["warm, replay 0.5, 4 epochs"]
    ladder = [Harder(replay=1.0), Harder(replay=1.0, times=3), Harder(replay=0.1)]  # which costs less than the first
    assert names(ChallengerConfig(replay=0.5, ladder=ladder)) == [
        "warm, replay 0.5, 2 epochs",
        "warm, replay 1, 2 epochs",
        "warm, replay 1, 6 epochs",
    ]


def test_before_all_others_comes_what_leaves_the_champion_as_it_is() -> None:
    grown = dataclasses.replace(WORK, epochs=4, grown=True, still=True)
    first, last = attempts(ChallengerConfig(), grown)
    assert (first.name, last.name) == ("still, replay 1, 8 epochs", "cold, replay 1, 5 epochs")
    assert first.cost == 3600 * 8 / 3, "no gradient is led back through the layers"
    assert (first.challenger.start, first.challenger.replay) == ("still", 1)
    assert names(ChallengerConfig(), grown, begin=last.name) == [first.name, last.name], "a third of its cost is a try"
    assert names(ChallengerConfig(), grown, begin=first.name) == [first.name, last.name]
    assert names(ChallengerConfig(ladder=[]), grown) == ["warm, replay 0.5, 4 epochs"]
    assert names(ChallengerConfig(start="still", replay=1.0), grown)[0] == "still, replay 1, 4 epochs"
    assert not [name for name in names(ChallengerConfig(budget=10)) if "still" in name]
    assert names(ChallengerConfig(start="cold"), grown)[0].startswith("cold"), "as the user says"


def test_an_attempt_is_trained_as_the_ladder_says_and_otherwise_as_the_first() -> None:
    challenger = ChallengerConfig(replay=0.2, rate=0.5, trials=3, budget=10)
    found = {one.name: one for one in attempts(challenger, WORK)}
    half = found["warm, replay 0.5, 2 epochs"].challenger
    assert half == dataclasses.replace(challenger, replay=0.5)
    cold = found["cold, replay 1, 5 epochs"]
    assert (cold.challenger.start, cold.epochs, cold.challenger.trials) == ("cold", 5, 3)
    assert found["warm, replay 1, rate 0.3, 4 epochs"].challenger.rate == 0.3


def test_what_was_tried_is_not_tried_again_under_another_name() -> None:
    assert names(ChallengerConfig(replay=0.5)) == names(ChallengerConfig())[1:]
    long = dataclasses.replace(WORK, epochs=5)
    assert names(ChallengerConfig(start="cold", replay=1), long) == ["cold, replay 1, 5 epochs"]


def test_nothing_is_tried_that_costs_less_than_what_the_user_says() -> None:
    assert names(ChallengerConfig(replay=1)) == ["warm, replay 1, 2 epochs", "cold, replay 1, 5 epochs"]
    others = [Harder(rate=1.0), Harder(rate=0.3)]
    assert names(ChallengerConfig(ladder=others)) == [
        "warm, replay 0.1, 2 epochs",
        "warm, replay 0.1, rate 1, 2 epochs",
        "warm, replay 0.1, rate 0.3, 2 epochs",
    ]


def test_the_next_pass_begins_with_what_passed_last_time() -> None:
    begin = "warm, replay 1, 2 epochs"
    assert names(ChallengerConfig(), begin=begin)[0] == begin
    assert names(ChallengerConfig(), begin="cold, replay 1, 7 epochs") == names(ChallengerConfig())


@pytest.mark.parametrize("number", [1, 2, 3, 5, 9])
def test_the_attempts_share_one_chance_of_an_error(number: int) -> None:
    found = confidences(0.95, number)
    assert len(found) == number
    assert sum(1 - one for one in found) == pytest.approx(0.05)
    rng = np.random.default_rng(0)
    alike = rng.uniform(size=(20_000, 1)) * np.ones(number)
    for chances in (rng.uniform(size=(20_000, number)), alike):  # of attempts that have nothing in common, or all
        assert (chances > found).any(1).mean() < 0.05 + 3 * 0.0016


def test_the_rate_is_named_only_where_it_says_how_a_challenger_is_trained() -> None:
    grown = dataclasses.replace(WORK, grown=True)  # new labels have a rate of their own
    assert "warm, replay 1, 4 epochs" in names(ChallengerConfig(budget=10), grown)
    same = ChallengerConfig(ladder=[Harder(rate=0.1), Harder(rate=0.1, replay=0.1)])
    assert names(same) == ["warm, replay 0.1, 2 epochs"]
    assert names(ChallengerConfig(ladder=[Harder(rate=0.5)]), grown) == ["warm, replay 0.5, 2 epochs"]


def test_where_a_label_is_new_more_is_replayed_unless_it_is_said_how_much() -> None:
    grown = dataclasses.replace(WORK, grown=True)
    found = attempts(ChallengerConfig(), grown)
    assert [(one.name, one.challenger.replay) for one in found[:2]] == [
        ("warm, replay 0.5, 2 epochs", 0.5),
        ("warm, replay 1, 2 epochs", 1),
    ]
    assert names(ChallengerConfig(replay=0.1), grown)[0] == names(ChallengerConfig())[0]
    assert names(ChallengerConfig(replay=0), grown)[0] == "warm, replay 0, 2 epochs"


def test_a_ladder_that_is_written_wrongly_is_a_fault() -> None:
    with pytest.raises(ConfigError, match=r"challenger\.ladder\[0\]\.replay: "):
        read_config("retrain", RetrainConfig, ["tasks=[ner]", "challenger.ladder=[{replay: 2}]"])
    assert read_config("retrain", RetrainConfig, ["tasks=[ner]", "challenger.ladder=[]"]).challenger.ladder == []


@pytest.mark.parametrize(("epochs", "cold_epochs"), [(4, 2), (5, 3), (8, 5)])
def test_what_leaves_the_champion_as_it_is_takes_no_other_attempts_place(epochs: int, cold_epochs: int) -> None:
    work = dataclasses.replace(WORK, epochs=epochs, cold_epochs=cold_epochs, grown=True)
    still = names(ChallengerConfig(), dataclasses.replace(work, still=True))
    assert still[0].startswith("still") and len(still) > 1
