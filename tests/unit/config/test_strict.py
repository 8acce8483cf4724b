from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from pipeline.config import EngineConfig, MethodConfig, Range, SearchConfig, TaskConfig
from pipeline.config.strict import build, nearest, replace
from pipeline.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    mode: Literal["a", "b"] = "a"
    share: float | Literal["auto"] = 0.5
    inner: Inner = field(default_factory=Inner)
    many: dict[str, Inner] = field(default_factory=dict)
    sizes: str | list[int] = "all"
    limit: int | None = None


def faults_of(cls: type[Any], values: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build(cls, values)
    return [str(fault) for fault in caught.value.faults]


def test_values_become_typed() -> None:
    values = {"name": "x", "share": 1, "many": {"k": {"size": 3}}, "sizes": [1, 2], "limit": None}
    assert build(Outer, values) == Outer(name="x", share=1.0, many={"k": Inner(size=3)}, sizes=[1, 2])
    assert build(Outer, {"name": "x", "share": "auto"}).share == "auto"
    assert build(Outer, {"name": "x", "share": "1e-3"}).share == 1e-3


def test_all_faults_are_reported_at_once_with_their_keys() -> None:
    values = {"mode": "c", "inner": {"sice": 2}, "many": {"k": {"size": True}}, "limit": 1.5, "sizes": ["x"]}
    faults = faults_of(Outer, values)
    assert sorted(fault.partition(":")[0] for fault in faults) == [
        "inner.sice",
        "limit",
        "many.k.size",
        "mode",
        "name",
        "sizes",
    ]
    assert "inner.sice: is no config key. Did you mean size." in faults
    assert "mode: 'c' must be one of a, b. Set mode=a, for instance." in faults


def test_rules_are_checked_beside_wrong_types() -> None:
    faults = faults_of(EngineConfig, {"epochs": 0, "learning_rate": "fast"})
    assert any("epochs" in fault and "above 0" in fault for fault in faults)
    assert any("learning_rate" in fault and "'fast'" in fault for fault in faults)


def test_replace_changes_dotted_keys_and_checks_them() -> None:
    outer = Outer(name="x")
    assert replace(outer, {"inner.size": 5, "name": "y"}) == Outer(name="y", inner=Inner(size=5))
    with pytest.raises(ConfigError, match=r"inner.depth: is no config key"):
        replace(outer, {"inner.depth": 5})
    with pytest.raises(ConfigError, match=r"must be a whole number"):
        replace(outer, {"inner.size": "large"})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TaskConfig(name="t", kind="tagging", metric="accuracy"), "is no metric of tagging. Use one of: f1"),
        (TaskConfig(name="t", kind="tagging", columns={"text": "w"}), "'text' is no field of tagging"),
        (TaskConfig(name="t", kind="classification", labels=["a", "a"]), "must name each label once"),
        (TaskConfig(name="t", kind="extractive_qa", stride=65), "half of max_length"),
        (MethodConfig(name="pfeiffer", layers="bottom-2"), "`all`, `top-<n>` or a list"),
        (MethodConfig(name="pfeiffer", width=0), "must be above 0"),
        (Range(), "exactly one of log_uniform, uniform, choice"),
        (Range(log_uniform=[0.0, 1.0]), "must start above 0"),
        (Range(uniform=[2.0, 1.0]), "must be [low, high]"),
        (Range(choice=[]), "must not be empty"),
        (SearchConfig(reduction=1), "must be above 1"),
    ],
)
def test_each_rule_names_key_and_remedy(config: Any, message: str) -> None:
    shown = " | ".join(str(fault) for fault in config.faults("at"))
    assert message in shown
    assert shown.startswith("at")


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), "inf", "-Infinity", "nan", 10**400])
def test_a_number_that_is_infinite_or_none_is_refused(value: object) -> None:
    for key in ("learning_rate", "clip_norm", "weight_decay"):
        with pytest.raises(ConfigError, match=rf"{key}: .* must be a( finite)? number"):
            replace(EngineConfig(), {key: value})
    with pytest.raises(ConfigError, match=r"scaling: .* must be a number or one of learned"):
        replace(MethodConfig(name="houlsby"), {"scaling": value})
    with pytest.raises(ConfigError, match=r"log_uniform\[1\]: .* must be a"):
        replace(Range(choice=[1]), {"choice": None, "log_uniform": [1e-4, value]})


def test_nearest_names_what_may_have_been_meant() -> None:
    assert nearest("sentimnt", ["sentiment", "ner"]) == "Did you mean sentiment"
    assert nearest("zzz", ["b", "a"]) == "Known: a, b"
