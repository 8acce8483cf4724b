"""What a pass is called: judged once, its rows are not judged again by a later version."""

import dataclasses
from types import SimpleNamespace
from typing import Any

from pipeline.config import HubConfig, RetrainConfig
from pipeline.config.overrides import read_config
from pipeline.steps.survey import pass_of
from tests.unit.steps.test_survey import COLD


def test_a_pass_is_named_as_it_was_before_its_settings_got_more() -> None:
    """The names are those that commit 681b28c gave, whose tasks had fewer keys, and `fields` for `columns`."""
    plain = read_config("retrain", RetrainConfig, ["tasks=[ner]"])
    found: Any = SimpleNamespace(digest="0123456789abcdef")
    hub = {"default": HubConfig(id="owner/name", columns={"text": "body"})}
    other = dataclasses.replace(COLD.task, columns={"text": "message"}, labels=["good", "bad"], hub=hub)
    assert pass_of(plain, COLD.task, found, COLD) == "cbffbac35fc3822c"
    assert pass_of(plain, other, found, COLD) == "64e9395470f98bb5"
    later = dataclasses.replace(COLD.task, unanswerable=True), dataclasses.replace(COLD.task, separator=";")
    assert len({"cbffbac35fc3822c", *(pass_of(plain, one, found, COLD) for one in later)}) == 3


def test_a_pass_in_which_a_champion_may_stay_as_it_is_is_another_one() -> None:
    plain = read_config("retrain", RetrainConfig, ["tasks=[ner]"])
    found: Any = SimpleNamespace(digest="0123456789abcdef")
    assert pass_of(plain, COLD.task, found, COLD, still=True) != pass_of(plain, COLD.task, found, COLD)
    none = read_config("retrain", RetrainConfig, ["tasks=[ner]", "challenger.ladder=[]"])
    assert pass_of(none, COLD.task, found, COLD, still=True) == pass_of(none, COLD.task, found, COLD)
