"""What is searched: the method's own file, and what the command line says of it."""

import pytest

from jobs.entry import read_config
from pipeline.config import CompareConfig, Range, SweepConfig

RATE, WIDTH = "engine.learning_rate", "method.width"


def space(*arguments: str) -> dict[str, Range]:
    return dict(read_config("sweep", SweepConfig, ["tasks=[sentiment]", *arguments]).search.space)


def test_a_method_brings_its_own_search() -> None:
    assert space()[WIDTH] == Range(choice=[24, 48, 96])
    assert space("method=lora")[WIDTH] == Range(choice=[8, 16, 32])
    assert set(space("method=full")) == {RATE}
    assert space("method=full")[RATE].named[1] < space()[RATE].named[0] * 1.01


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("search.space.method.width={choice:[8]}", {RATE, WIDTH}),
        ("search.space.method.width.choice=[8]", {RATE, WIDTH}),
        ("search.space.method.width=null", {RATE}),
        ("search.space.method.dropout={choice:[0.0,0.1]}", {RATE, WIDTH, "method.dropout"}),
        ("method.reduction_factor=16", {RATE}),
    ],
)
def test_the_command_line_changes_it(argument: str, expected: set[str]) -> None:
    found = space(argument)
    assert set(found) == expected
    if WIDTH in found:
        assert found[WIDTH] == Range(choice=[8] if "[8]" in argument else [24, 48, 96])


def test_another_kind_of_range_replaces_that_of_the_file() -> None:
    assert space(f"search.space.{RATE}={{uniform:[0.001,0.002]}}")[RATE] == Range(uniform=[0.001, 0.002])


def test_a_comparison_holds_each_method_with_its_own_search() -> None:
    config = read_config("compare", CompareConfig, ["tasks=[sentiment]", "methods=[probe,lora]", "method.layers=all"])
    assert {name: set(one.space) for name, one in config.contenders.items()} == {"probe": {RATE}, "lora": {RATE, WIDTH}}
    assert config.contenders["lora"].method.name == "lora" and config.search.trials == 4
