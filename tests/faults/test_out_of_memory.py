"""One trial needs more memory than there is: the allocator refuses it, or the kernel kills its process."""

import contextlib
import json
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from transformers import BertConfig, BertModel

from tests.commands import corpus
from tests.commands.workplace import Workplace
from tests.conftest import TinyBert
from tests.faults import stage

pytestmark = pytest.mark.faults

ROWS, WORDS, BROAD = 2048, 60, 4096
"""Training rows and their words, and the width of the feed-forward blocks: in one batch their activations take 2 GB
several times in each layer, in batches of 8 next to nothing."""
LIMIT = 3 * 2**30
SWEEP = ["tasks=[intent]", "search=grid", "search.scheduler=none", "engine.epochs=1", "engine.eval_batch_size=8"]
SWEEP += ["seed=7", "method=pfeiffer", "method.width=2", "engine.learning_rate=0.001"]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, tiny_bert: TinyBert) -> list[str]:
    root = tmp_path_factory.mktemp("broad")
    base, tokenizer = tiny_bert()
    config = BertConfig.from_dict(base.config.to_dict() | {"intermediate_size": BROAD})
    for part in (BertModel(config, add_pooling_layer=False), tokenizer):
        part.save_pretrained(root / "checkpoint")
    (root / "intent").mkdir()
    for seed, (split, count) in enumerate({"train": ROWS, "validation": 24, "test": 24}.items()):
        text = corpus.as_csv(corpus.rows(long_opinion, count, seed))
        (root / "intent" / f"{split}.csv").write_text(text, "utf-8")
    return [*SWEEP, f"data.source={root}", f"checkpoint={root / 'checkpoint'}"]


def long_opinion(draw: random.Random) -> corpus.Row:
    row = corpus.opinion(draw)
    return row | {"text": " ".join([row["text"], *draw.choices(corpus.THINGS, k=WORDS - 5)])}


def batches(*sizes: int) -> str:
    """Search these sizes; a grid numbers its trials in their order."""
    return f"search.space.engine.batch_size={{choice:[{','.join(map(str, sizes))}]}}"


@contextlib.contextmanager
def refused() -> Iterator[list[str]]:
    """Start a command none of whose processes is given more private memory than LIMIT."""
    yield ["prlimit", f"--data={LIMIT}"]


@contextlib.contextmanager
def killed() -> Iterator[list[str]]:
    """Start a command that has LIMIT altogether, for which the kernel kills a process when it is used up."""
    first = Path("/sys/fs/cgroup/memory")  # of version 1; else there is one tree for everything
    group = (first if first.is_dir() else Path("/sys/fs/cgroup")) / f"out-of-memory-{os.getpid()}"
    group.mkdir()
    (group / ("memory.limit_in_bytes" if first.is_dir() else "memory.max")).write_text(str(LIMIT))
    try:
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        stage.until(lambda: not (group / "cgroup.procs").read_text(), 30)
        group.rmdir()


def sweep(place: Workplace, prefix: list[str], words: list[str]) -> stage.Running:
    return stage.Running(place, *prefix, sys.executable, "-m", "jobs", "sweep", *words)


def weights(place: Workplace, trial: str) -> str:
    """Of the one epoch that a trial has."""
    (file,) = place.cwd.glob(f"runs/*/trials/{trial}/bundle-1/bundle.json")
    return str(json.loads(file.read_text("utf-8"))["weights_sha256"])


@pytest.fixture(scope="module")
def undisturbed(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Weights of the trials that fit."""
    alone = sweep(Workplace(tmp_path_factory.mktemp("undisturbed") / "place"), [], [*words, batches(8, 16)])
    done = alone.end()
    assert done.code == 0, done.out + done.err
    return [weights(alone.place, trial) for trial in ("intent.default-00", "intent.default-01")]


@pytest.mark.parametrize(
    ("scarce", "reason"),
    [
        (refused, r"out of memory when \d{10} bytes more were needed: lower engine\.batch_size, or run fewer trials"),
        (killed, r"its process ended 2 times: killed, perhaps for want of memory"),
    ],
    ids=["refused by the allocator", "killed by the kernel"],
)
def test_a_trial_that_runs_out_of_memory_fails_alone(
    scarce: Callable[[], AbstractContextManager[list[str]]],
    reason: str,
    undisturbed: list[str],
    words: list[str],
    workplace: Workplace,
) -> None:
    with scarce() as prefix:
        one = sweep(workplace, prefix, [*words, batches(8, ROWS, 16), "cluster.max_failures=1"])
        done = one.end()
    assert done.code == 0, done.out + done.err
    (told,) = (line for line in done.out.splitlines() if "failed" in line and "trial" in line)
    assert re.search(reason, told), told
    assert "python -m jobs predict TASK=intent" in done.out  # the leaderboard and what follows it
    runs = stage.runs(f"sqlite:///{workplace.cwd}/mlflow.db", one.sweep_id)
    ended = {run.data.tags["trial"]: run for run in runs["trial"]}
    assert {trial: run.info.status for trial, run in ended.items()} == {
        "intent.default-00": "FINISHED",
        "intent.default-01": "FAILED",
        "intent.default-02": "FINISHED",
    }
    assert re.search(reason, ended["intent.default-01"].data.tags["reason"])
    assert {run.info.status for kind in ("sweep", "job") for run in runs[kind]} == {"FINISHED"}
    assert [weights(workplace, trial) for trial in ("intent.default-00", "intent.default-02")] == undisturbed
