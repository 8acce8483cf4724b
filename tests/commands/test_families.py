"""Model families from a folder on disk, through the whole command: searched, recorded, registered, asked."""

import json
import random
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from pipeline.core.adapters.anatomy import ANATOMIES
from tests import writers
from tests.commands.workplace import Workplace
from tests.families import default_checkpoint

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
SMALL = ["engine.batch_size=8", "CLUSTER=here"]
GIVEN = ["TRIALS=2", "EPOCHS=8"]
RATES = "search.space.engine.learning_rate={log_uniform:[0.005,0.02]}"


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
def test_a_sweep_searches_records_and_answers_and_its_adapter_beats_the_probe(
    family: str, rows: Path, stored: Workplace
) -> None:
    folder = stored.data / family
    tokenizer = writers.make_tokenizer(family, [*WORDS, *COLOURS, *COLOURS.values(), "="])
    tokenizer.save_pretrained(folder)
    writers.make_model(family, len(tokenizer), std=None if family == "t5" else 0.1).save_pretrained(folder)
    where = [f"DATA={rows / 'data'}", f"CONF={rows / 'own'}", f"CHECKPOINT={folder}"]

    done = stored.call("sweep", "TASKS=colour,french", *where, *GIVEN, *SMALL, RATES)
    assert done.code == 0, done.err + done.out
    board = {row["job"]: row for row in stored.leaderboard()}
    assert len(stored.runs("trial")) == 4
    assert board["colour/default"]["alias"] == board["french/default"]["alias"] == "champion"

    text = "TEXT=the green book in rome"
    assert json.loads(stored.call("predict", "TASK=colour", text).out)["label"] in COLOURS
    written = stored.call("predict", "TASK=french", text)
    assert isinstance(json.loads(written.out)["text"], str), written.err

    probed = stored.call("sweep", "TASKS=colour", "METHOD=probe", *where, *GIVEN, *SMALL)
    assert probed.code == 0, probed.err + probed.out
    scores = [run.data.metrics["test/primary"] for run in stored.runs("job") if run.data.tags["method"] == "probe"]
    assert board["colour/default"]["test"] > scores[0] + 0.03 > board["colour/default"]["baseline"]


FEW = ["TRIALS=1", "EPOCHS=1", "search.space.method.width={choice:[4]}", "engine.batch_size=16", "CLUSTER=here"]


@pytest.mark.parametrize("family", ANATOMIES)
def test_every_family_is_swept_with_the_configuration_that_its_class_has(
    family: str, few: Path, stored: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heads, norms, scales, tied embeddings, windows and special tokens. What can write writes."""
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)  # a third of the time
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
