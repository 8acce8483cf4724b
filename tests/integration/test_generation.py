"""Small random models learn to write: what they write on rows that they have not seen, and through frozen weights."""

import random
from itertools import product
from pathlib import Path

import pytest

from pipeline.config import EngineConfig, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import fingerprint
from pipeline.core.engine.events import Evaluated
from pipeline.core.engine.session import Session, test
from pipeline.core.engine.trials import trial_of
from tests import writers

test.__test__ = False  # type: ignore[attr-defined]

COLOURS = {"red": "rouge", "blue": "bleu", "green": "vert", "white": "blanc", "black": "noir", "grey": "gris"}
THINGS = ["book", "film", "song", "food", "fire", "water", "plot", "house"]
PLACES = ["paris", "rome", "berlin", "oslo", "norway"]
WORDS = ["the", "in", "colour", ":", *COLOURS, *COLOURS.values(), *THINGS, *PLACES]
STDS = {"gpt2": 0.1, "t5": None, "bart": 0.1}
"""Of the random matrices; T5's own are large enough to learn from."""
CONFIG = TaskConfig(
    name="colour",
    kind="generation",
    prompt="{question} colour :",
    completion="{label}",
    max_length=40,
    max_new_tokens=4,
)

pytestmark = pytest.mark.usefixtures("one_thread")
EACH = pytest.mark.parametrize("family", writers.FAMILIES)


def values() -> list[dict[str, str]]:
    """The colour word of a text, in another language; no two texts are the same."""
    made = [
        {"question": f"the {colour} {thing} in {place}", "label": COLOURS[colour]}
        for colour, thing, place in product(COLOURS, THINGS, PLACES)
    ]
    random.Random(0).shuffle(made)
    return made


@EACH
def test_a_model_that_is_trained_as_a_whole_writes_rows_that_it_has_not_seen(family: str, tmp_path: Path) -> None:
    tokenizer = writers.make_tokenizer(family, WORDS)
    base = writers.make_model(family, len(tokenizer), std=STDS[family])
    checkpoint = writers.make_checkpoint(family)
    engine = EngineConfig(epochs=3, batch_size=8, learning_rate=3e-3)
    job = writers.make_job(
        CONFIG, values(), tokenizer, method=MethodConfig(name="full"), engine=engine, num_held_out=60
    )
    trial = trial_of(job, 0, {})
    session = Session(base, checkpoint, 0, job, trial, tmp_path)
    scores = [event.primary for event in session.events() if isinstance(event, Evaluated)]
    session.close()
    assert scores[-1] >= 0.9
    assert session.bundle is not None
    tested = test(base, checkpoint, 0, job, trial, session.bundle)
    assert tested.primary == max(scores) and tested.baseline < 0.3


@EACH
def test_an_adapter_learns_rows_by_heart_through_frozen_random_weights(family: str, tmp_path: Path) -> None:
    tokenizer = writers.make_tokenizer(family, WORDS)
    base = writers.make_model(family, len(tokenizer), std=0.2 if STDS[family] else None)
    before = fingerprint(base.state_dict())
    engine = EngineConfig(epochs=7, batch_size=2, learning_rate=2e-2)
    method = MethodConfig(name="houlsby", width=16)
    some = [{**one, "label": f"{one['label']} {one['question'].split()[2]}"} for one in values()[:5]]
    job = writers.make_job(CONFIG, some * 9, tokenizer, method=method, engine=engine, num_held_out=len(some))
    session = Session(base, writers.make_checkpoint(family), 0, job, trial_of(job, 0, {}), tmp_path)
    scores = [event.primary for event in session.events() if isinstance(event, Evaluated)]
    session.close()
    assert scores[0] < 0.5 and scores[-1] == 1.0
    assert fingerprint(base.state_dict()) == before
