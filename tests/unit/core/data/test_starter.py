"""The shipped corpus keeps what the README says of it."""

import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from pipeline.config import DataConfig, TaskConfig
from pipeline.config.strict import build
from pipeline.core.data.load import load
from pipeline.core.data.rows import Dataset, Row
from pipeline.core.tasks.generation import render
from pipeline.core.tasks.kinds import restore, task_for

ROOT = Path(__file__).parents[4]
SENTIMENT = TaskConfig(name="sentiment", kind="classification", default_domain="films")
NER = TaskConfig(name="ner", kind="tagging", default_domain="news")
MEDQA = TaskConfig(name="medqa", kind="multiple_choice", default_domain="basics")
CORPORA = [(SENTIMENT, "films"), (SENTIMENT, "products"), (NER, "news"), (MEDQA, "basics")]


def starter(task: TaskConfig, domain: str) -> Dataset:
    return load(task, domain, DataConfig(), kind=restore(task))


def rows_of(dataset: Dataset) -> list[Row]:
    return [row for split in dataset.splits for row in split.rows]


def trigrams(row: Row) -> set[tuple[str, ...]]:
    """Word 3-grams of everything that a reader sees of a row."""
    fields = row.fields
    text = " ".join([fields.get("text", ""), *fields.get("tokens", []), fields.get("question", "")])
    words = re.findall(r"\w+", " ".join([text, *fields.get("options", [])]).lower())
    return {tuple(words[i : i + 3]) for i in range(len(words) - 2)} or {tuple(words)}


@pytest.mark.parametrize(("task", "domain"), CORPORA)
def test_rows_are_good_and_stand_in_one_split_only(task: TaskConfig, domain: str) -> None:
    dataset = starter(task, domain)
    task_for(task, dataset)
    assert not any(dataset.overlap.values())
    assert len({row.digest for row in rows_of(dataset)}) == len(rows_of(dataset))
    assert len(dataset.test.rows) >= 60


@pytest.mark.parametrize(("task", "domain"), CORPORA)
def test_no_two_rows_of_different_splits_share_half_of_their_trigrams(task: TaskConfig, domain: str) -> None:
    dataset = starter(task, domain)
    splits = [[trigrams(row) for row in split.rows] for split in dataset.splits]
    worst = max(
        len(a & b) / len(a | b) for first, second in combinations(splits, 2) for a in first for b in second if a & b
    )
    assert worst < 0.5


@pytest.mark.parametrize(("name", "completions"), [("sentiment_text", "negative positive"), ("medqa_text", "A B C D")])
def test_tasks_that_are_posed_as_text_read_the_same_rows(name: str, completions: str) -> None:
    values = yaml.safe_load((ROOT / "conf" / "task" / f"{name}.yaml").read_text("utf-8"))
    config = build(TaskConfig, {"name": name, **values})
    (own,) = [task for task in (SENTIMENT, MEDQA) if task.name == config.rows]
    assert config.default_domain == own.default_domain
    dataset, before = starter(config, own.default_domain), starter(own, own.default_domain)
    assert [row.digest for row in rows_of(dataset)] == [row.digest for row in rows_of(before)]
    task_for(config, dataset)
    assert {render(config.completion, row).strip() for row in rows_of(dataset)} == set(completions.split())


def test_sentiment_has_its_size_and_balance() -> None:
    domains = [rows_of(starter(SENTIMENT, domain)) for domain in ("films", "products")]
    assert sum(map(len, domains)) >= 600
    for rows in domains:
        counts = Counter(row.fields["label"] for row in rows)
        assert set(counts) == {"positive", "negative"}
        assert min(counts.values()) > 0.45 * len(rows)


def test_ner_has_its_size_and_types() -> None:
    dataset = starter(NER, "news")
    types = Counter(tag[2:] for row in rows_of(dataset) for tag in row.fields["tags"] if tag.startswith("B-"))
    assert len(rows_of(dataset)) >= 400
    assert sum(types.values()) >= 1200
    assert set(types) == {"PER", "LOC", "ORG", "DATE", "PROD"}
    assert min(types.values()) >= 100


def test_medqa_has_its_size_and_hides_the_answer() -> None:
    rows = rows_of(starter(MEDQA, "basics"))
    assert len(rows) >= 300
    assert {len(row.fields["options"]) for row in rows} == {4}
    places = Counter(row.fields["answer"] for row in rows)
    assert min(places.values()) > 0.2 * len(rows)
    longest = [max(range(4), key=lambda i: len(row.fields["options"][i])) for row in rows]
    hits = sum(guess == row.fields["answer"] for guess, row in zip(longest, rows, strict=True))
    assert hits < 0.33 * len(rows)
