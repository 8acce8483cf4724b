"""What a model card says, whether or not its bundle was tested here."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, TaskConfig
from pipeline.config.task import HubConfig
from pipeline.core.data.ledger import Entry, Ledger
from pipeline.core.engine.bundle import Bundle, BundleRecord
from pipeline.rules.card import MOST_CHARACTERS, Origin, front_matter, model_card, origin_of
from tests.unit.tracking.conftest import Story, make_job, verdict

APACHE = {"license": "apache-2.0", "language": "en, de"}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Of a tagging task, with 5 bytes."""
    (tmp_path / "weights").write_bytes(b"12345")
    record = BundleRecord(
        job="ner/news",
        task=TaskConfig(name="ner", kind="tagging", hub={"news": HubConfig(id="some/news")}),
        labels=["O", "B-PER", "I-PER"],
        method=MethodConfig(name="houlsby", width=24),
        engine=EngineConfig(learning_rate=0.0012, epochs=5),
        checkpoint=CheckpointConfig(name="bert_base", source="hub", location="google/bert"),
        checkpoint_sha256="0123456789abcdef0123",
        seed=7,
        epoch=4,
        validation={"f1": 0.81},
        data={},
        num_trained=2_500,
        num_checkpoint=100_000,
    )
    return Bundle(folder=tmp_path, record=record)


ORIGIN = Origin(
    source="hub",
    seed=3,
    rows={"train": 1200, "validation": 70, "test": 90},
    scores={"f1": 0.7},
    primary=0.7,
    low=0.6,
    high=0.8,
    baseline=0.25,
    champion=3,
    beside={"20260101-a": [0.71, 0.69]},
    alias="champion",
    reason="0.710 against 0.690 | it is better",
)


def test_a_card_says_all_that_is_known(bundle: Bundle) -> None:
    card = model_card(bundle, ORIGIN, APACHE, usage="import this")
    for line in (
        "# ner/news\n\nAn adapter for tagging on the frozen checkpoint bert_base. Its 3 labels: O, B-PER, I-PER.",
        "```python\nimport this\n```",
        "|  | f1 | 95 % interval |",
        "| **this version**, 90 test rows | **0.700** | 0.600 to 0.800 |",
        "| baseline: an answer without a model | 0.250 |  |",
        "Beside version 3, the champion then, on the same rows:",
        "| 20260101-a | 0.710 | 0.690 |",
        "All metrics on the test rows: f1 0.700. On the validation rows, by which it was chosen: f1 0.810.",
        "Registered as champion: 0.710 against 0.690 | it is better.",
        "Source: some/news on the Hugging Face hub. Rows: 1,200 train, 70 validation, 90 test.",
        "* houlsby, width 24; learning rate 0.0012, batches of 16, the weights of epoch 4 of 5; seed 3",
        "* trained: 2,500 parameters, 2.50 % of the checkpoint's; 0.00 MB",
        "* checkpoint: google/bert, sha256 0123456789abcdef; its licence: apache-2.0",
        "* With 90 test rows the score may as well be 0.600 or 0.800: less than that is no difference.",
        "* The language of the rows was not looked at; that of the checkpoint: en, de.",
    ):
        assert line in card
    assert "Not clearly better" not in card and "read in part" not in card


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"low": 0.2}, "* Not clearly better than its baseline (0.700 against 0.250)."),
        ({"low": 0.2, "chance": 0.1}, "* Not clearly better than the checkpoint without any training (0.700 against"),
        ({"chance": 0.1}, "| baseline: the checkpoint without any training | 0.250 |  |"),
        ({"num_truncated": 1234}, "* 1,234 of the test rows are longer than the model reads, and were read in part."),
        ({"source": "starter"}, "Source: the starter corpus that is shipped with the code."),
        ({"source": "/home/anna/secret/mails"}, "Source: files in `mails`."),
    ],
)
def test_a_card_says_its_limits_and_its_source(changes: dict[str, Any], line: str, bundle: Bundle) -> None:
    card = model_card(bundle, dataclasses.replace(ORIGIN, **changes), {}, usage="")
    assert line in card
    assert "/home/anna" not in card
    assert "its licence: not stated" in card


def test_what_nobody_has_tested_here_says_so(bundle: Bundle) -> None:
    card = model_card(bundle, None, {}, usage="")
    assert "No test is kept with this bundle." in card
    converted = dataclasses.replace(bundle, record=dataclasses.replace(bundle.record, epoch=0, validation={}))
    assert "* houlsby, width 24\n" in model_card(converted, None, {}, usage="")


def test_a_card_is_never_longer_than_mlflow_keeps(bundle: Bundle) -> None:
    labels = [f"label {i}" for i in range(400)]
    many = dataclasses.replace(bundle, record=dataclasses.replace(bundle.record, labels=labels))
    periods = {f"period {i}": [0.5, 0.5] for i in range(100)}
    card = model_card(many, dataclasses.replace(ORIGIN, beside=periods, reason="word " * 1000), {}, usage="")
    assert "label 23 and 376 more." in card and "## Limits" in card and "| period 99 |" in card
    assert len(model_card(many, ORIGIN, {}, usage="x" * 9000)) == MOST_CHARACTERS


def test_the_hub_reads_what_stands_above_a_card(bundle: Bundle) -> None:
    above = front_matter(bundle, APACHE, library="peft", tags=["lora"])
    data = ModelCard(above + model_card(bundle, None, APACHE, usage="")).data.to_dict()
    assert data == {
        "library_name": "peft",
        "base_model": "google/bert",
        "license": "apache-2.0",
        "pipeline_tag": "token-classification",
        "tags": ["lora", "adapter", "houlsby", "ner"],
        "language": ["en", "de"],
    }


def test_a_checkpoint_that_is_not_the_hubs_is_no_base_model_there(bundle: Bundle) -> None:
    checkpoint = CheckpointConfig(name="own", source="path", location="/home/anna/bert")
    own = dataclasses.replace(bundle, record=dataclasses.replace(bundle.record, checkpoint=checkpoint))
    above = front_matter(own, {}, library="peft")
    assert "base_model" not in above and 'license: "unknown"' in above
    assert "checkpoint: own (path)" in model_card(own, None, {}, usage="") and "/home" not in above


def test_what_is_known_of_a_winner_is_put_together(tmp_path: Path) -> None:
    story = Story(job=make_job(), folder=tmp_path)
    history = (Entry(name="one", scores={"one": 0.6, "two": 0.65}), Entry(name="two", scores={"one": 0.5, "two": 0.7}))
    said = verdict("challenger", "it forgets", Ledger(trained=(), history=history))
    known = origin_of(story.job, story.tested(), said, 4)
    assert known == Origin(
        source="starter",
        seed=0,
        rows={"train": 4, "validation": 2, "test": 2},
        scores={"accuracy": 0.7, "macro_f1": 0.6},
        primary=0.7,
        low=0.6,
        high=0.8,
        baseline=0.5,
        num_truncated=1,
        champion=4,
        beside={"one": [0.5, 0.6], "two": [0.7, 0.65]},
        alias="challenger",
        reason="it forgets",
    )
    assert origin_of(story.job, story.tested(), said, None).beside == {}
