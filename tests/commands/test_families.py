"""Model families from a folder on disk, through the whole command: searched, recorded, registered, asked."""

import json
import random
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from pipeline.cluster import connection
from pipeline.config import ClusterConfig
from pipeline.core.adapters.anatomy import ANATOMIES
from tests import writers
from tests.commands.workplace import Workplace
from tests.families import default_checkpoint
from tests.tiny import weights_of

pytestmark = pytest.mark.commands

COLOURS = {"red": "rouge", "blue": "bleu", "green": "vert", "grey": "gris"}
WORDS = [
    "the",
    "of",
    "in",
    "book",
    "film",
    "song",
    "food",
    "fire",
    "water",
    "plot",
    "house",
    "paris",
    "rome",
    "berlin",
    "oslo",
    "norway",
]
FRENCH = """\
kind: generation
rows: colour
prompt: "{text} ="
completion: "{target}"
max_new_tokens: 3
"""
GIVEN = ["TRIALS=1", "EPOCHS=8", "engine.batch_size=8", "engine.learning_rate=0.01", "CLUSTER=here"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("colours"), {"train": 160, "validation": 60, "test": 60})


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("few"), {"train": 16, "validation": 8, "test": 8})


def written(root: Path, counts: dict[str, int]) -> Path:
    """The colour word somewhere in a text: as a label, and in another language."""
    draw = random.Random(0)
    (root / "own").mkdir()
    (root / "own" / "colour.yaml").write_text("kind: classification\n", "utf-8")
    (root / "own" / "french.yaml").write_text(FRENCH, "utf-8")
    folder = root / "data" / "colour"
    folder.mkdir(parents=True)
    for split, count in counts.items():
        lines = []
        for _ in range(count):
            colour, words = draw.choice(list(COLOURS)), draw.choices(WORDS, k=draw.randint(3, 8))
            words.insert(draw.randrange(len(words)), colour)
            lines.append(json.dumps({"text": " ".join(words), "label": colour, "target": COLOURS[colour]}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines), "utf-8")
    return root


@pytest.mark.parametrize("family", writers.FAMILIES)
def test_a_family_that_writes_answers_and_its_adapter_beats_the_probe(
    family: str, rows: Path, stored: Workplace
) -> None:
    folder = stored.data / family
    tokenizer = writers.make_tokenizer(family, [*WORDS, *COLOURS, *COLOURS.values(), "="])
    tokenizer.save_pretrained(folder)
    writers.make_model(family, len(tokenizer), std=None if family == "t5" else 0.1).save_pretrained(folder)
    where = [f"DATA={rows / 'data'}", f"CONF={rows / 'own'}", f"CHECKPOINT={folder}"]

    done = stored.call("sweep", "TASKS=colour", *where, *GIVEN)
    assert done.code == 0, done.err + done.out
    (row,) = stored.leaderboard()
    assert row["alias"] == "champion"
    assert json.loads(stored.call("predict", "TASK=colour", "TEXT=the green book in rome").out)["label"] in COLOURS

    probed = stored.call("sweep", "TASKS=colour", "METHOD=probe", *where, *GIVEN)
    assert probed.code == 0, probed.err + probed.out
    scores = [run.data.metrics["test/primary"] for run in stored.runs("job") if run.data.tags["method"] == "probe"]
    assert row["test"] > scores[0] + 0.05 > row["baseline"]


FEW = ["TRIALS=1", "EPOCHS=1", "search.space.method.width={choice:[4]}", "engine.batch_size=16", "CLUSTER=here"]
SEARCHED = ["search=optuna", "TRIALS=4", "EPOCHS=2", "search.cohort=2", "engine.batch_size=8"]


@pytest.mark.parametrize("family", ANATOMIES)
def test_every_family_is_swept_with_the_configuration_that_its_class_has(
    family: str, few: Path, stored: Workplace
) -> None:
    """Its heads, norms, scales, tied embeddings, windows and special tokens. What can write writes."""
    folder = stored.data / family
    default_checkpoint(family, [*WORDS, *COLOURS, *COLOURS.values(), "="], folder)
    writes = ANATOMIES[family].kind != "encoder" and family != "qwen3"  # whose class has no end of a text
    where = [
        f"TASKS={'french' if writes else 'colour'}",
        f"DATA={few / 'data'}",
        f"CONF={few / 'own'}",
        f"CHECKPOINT={folder}",
    ]
    done = stored.call("sweep", *where, *FEW)
    assert done.code == 0, done.err + done.out
    assert [row["alias"] for row in stored.leaderboard()] == ["champion"]


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """A Ray of two cores, which the sweeps of a module join instead of starting their own."""
    with connection.connected(ClusterConfig(num_cpus=2)), pytest.MonkeyPatch.context() as joined:
        joined.setattr(connection, "connected", lambda cluster, shared_bytes: nullcontext())
        yield


@pytest.mark.faults
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_a_search_on_ray_ends_to_the_bit_as_one_in_this_process(
    family: str, few: Path, tmp_path: Path, empty_database: Path, one_ray: None
) -> None:
    """Two trials side by side: what comes out does not depend on the order in which they report."""
    folder, boards, weights = tmp_path / family, [], []
    default_checkpoint(family, [*WORDS, *COLOURS, *COLOURS.values(), "="], folder)
    task = "french" if ANATOMIES[family].kind != "encoder" else "colour"
    for cluster in ("local", "here"):
        place = Workplace(tmp_path / cluster).with_tables(empty_database)
        given = [f"DATA={few / 'data'}", f"CONF={few / 'own'}", f"CHECKPOINT={folder}", *SEARCHED]
        done = place.call("sweep", f"TASKS={task}", *given, f"CLUSTER={cluster}")
        assert done.code == 0, done.err + done.out
        boards.append(place.leaderboard())
        (sweep,) = (place.cwd / "runs").iterdir()
        weights.append(weights_of(sweep))
    assert boards[0] == boards[1]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
