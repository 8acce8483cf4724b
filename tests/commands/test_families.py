"""T5, BART and GPT-2 from a folder on disk, through the whole command: searched, recorded, registered, asked."""

import json
import random
from pathlib import Path

import pytest

from tests import writers
from tests.commands.workplace import Workplace

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
    """The colour word somewhere in a text: as a label, and in another language."""
    root, draw = tmp_path_factory.mktemp("colours"), random.Random(0)
    (root / "own").mkdir()
    (root / "own" / "colour.yaml").write_text("kind: classification\n", "utf-8")
    (root / "own" / "french.yaml").write_text(FRENCH, "utf-8")
    folder = root / "data" / "colour"
    folder.mkdir(parents=True)
    for split, count in {"train": 160, "validation": 60, "test": 60}.items():
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
    assert board["colour/default"]["test"] > scores[0] + 0.05 > board["colour/default"]["baseline"]
