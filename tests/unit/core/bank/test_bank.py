from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.config import MethodConfig, TaskConfig
from pipeline.core.bank.bank import Answered, Ask, Bank
from pipeline.core.engine.bundle import read_bundle
from pipeline.errors import BundleError, NotResident
from tests import residents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.core.adapters.checkpoint import Resident
    from pipeline.core.engine.bundle import Bundle
    from tests.conftest import TinyBert

LABELS = ["bad", "fine", "good"]
SMALL = 2 * (2 * 2 * 32 + 2 + 32) * 4 + (3 * 32 + 3) * 4
"""Bytes of a houlsby of width 2 in one layer of 32 units, and of a head of three labels."""


@pytest.fixture
def on(tiny_bert: TinyBert) -> Resident:
    base, tokenizer = tiny_bert()
    made = residents.resident("bert", tokenizer)
    return replace(made, base=base, checkpoint=replace(made.checkpoint, architecture=base.config))


@pytest.fixture
def made(on: Resident, tmp_path: Path) -> dict[str, Bundle]:
    """Bundles of one size with different weights."""
    task = TaskConfig(name="mood", kind="classification")
    method = MethodConfig(name="houlsby", width=2, layers="top-1", init="bert")
    return {
        name: residents.bundle(on, tmp_path / name, task, LABELS, method, seed) for seed, name in enumerate("abcde")
    }


def ask(bank: Bank, *names: str, version: str = "") -> list[Answered]:
    rows = [bank.task(name).parse_item("the film was good") for name in names]
    return bank.answer([Ask(name, row, version) for name, row in zip(names, rows, strict=True)])


def test_the_version_that_was_admitted_last_answers_unless_another_is_named(
    on: Resident, made: dict[str, Bundle]
) -> None:
    bank = Bank(on)
    bank.admit("mood", "2", made["a"])
    bank.admit("mood", "1", made["b"])
    (last,), (named,) = ask(bank, "mood"), ask(bank, "mood", version="2")
    assert (last.version, named.version) == ("1", "2")
    assert last.answer != named.answer and set(last.answer) == {"label", "score", "scores"}
    bank.drop("mood", "1")
    assert ask(bank, "mood") == [named]
    bank.admit("mood", "2", made["b"])  # in the place of the one that was there
    assert ask(bank, "mood") == [Answered("2", last.answer)]
    assert bank.sizes() == {("mood", "2"): SMALL}


def test_an_adapter_that_is_not_resident_is_named(on: Resident, made: dict[str, Bundle]) -> None:
    bank = Bank(on)
    bank.admit("mood", "2", made["a"])
    row = bank.task("mood").parse_item("good")
    for wrong in (Ask("place", row), Ask("mood", row, "1")):
        with pytest.raises(NotResident) as caught:
            bank.answer([Ask("mood", row), wrong])
        assert str(caught.value) in (
            "no adapter 'place' is resident",
            "version 1 of 'mood' is not resident; resident: 2",
        )
    with pytest.raises(NotResident):
        bank.drop("mood", "1")
    bank.drop("mood", "2")
    with pytest.raises(NotResident, match="no adapter 'mood'"):
        bank.task("mood")
    assert bank.answer([]) == []


def test_a_batch_is_the_same_to_the_last_bit_whatever_else_is_registered(on: Resident, made: dict[str, Bundle]) -> None:
    bank, other = Bank(on), Bank(on)
    for name in "abc":
        bank.admit(name, "1", made[name])
    for name in "edcba":
        other.admit(name, "1", made[name])
    once = ask(bank, "b", "a", "c", "a")
    assert once == ask(other, "b", "a", "c", "a")
    other.drop("e", "1")
    other.admit("d", "1", made["e"])
    assert once == ask(other, "b", "a", "c", "a")
    assert len({round(one.answer["score"], 4) for one in once}) == 3


def test_those_that_were_used_least_lately_make_room_but_for_pinned_ones(on: Resident, made: dict[str, Bundle]) -> None:
    bank = Bank(on, budget=3 * SMALL)
    for name in "abc":
        bank.admit(name, "1", made[name], pinned=name == "a")
    ask(bank, "b")
    bank.admit("d", "1", made["d"])
    assert [name for name, _ in bank.sizes()] == ["a", "b", "d"]
    assert bank.evictions == 1
    bank.admit("d", "1", made["e"])  # in the place of its namesake: nobody need go
    assert bank.evictions == 1
    with pytest.raises(NotResident, match="no adapter 'c'"):
        ask(bank, "c")
    small = Bank(on, budget=SMALL)
    small.admit("a", "1", made["a"], pinned=True)
    with pytest.raises(BundleError, match=r"needs 1,692 bytes, for which 1,692 leave no room beside"):
        small.admit("b", "1", made["b"])
    assert list(small.sizes()) == [("a", "1")] and small.evictions == 0


def test_one_that_is_asked_at_the_moment_makes_no_room(on: Resident, made: dict[str, Bundle]) -> None:
    bank = Bank(on, budget=2 * SMALL)
    bank.admit("a", "1", made["a"])
    bank.admit("b", "1", made["b"])
    (wanted,) = ask(bank, "a")
    ask(bank, "b")  # so that it is a's turn to go
    row = bank.task("a").parse_item("the film was good")
    with ThreadPoolExecutor(1) as thread:
        with on.lock:  # the batch waits
            running = thread.submit(bank.answer, [Ask("a", row)])
            until = time.monotonic() + 30
            while not bank._running and time.monotonic() < until:
                time.sleep(0.001)
            bank.admit("c", "1", made["c"])
            assert set(bank.sizes()) == {("a", "1"), ("c", "1")}
            bank.drop("a", "1")
        assert running.result() == [wanted]  # it goes on with what it began with
    bank.admit("d", "1", made["d"])
    assert set(bank.sizes()) == {("c", "1"), ("d", "1")}


def flip(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(bytes(content))


def lead_out(folder: Path) -> None:
    (folder / "weights.safetensors").rename(folder.parent / "elsewhere")
    (folder / "weights.safetensors").symlink_to(folder.parent / "elsewhere")


def say(**values: Any) -> Any:
    def change(folder: Path) -> None:
        record = json.loads((folder / "bundle.json").read_text("utf-8"))
        (folder / "bundle.json").write_text(json.dumps(record | values), "utf-8")

    return change


WRONG: dict[str, tuple[Any, str]] = {
    "a flipped byte": (flip, "does not have the checksum that bundle.json states"),
    "a path that leaves its folder": (lead_out, "leads out of its folder"),
    "a future format": (say(format=2), "has format 2, this version reads 1"),
    "another base": (
        say(checkpoint_sha256="1" * 64),
        "was trained on the checkpoint 1111111111111111, this",
    ),
    "another width": (
        say(method={"name": "houlsby", "width": 3, "layers": "top-1"}),
        r"\(layers.1.attention.down.weight has the shape \(2, 32\), not \(3, 32\)\)",
    ),
    "fewer layers": (
        say(method={"name": "pfeiffer", "width": 2, "layers": "top-1"}),
        "4 adapter tensors have no place in the model, layers.1.attention.down.bias among them",
    ),
    "more layers": (say(method={"name": "houlsby", "width": 2}), "layers.0.attention.down.weight is missing"),
    "layers that are not there": (
        say(method={"name": "houlsby", "width": 2, "layers": [7]}),
        r"method.layers: '\[7\]' must name layers of a checkpoint that has 2",
    ),
    "another head": (say(labels=["good", "bad"]), "size mismatch|Error.* in loading"),
    "a copy of the checkpoint": (say(method={"name": "full"}), r"is a copy of the whole checkpoint \(full\)"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_refused_with_its_reason_and_the_others_go_on(
    what: str, on: Resident, made: dict[str, Bundle]
) -> None:
    spoil, reason = WRONG[what]
    bank = Bank(on)
    bank.admit("a", "1", made["a"])
    before, names = ask(bank, "a"), list(on.base.state_dict())
    spoil(made["b"].folder)
    with pytest.raises(BundleError, match=reason):
        bank.admit("b", "1", made["b"] if what.startswith(("a flipped", "a path")) else read_bundle(made["b"].folder))
    assert list(bank.sizes()) == [("a", "1")]
    assert ask(bank, "a") == before
    assert list(on.base.state_dict()) == names


def test_what_becomes_of_the_files_later_reaches_no_answer(on: Resident, made: dict[str, Bundle]) -> None:
    bank = Bank(on)
    bank.admit("a", "1", made["a"])
    before = ask(bank, "a")
    file = made["a"].folder / "weights.safetensors"
    with file.open("r+b") as stream:  # in place, as a careless copy writes
        stream.write(b"\0" * file.stat().st_size)
    shutil.rmtree(made["a"].folder)
    assert ask(bank, "a") == before


@pytest.fixture
def often() -> Iterator[None]:
    """Threads take turns so often that they meet in the middle of everything."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def test_a_name_whose_adapter_changes_a_thousand_times_under_load_is_never_answered_by_another(
    on: Resident, made: dict[str, Bundle], one_thread: Iterator[None], often: Iterator[None]
) -> None:
    bank, owners = Bank(on), "abcde"
    for name in owners:
        bank.admit(name, "1", made[name])
    wanted = {name: ask(bank, name)[0].answer["scores"] for name in owners}
    row, done = bank.task("a").parse_item("the film was good"), threading.Event()
    bank.admit("mood", "0", made["a"])

    def answered() -> list[str]:
        versions = []
        while not done.is_set():
            try:
                said = bank.answer([Ask("mood", row), Ask("b", row), Ask("mood", row)])
            except NotResident:  # between a drop and the next admission
                continue
            assert said[0].version == said[2].version
            own = owners[int(said[0].version) % 5]
            for owner, one in zip((own, "b", own), said, strict=True):
                assert one.answer["scores"] == pytest.approx(wanted[owner], abs=1e-5)
            versions.append(said[0].version)
        return versions

    with ThreadPoolExecutor(1) as thread:
        load = thread.submit(answered)
        for number in range(1, 1001):
            before, after = str(number - 1), str(number)
            if number % 2:
                bank.drop("mood", before)
            bank.admit("mood", after, made[owners[number % 5]])
            if not number % 2:
                bank.drop("mood", before)
        done.set()
        assert len({*load.result()}) > 10
