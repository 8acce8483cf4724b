import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.config import TaskConfig
from pipeline.core.data.rows import Dataset, Row, Split, is_hidden, make_row, many
from pipeline.errors import Fault, fault

Tasks = Mapping[str, TaskConfig]


def row(values: Mapping[str, Any], task: TaskConfig) -> Row:
    (made,) = make_row(values, task, "f:1")
    assert isinstance(made, Row), made
    return made


def faults(values: Mapping[str, Any], task: TaskConfig) -> list[Fault]:
    made = list(make_row(values, task, "f:7"))
    return [one for one in made if isinstance(one, Fault)]


@pytest.mark.parametrize(("count", "text"), [(0, "0 trials"), (1, "1 trial"), (2, "2 trials")])
def test_one_of_a_thing_is_no_plural(count: int, text: str) -> None:
    assert many(count, "trial") == text


def test_digest_depends_on_the_fields_and_neither_on_their_order_nor_on_id_nor_on_origin(
    tasks: Tasks,
) -> None:
    task = tasks["sentiment"]
    (first,) = make_row({"text": "Très bon, très", "label": "positive", "id": 1}, task, "a:1")
    (second,) = make_row({"label": "positive", "text": "Très bon, très"}, task, "b:9")
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert first.digest == second.digest
    assert len(first.digest) == 16
    assert row({"text": "Très bon, très", "label": "negative"}, task).digest != first.digest


def test_digest_is_the_same_in_every_version_of_the_pipeline(tasks: Tasks) -> None:
    # Retraining compares digests with those of old manifests: a change here makes all known rows look new.
    assert row({"text": "a", "label": "b"}, tasks["sentiment"]).digest == "ff5bf79a84822325"


@pytest.mark.parametrize(
    ("task", "values", "same", "other"),
    [
        ("sentiment", {"text": "Ein Maß", "label": "a"}, {"text": "EIN  MASS"}, {"text": "ein Mass ."}),
        ("sentiment", {"text": "\uac00\ufb01", "label": "a"}, {"text": "\u1100\u1161fi"}, {"text": "\uac00"}),
        ("ner", {"tokens": ["Å", "b"], "tags": ["O", "O"]}, {"tokens": ["a\u030a", "B"]}, {"tokens": ["Åb", ""]}),
        ("medqa", {"question": "q", "options": ["a"], "answer": 0}, {"question": "Q", "answer": 1}, {"options": ["b"]}),
    ],
)  # fmt: skip
def test_the_key_names_the_inputs_without_target_case_spaces_and_form(
    tasks: Tasks, task: str, values: dict[str, Any], same: dict[str, Any], other: dict[str, Any]
) -> None:
    made = row(values, tasks[task])
    again, another = (row({**values, **changes, "id": 7}, tasks[task]) for changes in (same, other))
    assert made.key == again.key != another.key
    assert made.digest != again.digest


def test_id_is_kept_beside_the_fields_and_other_columns_are_not(tasks: Tasks) -> None:
    made = row({"text": "a", "label": "b", "id": "x1", "source": "web"}, tasks["sentiment"])
    assert made.fields == {"text": "a", "label": "b", "id": "x1"}


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (1, "1"),
        (1.0, "1"),
        ("1.0", "1"),
        (-2.0, "-2"),
        (True, "true"),
        (False, "false"),
        ("False", "False"),
        (None, ""),
        (float("nan"), ""),
        ("billing ", "billing"),
        ("\u00a0billing\t", "billing"),
        ("re\u0301clamation", "r\u00e9clamation"),
        ("1.10", "1.10"),
    ],
)
def test_labels_are_texts_without_outer_blanks_in_one_form_of_unicode(tasks: Tasks, value: Any, label: str) -> None:
    assert row({"text": "a", "label": value}, tasks["sentiment"]).fields["label"] == label
    generated = TaskConfig(name="g", kind="generation", prompt="{text}", completion="{label}")
    assert row({"text": "a", "label": value}, generated).fields["label"] == label


def test_a_label_is_written_as_the_config_lists_it(tasks: Tasks) -> None:
    listed = dataclasses.replace(tasks["sentiment"], labels=["1.0", "2.5", " odd", "e\u0301"])
    values: list[Any] = [1, 1.0, "1.0", 2.5, "odd", " odd", "\u00e9 "]
    found = [row({"text": "a", "label": value}, listed).fields["label"] for value in values]
    assert found == ["1.0", "1.0", "1.0", "2.5", " odd", " odd", "e\u0301"]


def test_tags_have_no_outer_blanks_and_the_form_of_types_that_the_config_lists(tasks: Tasks) -> None:
    values = {"tokens": ["a", "b", "c"], "tags": ["B-Lie\u0301u ", "I-Lie\u0301u", "O "]}
    assert row(values, tasks["ner"]).fields["tags"] == ["B-Li\u00e9u", "I-Li\u00e9u", "O"]
    listed = dataclasses.replace(tasks["ner"], labels=["Lie\u0301u"])
    assert row({**values, "tags": ["B-Li\u00e9u", "O", "O"]}, listed).fields["tags"] == ["B-Lie\u0301u", "O", "O"]


def test_digest_and_key_are_those_of_the_label_as_it_stands(tasks: Tasks) -> None:
    """A row stays the row that it was when labels were learnt as they stood; written out from before."""
    made = row({"text": "a", "label": "billing "}, tasks["sentiment"])
    assert (made.digest, made.raw) == ("578f0b27ea55fd3e", {"label": "billing "})
    assert row({"text": "a", "label": "billing"}, tasks["sentiment"]).raw is None
    whole, number = (row({"text": "a", "label": value}, tasks["sentiment"]) for value in (1, 1.0))
    assert whole.digest == number.digest


@pytest.mark.parametrize("listed", [["false", "true"], ["False", "True"]])
def test_truth_values_are_learnt_as_they_are_listed(tasks: Tasks, listed: list[str]) -> None:
    """JSON has `true`, and pandas writes `True` into a csv."""
    task = dataclasses.replace(tasks["sentiment"], labels=listed)
    for said in (True, "True", "TRUE", "true"):
        assert row({"text": "a", "label": said}, task).fields["label"] == listed[1]
    assert row({"text": "a", "label": "yes"}, task).fields["label"] == "yes"


def test_a_number_with_a_fraction_is_no_label(tasks: Tasks) -> None:
    (fault,) = faults({"text": "a", "label": 3.8}, tasks["sentiment"])
    assert (fault.where, fault.value) == ("f:7", "3.8")
    assert "number with a fraction" in fault.rule
    assert "kind: regression" in fault.remedy


def test_answers_keep_their_texts_and_starts_alone(tasks: Tasks) -> None:
    answers = {"text": ["a"], "answer_start": [0], "answer_id": [17]}
    made = row({"question": "q", "context": "a b", "answers": answers}, tasks["covidqa"])
    assert made.fields["answers"] == {"text": ["a"], "answer_start": [0]}


QUESTION = {"question": "q", "options": ["a", "b"], "answer": 0}
PASSAGE = {"question": "q", "context": "c", "answers": {"text": ["c"], "answer_start": [0]}}
SENTENCE = {"tokens": ["a"], "tags": ["O"]}


@pytest.mark.parametrize(
    ("task", "values", "field"),
    [
        ("sentiment", {"text": 7, "label": "b"}, "text"),
        ("sentiment", {"text": None, "label": "b"}, "text"),
        ("sentiment", {"text": "a", "label": ["b"]}, "label"),
        ("ner", SENTENCE | {"tokens": "a"}, "tokens"),
        ("ner", SENTENCE | {"tokens": ["a", 1]}, "tokens"),
        ("ner", SENTENCE | {"tags": [0]}, "tags"),
        ("medqa", QUESTION | {"options": {"A": "a"}}, "options"),
        ("medqa", QUESTION | {"answer": True}, "answer"),
        ("medqa", QUESTION | {"answer": "B"}, "answer"),
        ("medqa", QUESTION | {"answer": 1.5}, "answer"),
        ("covidqa", PASSAGE | {"answers": ["c"]}, "answers"),
        ("covidqa", PASSAGE | {"answers": {"text": ["c"]}}, "answers"),
        ("covidqa", PASSAGE | {"answers": {"text": ["c"], "answer_start": [True]}}, "answers"),
        ("covidqa", PASSAGE | {"answers": {"text": "c", "answer_start": [0]}}, "answers"),
    ],
)
def test_value_of_a_wrong_type_names_origin_and_field(
    tasks: Tasks, task: str, values: dict[str, Any], field: str
) -> None:
    (fault,) = faults(values, tasks[task])
    assert fault.where == "f:7"
    assert f"`{field}`" in fault.rule
    assert fault.remedy


def test_all_faults_of_a_row_are_reported(tasks: Tasks) -> None:
    assert len(faults({"question": 1, "options": 2, "answer": "x"}, tasks["medqa"])) == 3


def test_half_a_surrogate_pair_is_a_fault(tasks: Tasks) -> None:
    (fault,) = faults({"text": "a\ud83d", "label": "b"}, tasks["sentiment"])
    assert "surrogate" in fault.rule


@pytest.mark.parametrize("name", ["id", "group"])
def test_half_a_surrogate_pair_outside_the_fields_is_a_fault_too(tasks: Tasks, name: str) -> None:
    task = dataclasses.replace(tasks["sentiment"], group="doc")
    (bad,) = faults({"text": "a", "label": "b", name: "\ud83d"}, task)
    assert "surrogate" in bad.rule


def test_a_fault_can_be_printed_whatever_is_in_it() -> None:
    text = str(fault("file\udcff:1", ["\ud83d"], "has no field `\ud83d`", "Add it, é"))
    assert text.encode("utf-8").decode() == text
    assert "Add it, é" in text and "`\\ud83d`" in text


def test_long_values_are_shortened_in_messages(tasks: Tasks) -> None:
    (fault,) = faults({"text": ["word"] * 1000, "label": "b"}, tasks["sentiment"])
    assert len(fault.value) == 60


def test_manifest_lists_digests_fingerprints_and_what_was_cut() -> None:
    def split(name: str, digest: str, cut_from: str | None = None) -> Split:
        return Split(name, (Row({"text": "t", "label": "l"}, "f:1", digest, digest),), "f" + digest, cut_from)

    parts = split("train", "aa"), split("validation", "bb", "train"), split("test", "cc")
    dataset = Dataset("ner", "news", "starter", *parts, {"train/test": 1}, ("note",))
    assert dataset.manifest() == {
        "task": "ner",
        "domain": "news",
        "source": "starter",
        "splits": {
            "train": {"fingerprint": "faa", "rows": ["aa"], "cut_from": None},
            "validation": {"fingerprint": "fbb", "rows": ["bb"], "cut_from": "train"},
            "test": {"fingerprint": "fcc", "rows": ["cc"], "cut_from": None},
        },
        "overlap": {"train/test": 1},
    }


def test_a_target_is_hidden_where_there_is_none_or_minus_one_in_all_of_it() -> None:
    assert [is_hidden(value) for value in (None, -1, -1.0, "", "-1", ["-1"], [-1, -1])] == [True] * 7
    shown: list[object] = ["a", 0, [], ["-1", "O"], {"text": []}]
    assert [is_hidden(value) for value in shown] == [False] * 5


def test_what_is_inside_an_object_is_named_as_a_path_and_several_labels_as_a_kind(tasks: Tasks) -> None:
    (found,) = faults({"text": {"body": "a", "lang": "en"}, "label": "x"}, tasks["sentiment"])
    assert found.remedy == "Give a string, or name what is meant of it by data.columns.text=<column>.body"
    (found,) = faults({"text": "a", "label": ["x", "y"]}, tasks["sentiment"])
    assert found.remedy == "Give a string, or of several labels set the task's kind to multi_label"
    (found,) = faults({"text": 3, "label": "x"}, tasks["sentiment"])
    assert found.remedy == "Give a string"
