"""Who answers: a version only once it is held somewhere, and until then the one before it."""

from pipeline.serving.state import Facts, Key, Serving, Table
from pipeline.serving.table import LOADING, matches, table_of, wanted

HERE = {"kind": "classification", "labels": ("bad", "good"), "fields": ("text",), "checkpoint": "tiny"}
FACTS: dict[Key, Facts] = {
    ("a", 1): Facts(home="one", **HERE),  # type: ignore[arg-type]
    ("a", 2): Facts(home="two", **HERE),  # type: ignore[arg-type]
    ("b", 1): Facts(reason="is a whole copy", **HERE),  # type: ignore[arg-type]
}


def champion(table: Table, name: str) -> Serving:
    found = table.tasks[name].champion
    assert found is not None
    return found


def test_a_version_answers_when_a_process_holds_it() -> None:
    asked = {"a": {"champion": 1}}
    before = table_of(asked, FACTS, {}, Table())
    assert champion(before, "a").reason == LOADING
    after = table_of(asked, FACTS, {"one": {("a", 1): 77}}, before)
    assert champion(after, "a") == Serving(
        alias="champion", version=1, checkpoint="tiny", home="one", num_bytes=77, reason=""
    )


def test_a_promotion_onto_another_checkpoint_switches_when_that_is_held_and_not_before() -> None:
    first = table_of({"a": {"champion": 1}}, FACTS, {"one": {("a", 1): 7}}, Table())
    moved = {"a": {"champion": 2, "previous": 1}}
    on_its_way = table_of(moved, FACTS, {"one": {("a", 1): 7}}, first)
    assert (champion(on_its_way, "a").version, champion(on_its_way, "a").reason) == (1, "")
    assert wanted(moved, FACTS, on_its_way) == {"one": {("a", 1)}, "two": {("a", 2)}}
    done = table_of(moved, FACTS, {"one": {("a", 1): 7}, "two": {("a", 2): 7}}, on_its_way)
    assert [(one.alias, one.version, one.home) for one in done.tasks["a"].versions] == [
        ("champion", 2, "two"),
        ("previous", 1, "one"),
    ]


def test_what_cannot_be_served_stands_with_its_reason_beside_the_others() -> None:
    table = table_of({"a": {"champion": 1}, "b": {"champion": 1}}, FACTS, {"one": {("a", 1): 7}}, Table())
    assert champion(table, "b").reason == "is a whole copy"
    assert champion(table, "a").reason == ""
    assert wanted({"b": {"champion": 1}}, FACTS, Table()) == {}


def test_a_task_whose_bundle_is_not_read_yet_is_being_loaded_and_not_unknown() -> None:
    table = table_of({"c": {"champion": 1}}, FACTS, {}, Table())
    assert (champion(table, "c").reason, table.tasks["c"].kind) == (LOADING, "")


def test_a_version_that_is_withdrawn_goes_from_the_table_with_its_task() -> None:
    before = table_of({"a": {"champion": 1}}, FACTS, {"one": {("a", 1): 7}}, Table())
    assert table_of({}, FACTS, {"one": {("a", 1): 7}}, before).tasks == {}


def test_names_are_meant_as_sweeps_write_them() -> None:
    names = ["sentiment", "sentiment.movies", "sentiment.food", "ner"]

    def meant(*patterns: str) -> list[str]:
        return [name for name in names if matches(name, patterns)]

    assert meant("*") == names
    assert meant("sentiment") == ["sentiment"]
    assert meant("sentiment/*") == ["sentiment.movies", "sentiment.food"]
    assert meant("sentiment/food", "ner") == ["sentiment.food", "ner"]
