"""A GPU machine that has torch, transformers, tokenizers and safetensors alone can train and predict."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tests import writers

pytestmark = pytest.mark.commands

ROOT = Path(__file__).parents[2]

BLOCKED = (
    "ray",
    "mlflow",
    "hydra",
    "omegaconf",
    "datasets",
    "peft",
    "sklearn",
    "seqeval",
    "sacrebleu",
    "cronsim",
    "rich",
    "optuna",
    "pandas",
    "matplotlib",
    "pyarrow",
    "scipy",
)

IMPORT_ALL = """
import sys

class Hidden:
    '''A finder that finds nothing of what is blocked, as where it was never installed.'''

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in BLOCKED else self.finder.find_spec(name, path, target)

BLOCKED = set(sys.argv[2].split(","))
sys.meta_path[:] = [Hidden(finder) for finder in sys.meta_path]

import importlib
import pkgutil
import pipeline.core

found = pkgutil.walk_packages(pipeline.core.__path__, "pipeline.core.")
imported = [importlib.import_module(one.name) for one in found]
assert len(imported) > 30, imported
there = sorted({name.split(".")[0] for name in sys.modules} & BLOCKED)
assert not there, there
"""

TRAIN = """
from pathlib import Path

from pipeline.core.adapters.checkpoint import load_checkpoint, open_checkpoint
from pipeline.core.bank.predictor import Predictor
from pipeline.config import CheckpointConfig, DataConfig, EngineConfig, MethodConfig, TaskConfig
from pipeline.core.data.load import load
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.events import Evaluated
from pipeline.core.engine.session import Session, test
from pipeline.core.engine.trials import Job, Settings, trial_of
from pipeline.core.tasks.kinds import restore, task_for

folder = Path(sys.argv[1])
residents = {
    name: load_checkpoint(open_checkpoint(CheckpointConfig(name=name, source="path", location=str(folder / name))))
    for name in ("tiny", "writer")
}
asked = {
    "sentiment": ({"kind": "classification", "metric": "macro_f1"}, "a good film"),
    "ner": ({"kind": "tagging"}, "anna went to paris"),
    "medqa": ({"kind": "multiple_choice"}, {"question": "what is hot", "options": ["fire", "water", "wind"]}),
    "qa": ({"kind": "extractive_qa"}, {"question": "who saw the film", "context": "anna saw the film"}),
    "colour": ({"kind": "generation", "max_length": 32, "max_new_tokens": 4}, "what is red"),
}
for name, (values, item) in asked.items():
    resident = residents["writer" if values["kind"] == "generation" else "tiny"]
    checkpoint, base, tokenizer = resident.checkpoint, resident.base, resident.tokenizer
    config = TaskConfig(name=name, default_domain="d", **values)
    dataset = load(config, "d", DataConfig(source=str(folder / "data")), kind=restore(config))
    task = task_for(config, dataset)
    job = Job(
        name=f"{name}/d",
        registered_name=name,
        task=task,
        dataset=dataset,
        encoded={split.name: task.encode(split.rows, tokenizer) for split in dataset.splits},
        settings=Settings(method=MethodConfig(name="pfeiffer", width=4), engine=EngineConfig(epochs=1)),
        seed=0,
    )
    trial = trial_of(job, 0, {})
    session = Session(base, checkpoint, tokenizer.pad_token_id, job, trial, folder / name)
    (evaluated,) = [event for event in session.events() if isinstance(event, Evaluated)]
    bundle = session.bundle
    session.close()
    tested = test(base, checkpoint, tokenizer.pad_token_id, job, trial, bundle)
    (answer,) = Predictor(resident).predict(read_bundle(bundle), [item])
    print(name, evaluated.metrics, tested.scores, answer)

importlib.import_module("tests.bench.gpu")
there = sorted({name.split(".")[0] for name in sys.modules} & BLOCKED)
assert not there, there
"""

ROWS: Mapping[str, list[dict[str, object]]] = {
    "sentiment": [{"text": "a good film", "label": "positive"}, {"text": "a dull book", "label": "negative"}],
    "ner": [{"tokens": ["anna", "saw", "oslo"], "tags": ["B-PER", "O", "B-LOC"]}],
    "medqa": [
        {"question": "what is cold", "options": ["fire", "water"], "answer": 1},
        {"question": "what is red", "options": ["fire", "water", "wind"], "answer": 0},
    ],
    "qa": [
        {
            "question": "who met carl",
            "context": "dora met carl in rome",
            "answers": {"text": ["dora"], "answer_start": [0]},
        }
    ],
    "colour": [{"text": "fire is", "target": "red"}, {"text": "water is", "target": "blue"}],
}


@pytest.fixture
def folder(tmp_path: Path, tiny_bert: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]]) -> Path:
    """An encoder in `tiny`, a decoder that can write in `writer`, and rows of every kind of task in `data`."""
    encoder, tokenizer = tiny_bert()
    encoder.save_pretrained(tmp_path / "tiny")
    writers.make_model("gpt2", len(tokenizer)).save_pretrained(tmp_path / "writer")
    for name in ("tiny", "writer"):
        tokenizer.save_pretrained(tmp_path / name)
    for task, rows in ROWS.items():
        (tmp_path / "data" / task).mkdir(parents=True)
        for split in ("train", "validation", "test"):
            text = "".join(json.dumps(row) + "\n" for row in rows * 4)
            (tmp_path / "data" / task / f"{split}.jsonl").write_text(text, "utf-8")
    return tmp_path


def run(program: str, folder: Path, *blocked: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, str(folder), ",".join(blocked)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_kind_of_task_trains_tests_and_predicts_with_all_other_packages_blocked(folder: Path) -> None:
    done = run(IMPORT_ALL + TRAIN, folder, *BLOCKED)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(ROWS)


def test_a_package_that_is_needed_is_missed_when_it_is_blocked(tmp_path: Path) -> None:
    done = run(IMPORT_ALL, tmp_path, *BLOCKED, "safetensors")
    assert done.returncode != 0
    assert "No module named 'safetensors'" in done.stderr
