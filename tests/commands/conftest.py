"""Places to run commands in."""

import dataclasses
import json
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow
import pytest
from matplotlib.figure import Figure
from pyarrow import parquet
from transformers import (
    DistilBertConfig,
    DistilBertModel,
    DistilBertTokenizer,
    ElectraConfig,
    ElectraModel,
    ElectraTokenizer,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.commands import corpus
from tests.commands.workplace import Call, Done, Workplace
from tests.conftest import TinyBert, once

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "champion.tar.gz"


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    """Figures are made and not drawn, which takes a third of a small sweep; those of `make` in another process are."""
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(Figure, "savefig", lambda *_, **__: None)
        yield


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.fixture
def stored(workplace: Workplace, empty_database: Path) -> Workplace:
    """One with an empty tracking store."""
    return workplace.with_tables(empty_database)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Where a store lies that an earlier commit wrote (tests/fixtures/make_champion.py), at a path of its own."""
    root = tmp_path_factory.mktemp("earlier")
    place = Workplace(root)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(root, filter="data")
    for file in root.rglob("*"):
        if file.is_file() and file.suffix != ".safetensors":
            file.write_text(file.read_text("utf-8").replace("@PLACE@", str(root)), "utf-8")
    with closing(sqlite3.connect(place.cwd / "mlflow.db")) as database:
        database.executescript((place.cwd / "store.sql").read_text("utf-8"))
    return place


@pytest.fixture
def call(workplace: Workplace) -> Call:
    """Call a command in this process."""
    return workplace.call


def messages_of(done: Done) -> list[str]:
    """The faults of a command that was refused, sorted."""
    assert done.code == 2
    assert "Traceback" not in done.err
    title, *lines = done.err.splitlines()
    assert title == f"{len(lines)} things to mend:"
    return sorted(line.strip() for line in lines)


@pytest.fixture(scope="session")
def checkpoints(shared: Path, tiny_bert: TinyBert) -> dict[str, str]:
    """Family -> folder with a tiny random model and a tokenizer of the kind that the family has."""

    def make(root: Path) -> None:
        base, words = tiny_bert()
        vocabulary = words.get_vocab()
        sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
        distil = DistilBertConfig(vocab_size=len(vocabulary), dim=32, n_layers=2, n_heads=2, hidden_dim=64)
        electra = ElectraConfig(vocab_size=len(vocabulary), embedding_size=16, **sizes)
        pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *bytes_to_unicode().values(), "he", "the"]
        merges = [("h", "e"), ("t", "he")]
        byte_level = RobertaTokenizer(
            vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges, model_max_length=64
        )
        roberta = RobertaConfig(vocab_size=len(pieces), max_position_embeddings=66, pad_token_id=1, **sizes)
        made = {
            "bert": (base, words),
            "roberta": (RobertaModel(roberta), byte_level),
            "distilbert": (DistilBertModel(distil), DistilBertTokenizer(vocab=vocabulary, model_max_length=64)),
            "electra": (ElectraModel(electra), ElectraTokenizer(vocab=vocabulary, model_max_length=64)),
        }
        for name, parts in made.items():
            for part in parts:
                part.save_pretrained(root / name)

    return {folder.name: str(folder) for folder in once(shared / "checkpoints", make).iterdir()}


@pytest.fixture(scope="session")
def formats(shared: Path) -> Path:
    """Data of four tasks in four formats: intent in csv, ner in conll, medqa in parquet, triage in jsonl."""

    def make(folder: Path) -> None:
        for seed, (split, count) in enumerate({"train": 48, "validation": 24, "test": 24}.items()):
            opinions, sentences, questions = (
                corpus.rows(draw, count, seed) for draw in (corpus.opinion, corpus.journey, corpus.question)
            )
            for task in ("intent", "ner", "medqa", "triage"):
                (folder / task).mkdir(exist_ok=True)
            (folder / "intent" / f"{split}.csv").write_text(corpus.as_csv(opinions), "utf-8")
            (folder / "ner" / f"{split}.conll").write_text(corpus.as_conll(sentences), "utf-8")
            parquet.write_table(pyarrow.Table.from_pylist(questions), folder / "medqa" / f"{split}.parquet")
            triage = [{"message": row["text"], "queue": row["label"]} for row in opinions]
            (folder / "triage" / f"{split}.jsonl").write_text(corpus.as_jsonl(triage), "utf-8")

    return once(shared / "formats", make)


@pytest.fixture(scope="session")
def own_tasks(shared: Path) -> Path:
    """A folder of the user's own with one task of ten lines, as the README shows it."""

    def make(folder: Path) -> None:
        (folder / "triage.yaml").write_text(TRIAGE, "utf-8")

    return once(shared / "own", make)


TRIAGE = """\
# Which queue does a message go to?
kind: classification
columns:
  text: message
  label: queue
labels: [positive, negative]
metric: macro_f1
default_domain: mail
max_length: 32
class_weights: true
"""


@pytest.fixture(scope="session")
def swept(
    shared: Path, checkpoints: dict[str, str], formats: Path, own_tasks: Path
) -> tuple[Workplace, Done, list[str]]:
    """A sweep over all formats by `make`, on Ray: where it ran, how it ended, and the words that were given."""
    words = ["TASKS=intent,ner,medqa,triage", f"DATA={formats}", f"CONF={own_tasks}"]
    words += [f"CHECKPOINT={checkpoints['bert']}", "TRIALS=3", "EPOCHS=2", "SEED=7", *SMALL]

    def make(folder: Path) -> None:
        done = Workplace(folder).make("sweep", *words[: -len(SMALL)], f"ARGS={' '.join(SMALL)}")
        (folder / "done.json").write_text(json.dumps(dataclasses.asdict(done)), "utf-8")

    folder = once(shared / "swept", make)
    return Workplace(folder), Done(**json.loads((folder / "done.json").read_text("utf-8"))), words


SMALL = ["search.space.method.width={choice:[2,4]}", "engine.batch_size=8"]
