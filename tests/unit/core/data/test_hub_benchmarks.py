"""The benchmarks of `conf/task/` by stand-ins in the schema that each has on the hub."""

from collections.abc import Sequence
from typing import Any

import pytest
from datasets import ClassLabel, List, Value

from pipeline.core.data.rows import Row
from pipeline.core.tasks.kinds import task_for
from tests.unit.core.data.standin import TEXT, StandIn

GLUE: list[tuple[str, str, list[str], list[str], str, str, dict[str, str]]] = [
    # task, domain, columns of text, names of labels, the split that is the test, metric, row 1 of it
    (
        "glue_cola",
        "default",
        ["sentence"],
        ["unacceptable", "acceptable"],
        "validation",
        "matthews",
        {"text": "validation sentence 1", "label": "acceptable"},
    ),
    (
        "glue_sst2",
        "default",
        ["sentence"],
        ["negative", "positive"],
        "validation",
        "accuracy",
        {"text": "validation sentence 1", "label": "positive"},
    ),
    (
        "glue_mrpc",
        "default",
        ["sentence1", "sentence2"],
        ["not_equivalent", "equivalent"],
        "test",
        "f1",
        {"text": "test sentence1 1", "text_pair": "test sentence2 1", "label": "equivalent"},
    ),
    (
        "glue_qqp",
        "default",
        ["question1", "question2"],
        ["not_duplicate", "duplicate"],
        "validation",
        "f1",
        {"text": "validation question1 1", "text_pair": "validation question2 1", "label": "duplicate"},
    ),
    (
        "glue_mnli",
        "matched",
        ["premise", "hypothesis"],
        ["entailment", "neutral", "contradiction"],
        "validation_matched",
        "accuracy",
        {"text": "validation_matched premise 1", "text_pair": "validation_matched hypothesis 1", "label": "neutral"},
    ),
    (
        "glue_mnli",
        "mismatched",
        ["premise", "hypothesis"],
        ["entailment", "neutral", "contradiction"],
        "validation_mismatched",
        "accuracy",
        {
            "text": "validation_mismatched premise 1",
            "text_pair": "validation_mismatched hypothesis 1",
            "label": "neutral",
        },
    ),
    (
        "glue_qnli",
        "default",
        ["question", "sentence"],
        ["entailment", "not_entailment"],
        "validation",
        "accuracy",
        {"text": "validation question 1", "text_pair": "validation sentence 1", "label": "not_entailment"},
    ),
    (
        "glue_rte",
        "default",
        ["sentence1", "sentence2"],
        ["entailment", "not_entailment"],
        "validation",
        "accuracy",
        {"text": "validation sentence1 1", "text_pair": "validation sentence2 1", "label": "not_entailment"},
    ),
    (
        "snli",
        "default",
        ["premise", "hypothesis"],
        ["entailment", "neutral", "contradiction"],
        "test",
        "accuracy",
        {"text": "test premise 1", "text_pair": "test hypothesis 1", "label": "neutral"},
    ),
]


def fields(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [dict(row.fields) for row in rows]


def written(split: str, count: int, columns: list[str], labels: int) -> list[dict[str, Any]]:
    """Rows of a split; their labels are hidden if `labels` is 0."""
    return [
        {
            "idx": i,
            **{column: f"{split} {column} {i}" for column in columns},
            "label": i % labels if labels else -1,
        }
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("name", "domain", "columns", "labels", "tested", "metric", "row"), GLUE, ids=[f"{one[0]}/{one[1]}" for one in GLUE]
)
def test_rows_of_pairs_and_sentences_are_those_of_the_benchmark(
    standin: StandIn,
    name: str,
    domain: str,
    columns: list[str],
    labels: list[str],
    tested: str,
    metric: str,
    row: dict[str, str],
) -> None:
    matched = ["_matched", "_mismatched"] if name == "glue_mnli" else [""]
    held_out = [part + which for part in ("validation", "test") for which in matched]
    hides = not tested.startswith("test")
    splits = {
        part: written(part, 5, columns, 0 if hides and part.startswith("test") else len(labels)) for part in held_out
    }
    features = {"idx": Value("int32"), **dict.fromkeys(columns, TEXT), "label": ClassLabel(names=labels)}
    standin.write(features, train=written("train", 60, columns, len(labels)), **splits)
    config = standin.task(name, domain)
    dataset = standin.load(name, domain)
    assert fields(dataset.test.rows)[1] == row
    assert len(dataset.test.rows) == 5 and dataset.test.cut_from is None
    if hides:  # what is published is of validation, which selects nothing here
        assert dataset.validation.cut_from == "train"
    else:
        assert [one["text"] for one in fields(dataset.validation.rows)] == [
            f"validation {columns[0]} {i}" for i in range(5)
        ]
    task = task_for(config, dataset)
    assert (config.primary, task.labels) == (metric, tuple(labels))


def test_empty_questions_of_qqp_are_left_out_and_counted(standin: StandIn) -> None:
    columns = ["question1", "question2"]
    features = {**dict.fromkeys(columns, TEXT), "label": ClassLabel(names=["not_duplicate", "duplicate"])}
    train = [{"question1": f"q{i}?", "question2": "" if i in (3, 7) else f"r{i}?", "label": i % 2} for i in range(100)]
    standin.write(features, train=train, validation=train[10:15])
    dataset = standin.load("glue_qqp", "default")
    assert len(dataset.train.rows) + len(dataset.validation.rows) == 98
    left_out = (
        f"2 rows of train left out (data.bad_rows=skip): 2 like {standin.folder}[train]:4: has an empty text_pair."
    )
    assert left_out in dataset.notes


def test_pairs_of_snli_without_a_label_are_left_out_and_counted(standin: StandIn) -> None:
    columns = ["premise", "hypothesis"]
    features = {**dict.fromkeys(columns, TEXT), "label": ClassLabel(names=["entailment", "neutral", "contradiction"])}
    train, held_out = (
        [{"premise": f"p{i}", "hypothesis": f"{part}{i}", "label": i % 3} for i in range(60)] for part in "th"
    )
    train[5]["label"] = held_out[1]["label"] = -1
    standin.write(features, train=train, validation=held_out[:30], test=held_out[30:])
    dataset = standin.load("snli", "default")
    assert [len(split.rows) for split in dataset.splits] == [59, 29, 30]
    assert [note.partition(" (")[0] for note in dataset.notes] == [
        "1 row of train left out",
        "1 row of validation left out",
    ]


def test_mrpc_with_hidden_test_labels_is_cut_from_train(standin: StandIn) -> None:
    columns = ["sentence1", "sentence2"]
    features = {
        "sentence1": TEXT,
        "sentence2": TEXT,
        "label": ClassLabel(names=["not_equivalent", "equivalent"]),
        "idx": Value("int32"),
    }
    splits = {"train": written("train", 60, columns, 2), "validation": written("validation", 5, columns, 2)}
    standin.write(features, **splits, test=written("test", 5, columns, 0))
    dataset = standin.load("glue_mrpc", "default")
    assert dataset.test.cut_from == "train"
    assert "[test] was not read: label is hidden in all of its 5 rows." in dataset.notes[0]


def test_scores_of_sts_b_are_numbers(standin: StandIn) -> None:
    features = {"sentence1": TEXT, "sentence2": TEXT, "label": Value("float32"), "idx": Value("int32")}

    def rows(split: str, count: int, hidden: bool = False) -> list[dict[str, Any]]:
        return [
            {"sentence1": f"{split} a{i}", "sentence2": f"b{i}", "label": -1.0 if hidden else i % 6 * 0.5, "idx": i}
            for i in range(count)
        ]

    standin.write(features, train=rows("train", 60), validation=rows("validation", 4), test=rows("test", 4, True))
    dataset = standin.load("glue_stsb", "default")
    assert fields(dataset.test.rows)[3] == {"text": "validation a3", "text_pair": "b3", "score": 1.5}
    assert dataset.validation.cut_from == "train"
    task = task_for(standin.task("glue_stsb", "default"), dataset)
    assert task.config.primary == "spearman"
    hidden = standin.load("glue_stsb", "default", splits={})
    assert hidden.test.cut_from == "train"
    assert "[test] was not read: score is hidden in all of its 4 rows." in hidden.notes[0]


def test_squad_2_has_questions_without_an_answer(standin: StandIn) -> None:
    def rows(split: str, count: int) -> list[dict[str, Any]]:
        answers = {"text": ["Normans", "Normans"], "answer_start": [4, 4]}
        none: dict[str, Any] = {"text": [], "answer_start": []}
        return [
            {
                "id": f"{split}{i}",
                "title": "Normans",
                "context": f"The Normans were a people, {split} {i}.",
                "question": "Who were a people?",
                "answers": none if i % 3 == 1 else answers,
            }
            for i in range(count)
        ]

    answers = {"text": List(TEXT), "answer_start": List(Value("int32"))}
    features = {**dict.fromkeys(("id", "title", "context", "question"), TEXT), "answers": answers}
    standin.write(features, train=rows("train", 60), validation=rows("validation", 3))
    dataset = standin.load("squad2", "default")
    assert [row.fields["answers"] for row in dataset.test.rows] == [
        {"text": ["Normans", "Normans"], "answer_start": [4, 4]},
        {"text": [], "answer_start": []},
        {"text": ["Normans", "Normans"], "answer_start": [4, 4]},
    ]
    assert dataset.test.rows[1].id == "validation1" and dataset.validation.cut_from == "train"
    assert task_for(standin.task("squad2", "default"), dataset).config.unanswerable


def test_conll_2003_is_reuters_of_ner(standin: StandIn) -> None:
    entities = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
    features = {
        "id": TEXT,
        "tokens": List(TEXT),
        "pos_tags": List(ClassLabel(names=["NNP", "VBZ", "JJ", "NN", "."])),
        "chunk_tags": List(ClassLabel(names=["O", "B-NP", "I-NP", "B-VP"])),
        "ner_tags": List(ClassLabel(names=entities)),
    }
    row = {
        "id": "0",
        "tokens": ["EU", "rejects", "German", "call", "."],
        "pos_tags": [0, 1, 2, 3, 4],
        "chunk_tags": [1, 3, 1, 2, 0],
        "ner_tags": [3, 0, 7, 0, 0],
    }
    standin.write(features, train=[row], validation=[row], test=[row])
    dataset = standin.load("ner", "reuters")
    tagged = {"id": "0", "tokens": ["EU", "rejects", "German", "call", "."], "tags": ["B-ORG", "O", "B-MISC", "O", "O"]}
    assert fields(dataset.test.rows) == [tagged]
    assert task_for(standin.task("ner", "reuters"), dataset).names() == ["MISC", "ORG"]


def test_medqa_has_no_validation_split_and_columns_that_are_left_alone(standin: StandIn) -> None:
    def rows(split: str, count: int) -> list[dict[str, Any]]:
        return [
            {
                "question": f"A junior resident, {split} {i}?",
                "answer": "Tell the attending",
                "options": {"A": "Disclose", "B": "Tell the attending", "C": "Report", "D": "Refuse"},
                "meta_info": "step1",
                "answer_idx": "B",
                "metamap_phrases": ["junior", "resident"],
            }
            for i in range(count)
        ]

    options = dict.fromkeys("ABCD", TEXT)
    texts = dict.fromkeys(("question", "answer", "meta_info", "answer_idx"), TEXT)
    standin.write(
        {**texts, "options": options, "metamap_phrases": List(TEXT)}, train=rows("train", 60), test=rows("test", 1)
    )
    dataset = standin.load("medqa", "usmle")
    assert fields(dataset.test.rows) == [
        {
            "question": "A junior resident, test 0?",
            "options": ["Disclose", "Tell the attending", "Report", "Refuse"],
            "answer": 1,
        }
    ]
    assert dataset.validation.cut_from == "train"
