"""What is searched: the method's own file, and what the command line says of it."""

from pathlib import Path

import pytest

from pipeline.config import CompareConfig, Range, SweepConfig
from pipeline.config.overrides import read_config
from pipeline.errors import ConfigError

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
        ("search.space.method.reduction_factor={choice:[8,16]}", {RATE, "method.reduction_factor"}),
    ],
)
def test_the_command_line_changes_it(argument: str, expected: set[str]) -> None:
    found = space(argument)
    assert set(found) == expected
    if WIDTH in found:
        assert found[WIDTH] == Range(choice=[8] if "[8]" in argument else [24, 48, 96])


def test_another_kind_of_range_replaces_that_of_the_file() -> None:
    assert space(f"search.space.{RATE}={{uniform:[0.001,0.002]}}")[RATE] == Range(uniform=[0.001, 0.002])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("methods=null", "methods: 'None' must be a list of text"),
        ("methods=5", "methods: '5' must be a list of text"),
        ("methods=[[houlsby]]", "must be text. Give methods[0] text."),
        ("methods=[houlsby,adalora]", "METHODS: 'adalora' is no method. Did you mean lora."),
        ("method=lora", "METHOD: 'lora' has no effect in a comparison. Name the methods with METHODS="),
        ("methods=[houlsby,houlsby]", "must name each method once, and at least one"),
    ],
)
def test_methods_that_cannot_be_compared_are_told(argument: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config("compare", CompareConfig, ["tasks=[sentiment]", argument])
    assert message in str(caught.value)


def test_one_mistake_in_all_contenders_is_told_once_by_the_key_that_was_typed() -> None:
    with pytest.raises(ConfigError) as caught:
        read_config("compare", CompareConfig, ["tasks=[sentiment]", "methods=[houlsby,lora]", "method.dropout=2"])
    (fault,) = caught.value.faults
    assert (fault.where, fault.remedy) == ("method.dropout", "Set method.dropout to a number from 0 to 0.9")


def test_a_method_file_of_ones_own_is_compared(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "wide.yaml").write_text("name: houlsby\nwidth: 192\nnorms: true\n", "utf-8")
    config = read_config("compare", CompareConfig, ["tasks=[sentiment]", f"conf={tmp_path}", "methods=[wide,full]"])
    assert config.contenders["wide"].method.width == 192 and dict(config.contenders["wide"].space) == {}


def test_a_comparison_holds_each_method_with_its_own_search() -> None:
    config = read_config("compare", CompareConfig, ["tasks=[sentiment]", "methods=[probe,lora]", "method.layers=all"])
    assert {name: set(one.space) for name, one in config.contenders.items()} == {"probe": {RATE}, "lora": {RATE, WIDTH}}
    assert config.contenders["lora"].method.name == "lora" and config.search.trials == 4


@pytest.mark.parametrize(
    ("arguments", "fixed"),
    [
        (["engine.learning_rate=1e-5"], [RATE]),
        (["engine={learning_rate: 1e-5}"], [RATE]),
        (["method.width=16", "engine.learning_rate=1e-5"], [RATE, WIDTH]),
        (["method.width=16", "search=optuna"], [WIDTH]),
        (["method.dropout=0.1"], []),
    ],
)
def test_a_key_that_the_user_sets_leaves_the_methods_own_space(arguments: list[str], fixed: list[str]) -> None:
    search = read_config("sweep", SweepConfig, ["tasks=[sentiment]", *arguments]).search
    assert search.fixed == fixed
    assert set(search.space) == {RATE, WIDTH} - set(fixed)


def test_a_key_of_a_file_of_the_users_own_leaves_it_too(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "slow.yaml").write_text("learning_rate: 0.00001\n", "utf-8")
    config = read_config("sweep", SweepConfig, ["tasks=[sentiment]", f"conf={tmp_path}", "engine=slow"])
    assert (config.search.fixed, config.engine.learning_rate) == ([RATE], 0.00001)


def test_a_key_that_is_set_both_ways_is_a_fault() -> None:
    with pytest.raises(
        ConfigError, match=r"method.width: '16' is one value, and search.space.method.width searches it"
    ):
        space("method.width=16", "search.space.method.width={choice:[8,16]}")


def test_a_comparison_trains_every_method_with_the_value_that_is_set() -> None:
    words = ["tasks=[sentiment]", "methods=[probe,lora]", "engine.learning_rate=1e-5"]
    config = read_config("compare", CompareConfig, words)
    assert {name: set(one.space) for name, one in config.contenders.items()} == {"probe": set(), "lora": {WIDTH}}
    assert config.search.fixed == [RATE]


def test_a_broken_file_of_the_users_own_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "slow.yaml").write_text("learning_rate: {a\n", "utf-8")
    with pytest.raises(ConfigError, match="config: cannot be read"):
        read_config("sweep", SweepConfig, ["tasks=[sentiment]", f"conf={tmp_path}", "engine=slow", f"runs={'x' * 300}"])
