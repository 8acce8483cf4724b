"""Hub data sets by stand-ins of their shapes: `load_dataset` takes a folder of parquet files for an id."""

import dataclasses
import logging
from typing import Any

import datasets
import pytest
from datasets import ClassLabel, List, Value

from pipeline.config import DataConfig, HubConfig, TaskConfig
from pipeline.core.data.load import load, resolve
from pipeline.core.data.rows import Row
from pipeline.core.tasks.kinds import restore
from pipeline.errors import DataError
from tests.unit.core.data.standin import TEXT, StandIn

HUB = DataConfig(source="hub")


def fields(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    return [dict(row.fields) for row in rows]


SST2 = {"idx": Value("int32"), "sentence": TEXT, "label": ClassLabel(names=["negative", "positive"])}


def sst2(count: int, label: int | None = None) -> list[dict[str, Any]]:
    return [{"idx": i, "sentence": f"s{i}", "label": i % 2 if label is None else label} for i in range(count)]


def test_sst2_names_its_labels_and_cuts_the_hidden_test_split_from_train(standin: StandIn) -> None:
    standin.write(SST2, train=sst2(200), validation=[{"idx": 0, "sentence": "v", "label": 1}], test=sst2(9, -1))
    dataset = standin.load("sentiment", "movies")
    assert fields(dataset.validation.rows) == [{"text": "v", "label": "positive"}]
    assert dataset.validation.rows[0].origin == f"{standin.folder}[validation]:1"
    assert {row.fields["label"] for row in dataset.train.rows} == {"negative", "positive"}
    assert dataset.test.cut_from == "train"
    assert len(dataset.train.rows) + len(dataset.test.rows) == 200
    assert "[test] was not read: label is hidden in all of its 9 rows." in dataset.notes[0]
    assert "There is no test split" in dataset.notes[1]


def test_label_hidden_in_some_rows_is_a_fault_of_those_rows(standin: StandIn) -> None:
    standin.write(SST2, train=[*sst2(2), *sst2(1, -1)])
    with pytest.raises(DataError, match=r"\[train\]:3: has an empty label") as caught:
        standin.load("sentiment", "movies")
    assert len(caught.value.faults) == 1


def test_bad_rows_of_the_hub_are_left_out_where_the_entry_or_the_user_says_so(standin: StandIn) -> None:
    """As in SNLI, of which some rows have no label, and QQP, of which some have no text."""
    standin.write(SST2, train=[*sst2(98), *sst2(1, -1), {"idx": 0, "sentence": "", "label": 0}], test=sst2(3))
    file = f"{standin.folder}[train]"
    said = (
        "2 rows of train left out (data.bad_rows=skip): "
        f"1 like {file}:99: has an empty label; 1 like {file}:100: has an empty text."
    )
    assert said in standin.load("sentiment", "movies", bad_rows="skip").notes
    task = standin.task("sentiment", "movies", bad_rows="error")
    skip, error = (dataclasses.replace(HUB, bad_rows=one) for one in ("skip", "error"))
    assert said in load(task, "movies", skip, kind=restore(task)).notes
    told = standin.task("sentiment", "movies", bad_rows="skip")
    with pytest.raises(DataError) as caught:
        load(told, "movies", error, kind=restore(told))
    assert [one.where for one in caught.value.faults] == [f"{file}:99", f"{file}:100"]


@pytest.mark.parametrize("domain", ["social", "reuters"])
def test_ner_tags_are_named(standin: StandIn, domain: str) -> None:
    tags = ClassLabel(names=["O", "B-person", "I-person"])
    row = {"id": "0", "tokens": ["Jane", "Doe", "left"], "ner_tags": [1, 2, 0]}
    standin.write({"id": TEXT, "tokens": List(TEXT), "ner_tags": List(tags)}, **three(row))
    dataset = standin.load("ner", domain)
    tagged = {"tokens": ["Jane", "Doe", "left"], "tags": ["B-person", "I-person", "O"], "id": "0"}
    assert fields(dataset.test.rows) == [tagged]


def test_ner_tags_that_are_numbers_without_names_are_a_fault(standin: StandIn) -> None:
    standin.write({"tokens": List(TEXT), "ner_tags": List(Value("int64"))}, **three({"tokens": ["a"], "ner_tags": [0]}))
    with pytest.raises(DataError, match="`tags`"):
        standin.load("ner", "social")


def test_medqa_options_are_ordered_by_letter_and_the_answer_becomes_a_position(standin: StandIn) -> None:
    options = {letter: TEXT for letter in "DCBA"}
    row = {"question": "Which?", "answer": "c", "options": {x: x.lower() for x in "DCBA"}, "answer_idx": "C"}
    features = {"question": TEXT, "answer": TEXT, "options": options, "answer_idx": TEXT}
    standin.write(features, **three(row))
    dataset = standin.load("medqa", "usmle")
    assert fields(dataset.train.rows) == [{"question": "Which?", "options": ["a", "b", "c", "d"], "answer": 2}]


def test_medmcqa_gathers_its_option_columns_and_its_hidden_test_split_is_cut(standin: StandIn) -> None:
    def rows(count: int, answer: int | None = None) -> list[dict[str, Any]]:
        options = {"opa": "w", "opb": "x", "opc": "y", "opd": "z"}
        return [
            {"id": f"i{i}", "question": f"q{i}", **options, "cop": i % 4 if answer is None else answer}
            for i in range(count)
        ]

    texts = dict.fromkeys(("id", "question", "opa", "opb", "opc", "opd"), TEXT)
    standin.write(
        {**texts, "cop": ClassLabel(names=list("abcd"))},
        train=rows(100),
        validation=rows(4),
        test=rows(5, -1),
    )
    dataset = standin.load("medqa", "medmcqa")
    asked = {"question": "q3", "options": ["w", "x", "y", "z"], "answer": 3, "id": "i3"}
    assert fields(dataset.validation.rows)[3] == asked
    assert dataset.test.cut_from == "train"


def test_pubmedqa_joins_its_paragraphs_and_cuts_both_splits(standin: StandIn) -> None:
    context = {"contexts": List(TEXT), "labels": List(TEXT)}
    features = {"pubid": Value("int32"), "question": TEXT, "context": context, "final_decision": TEXT}
    rows = [
        {
            "pubid": i,
            "question": f"q{i}",
            "context": {"contexts": ["One.", "Two."], "labels": ["A", "B"]},
            "final_decision": "maybe",
        }
        for i in range(200)
    ]
    standin.write(features, train=rows)
    dataset = standin.load("pubmedqa", "default")
    assert fields(dataset.train.rows)[0] | {"text": ""} == {
        "text": "",
        "text_pair": "One. Two.",
        "label": "maybe",
    }
    assert (dataset.validation.cut_from, dataset.test.cut_from) == ("train", "train")


def test_squad_answers_pass_through(standin: StandIn) -> None:
    answers = {"text": ["b"], "answer_start": [2]}
    row = {"question": "q", "context": "a b", "answers": answers}
    shape = {"text": List(TEXT), "answer_start": List(Value("int32"))}
    standin.write({"question": TEXT, "context": TEXT, "answers": shape}, **three(row))
    task = TaskConfig(name="qa", kind="extractive_qa", hub={"default": HubConfig(id=str(standin.folder))})
    assert fields(load(task, "default", HUB, kind=restore(task)).test.rows) == [row]


def test_four_and_five_options_may_be_mixed(standin: StandIn) -> None:
    options = {letter: TEXT for letter in "ABCDE"}
    four = {
        "question": "q",
        "options": {**dict(zip("ABCD", "abcd", strict=True)), "E": None},
        "answer_idx": "D",
    }
    five = {"question": "r", "options": dict(zip("ABCDE", "abcde", strict=True)), "answer_idx": "E"}
    standin.write({"question": TEXT, "options": options, "answer_idx": TEXT}, train=[four, five], **held_out(four))
    rows = standin.load("medqa", "usmle").train.rows
    assert [(len(row.fields["options"]), row.fields["answer"]) for row in rows] == [(4, 3), (5, 4)]


@pytest.mark.parametrize(("keys", "answer"), [("ABC", "C"), ("123", "3"), ("abc", "c")])
def test_answer_may_be_the_key_of_its_option(standin: StandIn, keys: str, answer: str) -> None:
    row = {"question": "q", "options": dict(zip(keys, "xyz", strict=True)), "answer_idx": answer}
    features = {"question": TEXT, "options": dict.fromkeys(keys, TEXT), "answer_idx": TEXT}
    standin.write(features, **three(row))
    assert standin.load("medqa", "usmle").train.rows[0].fields["answer"] == 2


def test_answer_may_be_a_letter_where_options_are_a_list_and_a_numeral_is_refused(standin: StandIn) -> None:
    row = {"question": "q", "options": ["x", "y"], "answer_idx": "B"}
    features = {"question": TEXT, "options": List(TEXT), "answer_idx": TEXT}
    # "1" could count from 0 or from 1.
    standin.write(features, train=[row, {**row, "answer_idx": "1"}], **held_out(row))
    with pytest.raises(DataError, match=r"\[train\]:2: '1' is no whole number") as caught:
        standin.load("medqa", "usmle")
    assert len(caught.value.faults) == 1


def test_splits_are_mapped_and_those_not_read_are_noted(standin: StandIn) -> None:
    standin.write(SST2, train=sst2(8), validation=sst2(3), test=sst2(2), unsupervised=sst2(1))
    dataset = standin.load("sentiment", "movies", splits={"validation": "test", "test": "validation"})
    assert [len(split.rows) for split in (dataset.validation, dataset.test)] == [2, 3]
    assert any("[unsupervised] was not read" in note for note in dataset.notes)


def test_a_split_that_another_name_is_mapped_to_is_read_once(standin: StandIn) -> None:
    standin.write(SST2, train=sst2(200), validation=[{"idx": 0, "sentence": "v", "label": 1}], test=sst2(9, -1))
    dataset = standin.load("sentiment", "movies", splits={"test": "validation"})
    assert fields(dataset.test.rows) == [{"text": "v", "label": "positive"}]
    assert dataset.validation.cut_from == "train"
    assert f"{standin.folder}[test] was not read." in dataset.notes


def test_faults_of_the_mapping_are_reported_at_once_with_their_keys(standin: StandIn) -> None:
    standin.write(SST2, **three(sst2(1)[0]))
    with pytest.raises(DataError) as caught:
        standin.load(
            "sentiment",
            "movies",
            columns={"text": "txt", "tags": "idx"},
            splits={"test": "t", "dev": "train"},
        )
    wheres = [fault.where.removeprefix("task.sentiment.hub.movies.") for fault in caught.value.faults]
    assert wheres[:3] == ["splits.test", "splits.dev", "columns.tags"]
    assert set(wheres[3:]) == {"columns.text"}
    assert "idx, sentence, label" in caught.value.faults[3].rule


def test_data_set_without_train_says_which_key_names_it(standin: StandIn) -> None:
    standin.write(SST2, test=sst2(3))
    with pytest.raises(DataError, match=r"no train split.*task\.sentiment\.hub\.movies\.splits\.train"):
        standin.load("sentiment", "movies")


@pytest.mark.parametrize("name", ["nobody/none-such", "sst2", "/no/such/folder"])
def test_id_that_cannot_be_reached_is_named_with_the_remedies(standin: StandIn, name: str) -> None:
    with pytest.raises(DataError, match="cannot be loaded from the hub") as caught:
        standin.load("sentiment", "movies", id=name)
    (fault,) = caught.value.faults
    assert fault.where == name
    for word in ("owner/name", "HF_TOKEN", "HF_HUB_OFFLINE", "network"):
        assert word in fault.remedy


def test_unknown_configuration_is_an_error(standin: StandIn) -> None:
    standin.write(SST2, train=sst2(3))
    with pytest.raises(DataError, match=r"cannot be loaded.*pqa_labelled"):
        standin.load("sentiment", "movies", config="pqa_labelled")


def test_loading_writes_nothing_to_the_console(standin: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    datasets.enable_progress_bars()
    standin.write(SST2, train=sst2(50))
    capfd.readouterr()
    standin.load("sentiment", "movies")
    assert capfd.readouterr() == ("", "")


def test_what_the_libraries_say_goes_to_our_log_alone(
    standin: StandIn, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    library = logging.getLogger("huggingface_hub")
    library.addHandler(logging.StreamHandler())
    standin.write(SST2, train=sst2(50))
    standin.load("sentiment", "movies")
    library.warning("Retrying in 1s")
    assert "Retrying" not in capfd.readouterr().err
    assert "Retrying in 1s" in caplog.text


def test_bare_task_on_the_hub_means_its_only_domain(standin: StandIn) -> None:
    task = standin.task("sentiment", "movies")
    assert resolve(["sentiment"], {"sentiment": task}, HUB) == [(task, "movies")]


def three(row: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {"train": [row], **held_out(row)}


def held_out(row: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {"validation": [row], "test": [row]}
