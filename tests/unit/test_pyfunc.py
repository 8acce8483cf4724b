import dataclasses
import re
import warnings
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.config import CheckpointConfig
from pipeline.core.adapters.checkpoint import load_checkpoint, open_checkpoint
from pipeline.core.bank.predictor import Predictor
from pipeline.core.engine.assemble import fresh_model, release, trained
from pipeline.core.engine.bundle import read_bundle, write_bundle
from pipeline.pyfunc import ORIGIN, items_of
from pipeline.steps.convert import card_of
from pipeline.tracking.lookup import fetch
from pipeline.tracking.store import Store
from tests.unit.tracking.conftest import enrol, verdict


@pytest.fixture
def champion(store: Store, story: Any, tiny_bert: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle folder of the champion of `sentiment`, with real weights on a checkpoint on disk."""
    base: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    base, tokenizer = tiny_bert()
    base.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    checkpoint = open_checkpoint(CheckpointConfig(name="tiny", source="path", location=str(tmp_path / "tiny")))
    settings = story.trial().settings
    model = fresh_model(base, checkpoint, story.job.task, settings.method, settings.engine, 0)
    record = dataclasses.replace(
        read_bundle(story.bundle()).record, checkpoint=checkpoint.config, checkpoint_sha256=checkpoint.sha256
    )
    write_bundle(tmp_path / "real", record, trained(model, settings.method))
    release(model, settings.method)
    winner = dataclasses.replace(story.tested(), bundle=tmp_path / "real")
    enrol(store, "one", winner, verdict("champion"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    return fetch(store, "sentiment")


def test_champion_loads_by_name_and_answers_like_the_predictor(champion: Path) -> None:
    asked = ["good film, 'great' \"plot\" $5 [x]\nnew", "awful book"]
    bundle = read_bundle(champion)
    expected = Predictor(load_checkpoint(open_checkpoint(bundle.record.checkpoint))).predict(bundle, asked)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = mlflow.pyfunc.load_model("models:/sentiment@champion")
        assert model.predict(asked) == expected
        assert model.predict([{"text": text} for text in asked]) == expected
        assert model.predict(pd.DataFrame({"text": asked})) == expected
        assert model.predict(pd.Series(asked)) == expected
        assert model.predict(asked[1]) == model.predict([asked[1]])


def test_a_version_has_a_card_whose_three_lines_load_it_and_an_export_has_the_same_card(
    champion: Path, store: Store
) -> None:
    version = store.client.get_model_version("sentiment", "1")
    card = version.description
    assert card.startswith("# sentiment/films\n\nAn adapter for classification on the frozen checkpoint tiny.")
    assert "| **this version**, 2 test rows | **0.700** | 0.600 to 0.800 |" in card
    (lines,) = re.findall(r"```python\n(.*)\n```", card, re.S)
    assert lines.count("\n") == 2
    _, set_uri, ask = lines.split("\n")
    assert set_uri == f"mlflow.set_tracking_uri({store.uri!r})"
    found = re.match(
        r'mlflow\.pyfunc\.load_model\("(models:/m-\w+)"\)\.predict\((.*)\)  # or models:/sentiment@cham', ask
    )
    assert found is not None and found[2] == "['test 0']"
    model = mlflow.pyfunc.load_model(found[1])
    assert model.predict(["test 0"]) == model.predict(model.input_example)

    bundle = read_bundle(champion)
    exported = card_of(bundle, open_checkpoint(bundle.record.checkpoint), ["load()"], library="peft", tags=["lora"])
    assert exported.startswith('---\nlibrary_name: "peft"\n')
    assert exported.split("## Data")[1] == card.split("## Data")[1]
    assert "**0.700** | 0.600 to 0.800" in exported
    (champion.parent / ORIGIN).write_text("{}")  # as somebody has spoiled it
    assert "No test is kept" in card_of(bundle, open_checkpoint(bundle.record.checkpoint), [], library="x", tags=[])


@pytest.mark.parametrize(
    ("model_input", "items"),
    [
        ("one", ["one"]),
        ({"text": "one"}, [{"text": "one"}]),
        (("one", "two"), ["one", "two"]),
        (np.array(["one", "two"]), ["one", "two"]),
        (pd.Series(["one"]), ["one"]),
        ([], []),
        (np.array([]), []),
        (pd.DataFrame(), []),
        (pd.DataFrame({"a": [], "b": []}), []),
        (pd.DataFrame({"0": ["one", "two"]}), ["one", "two"]),
        (pd.DataFrame({"a": ["x"], "b": [["y", "z"]]}), [{"a": "x", "b": ["y", "z"]}]),
    ],
)
def test_every_usual_input_becomes_a_list_of_items(model_input: Any, items: list[Any]) -> None:
    assert items_of(model_input) == items


def test_a_version_names_the_module_that_never_moves(champion: Path) -> None:
    assert "loader_module: pipeline.pyfunc\n" in (champion.parents[2] / "MLmodel").read_text("utf-8")
