"""What is new to a champion, what must never be trained on, and which old rows are trained on again."""

import dataclasses
import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from pipeline.config import TaskConfig
from pipeline.core.data.ledger import Ledger, Slice
from pipeline.core.data.rows import Dataset, Row, Split, make_row
from pipeline.core.data.splits import fingerprint
from pipeline.rules.news import News, news, replayed, unseen

TASK = TaskConfig(name="mood", kind="classification")
PAIRS = TaskConfig(name="pair", kind="classification", columns={"text_pair": "text_pair"})


def row(text: str, label: str = "good", *, origin: str = "here:1", task: TaskConfig = TASK, **others: Any) -> Row:
    made = next(make_row({"text": text, "label": label, **others}, task, origin))
    assert isinstance(made, Row)
    return made


TRAINED = tuple(row(f"trained {number}", id=f"t{number}") for number in range(4))
CHOSEN = tuple(row(f"chosen {number}") for number in range(2))
MAY, JUNE = (tuple(row(f"{month} {number}") for number in range(2)) for month in ("may", "june"))
LEDGER = Ledger(trained=TRAINED, chosen=CHOSEN, slices=(Slice(name="may", rows=MAY), Slice(name="june", rows=JUNE)))


def dataset(
    train: Sequence[Row] = (), validation: Sequence[Row] = (), test: Sequence[Row] = (), *, alone: bool = False
) -> Dataset:
    """What the champion has seen, its slices as the test split, and the rows behind it; or these alone."""
    old: list[Sequence[Row]] = [(), (), ()] if alone else [TRAINED, CHOSEN, (*MAY, *JUNE)]
    parts = {
        name: (*before, *rows)
        for name, before, rows in zip(("train", "validation", "test"), old, (train, validation, test), strict=True)
    }
    splits: dict[str, Any] = {name: Split(name, tuple(rows), fingerprint(rows), None) for name, rows in parts.items()}
    return Dataset("mood", "default", "somewhere", **splits, overlap={}, notes=())


def found(data: Dataset, **others: Any) -> News:
    return news(LEDGER, data, **others)


def left_out(one: News) -> dict[str, int]:
    """The counts that are not 0."""
    names = ("edited", "ambiguous", "gone", "leaked", "seen", "quarantined", "relabelled")
    return {name: int(n) for name in names if (n := one.counts()[name])}


def texts(rows: Iterable[Row]) -> list[str]:
    return [row.fields["text"] for row in rows]


def test_where_nothing_is_new_nothing_is_found() -> None:
    one = found(dataset())
    assert [one.train, one.validation, one.evaluation, one.count, left_out(one)] == [(), (), (), 0, {}]
    assert one.line() == "0 new rows to train on, 0 to choose by, 0 to judge by"


def test_new_rows_are_told_by_their_content_whatever_the_file_or_order() -> None:
    moved = [row(one.fields["text"], origin=f"other:{i}", id=f"other {i}") for i, one in enumerate(TRAINED[::-1])]
    new = [row("new a", "bad"), row("new b")]
    one = found(dataset([new[0], *moved, new[1]], CHOSEN, [*JUNE, *MAY], alone=True))
    assert texts(one.train) == ["new a", "new b"]
    assert [one.validation, one.evaluation, left_out(one)] == [(), (), {}]


def test_new_rows_of_each_split_are_found_and_counted() -> None:
    one = found(dataset([row("a"), row("b")], [row("c")], [row("d"), row("e"), row("f")]))
    assert [texts(one.train), texts(one.validation), texts(one.evaluation)] == [["a", "b"], ["c"], ["d", "e", "f"]]
    assert one.line() == "2 new rows to train on, 1 to choose by, 3 to judge by"
    assert one.counts() == {
        "digest": one.digest,
        **{"train": 2, "validation": 1, "evaluation": 3},
        **{"edited": 0, "ambiguous": 0, "gone": 0, "leaked": 0, "seen": 0, "quarantined": 0, "repeated": 0},
        "relabelled": 0,
    }


def test_new_rows_that_repeat_within_their_split_count_once_and_are_told() -> None:
    known = TRAINED[0]
    one = found(dataset([row("a"), row("a"), known, known], [row("c")], [row("d"), row("d"), row("d"), row("e")]))
    assert one.line().startswith("1 new row to train on, 1 to choose by, 2 to judge by; ")
    assert one.repeated == 3 and "; 3 merged with equal ones" in one.line()


def test_an_edit_of_a_row_with_an_id_is_told_as_an_edit() -> None:
    edited = row("trained 0", "bad", id="t0")
    one = found(dataset([*TRAINED[1:], edited], CHOSEN, [*MAY, *JUNE], alone=True))
    assert [texts(one.train), left_out(one)] == [["trained 0"], {"edited": 1}]


def test_an_edit_of_a_row_without_an_id_is_one_new_row_and_one_gone() -> None:
    edited = row("trained nought")
    one = found(dataset([*TRAINED[1:], edited], CHOSEN, [*MAY, *JUNE], alone=True))
    assert [texts(one.train), left_out(one)] == [["trained nought"], {"gone": 1}]


def test_an_edit_is_told_whether_its_id_is_a_number_or_the_text_of_one() -> None:
    ledger = Ledger(trained=tuple(row(f"trained {n}", id=n) for n in range(4)))
    csv = [row(f"trained {n}" if n else "Trained, nought", id=f" {n}") for n in range(4)]
    one = news(ledger, dataset(csv, alone=True))
    assert [texts(one.train), texts(one.replaced), left_out(one)] == [
        ["Trained, nought"],
        ["trained 0"],
        {"edited": 1},
    ]


def exported(texts: Sequence[str], start: int = 0) -> list[Row]:
    """With ids that are the rows' positions, as a data frame's index is."""
    return [row(text, id=start + number) for number, text in enumerate(texts)]


@pytest.mark.parametrize("splits", [(60, 0, 0), (40, 10, 10), (30, 30, 0)])
def test_rows_whose_ids_begin_at_0_in_every_export_are_no_edits(splits: Sequence[int]) -> None:
    may, june = (
        [exported([f"{month} {split} {n}" for n in range(count)]) for split, count in enumerate(splits)]
        for month in ("may", "june")
    )
    ledger = Ledger(trained=tuple(may[0]), chosen=tuple(may[1]), slices=(Slice(name="may", rows=tuple(may[2])),))
    one = news(ledger, dataset(*june, alone=True))
    assert [one.replaced, len(one.train), len(one.validation)] == [(), *splits[:2]]
    assert one.ambiguous == sum(splits[:2])
    assert f"{one.ambiguous} with an id that tells nothing, since other rows have it too" in one.line()
    ledger = Ledger(
        trained=(*ledger.trained, *one.train),
        chosen=(*ledger.chosen, *one.validation),
        slices=(*ledger.slices, Slice(name="june", rows=one.evaluation)),
    )
    again = news(ledger, dataset(*map(lambda *both: both[0] + both[1], may, june), alone=True))
    assert [again.count, left_out(again)] == [0, {}]
    third = [*may[0], *june[0], *exported(["another"])]
    assert left_out(news(ledger, dataset(third, alone=True))) == {"ambiguous": 1}


def test_a_row_whose_old_content_is_still_there_was_not_edited() -> None:
    moved = [row(f"trained {n}", id=f"t{n - 1}") for n in range(1, 4)]  # one is gone, and the others moved up
    shifted = dataset([*moved, row("new", id="t3")], CHOSEN, [*MAY, *JUNE], alone=True)
    one = found(shifted)
    assert [texts(one.train), left_out(one)] == [["new"], {"ambiguous": 1, "gone": 1}]
    one = found(dataset([row("new", id="t0")]))
    assert [texts(one.train), one.replaced, left_out(one)] == [["new"], (), {"ambiguous": 1}]


def test_an_id_that_rows_of_several_splits_have_tells_no_edit() -> None:
    one = found(dataset([*TRAINED[1:], row("a", id="t0")], [*CHOSEN, row("b", id="t0")], [*MAY, *JUNE], alone=True))
    assert left_out(one) == {"ambiguous": 2, "gone": 1}
    shared = Ledger(trained=TRAINED, slices=(Slice(name="may", rows=(row("tested", id="t0"),)),))
    one = news(shared, dataset([*TRAINED[1:], row("a", id="t0")], alone=True))
    assert left_out(one) == {"ambiguous": 1, "gone": 1}


def test_rows_without_an_id_in_a_file_that_has_ids_are_no_edits_of_each_other() -> None:
    ledger = Ledger(trained=(row("old", id=""),))
    assert left_out(news(ledger, dataset([row("new", id="")], alone=True))) == {"gone": 1}


def test_of_a_file_of_edits_alone_those_of_the_target_are_told() -> None:
    fixed = [row(f"Trained {n}", "bad", id=f"t{n}") for n in range(3)]
    one = found(dataset(fixed, alone=True))
    assert [texts(one.replaced), left_out(one)] == [["trained 0", "trained 1", "trained 2"], {"edited": 3, "gone": 1}]


def test_an_edited_row_stays_known_and_is_never_an_evaluation_row() -> None:
    edited = row("Trained nought", id="t0")
    ledger = Ledger(trained=(*TRAINED[1:], edited), former=TRAINED[:1])
    both = dataset([*TRAINED, edited], test=[row("TRAINED 0")], alone=True)
    assert [news(ledger, both).count, left_out(news(ledger, both))] == [0, {"seen": 1}]


def test_a_row_that_was_edited_back_is_new_again() -> None:
    edited = row("Trained nought", id="t0")
    ledger = Ledger(trained=(*TRAINED[1:], edited), former=TRAINED[:1])
    one = news(ledger, dataset(TRAINED, alone=True))
    assert [texts(one.train), one.replaced, left_out(one)] == [["trained 0"], (edited,), {"edited": 1}]


@pytest.mark.parametrize(
    "again",
    [
        row("june 0"),
        row("june 0", "bad"),
        row("JUNE 0", "bad"),
        row("  June\t 0\n"),
        row("may 1", "bad", id="with an id"),
    ],
    ids=["the same", "another label", "capitals", "spaces", "an older period"],
)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_evaluation_row_that_comes_again_is_left_out(again: Row, split: str) -> None:
    new = [row("new"), again]
    one = found(dataset(train=new) if split == "train" else dataset(validation=new))
    assert texts(getattr(one, split)) == ["new"]
    assert left_out(one) == {"leaked": 1}
    assert "; 1 left out since they are evaluation rows" in one.line()


def test_a_new_evaluation_row_is_not_trained_on_in_the_same_pass() -> None:
    one = found(dataset([row("New", "bad")], [row("new ")], [row("new")]))
    assert [one.train, one.validation, texts(one.evaluation), left_out(one)] == [(), (), ["new"], {"leaked": 2}]


def test_an_evaluation_row_in_another_form_of_unicode_is_left_out() -> None:
    ledger = Ledger(trained=(), slices=(Slice(name="may", rows=(row("caf\u00e9"),)),))
    one = news(ledger, dataset([row("cafe\u0301", "bad")], alone=True))
    assert [one.train, one.leaked] == [(), 1]


def test_a_text_is_another_one_where_another_field_differs() -> None:
    held, other = (row("same", task=PAIRS, text_pair=pair) for pair in ("one", "two"))
    assert held.key != other.key
    ledger = Ledger(trained=(), slices=(Slice(name="may", rows=(held,)),))
    one = news(ledger, dataset([other, row("same", "bad", task=PAIRS, text_pair="ONE")], alone=True))
    assert [one.train, one.leaked] == [(other,), 1]


@pytest.mark.parametrize(
    "again", [TRAINED[0], CHOSEN[0], row("TRAINED 0", "bad"), row(" chosen 1")], ids=lambda row: row.fields["text"]
)
def test_a_test_row_that_was_trained_on_or_chosen_by_is_left_out(again: Row) -> None:
    one = found(dataset(test=[row("new"), again]))
    assert [texts(one.evaluation), left_out(one)] == [["new"], {"seen": 1}]
    assert "; 1 left out of the evaluation since they were trained on" in one.line()


def test_a_test_row_that_another_version_was_trained_on_is_left_out() -> None:
    data = dataset(test=[row("new"), row("Used", "bad"), row("once used")])
    ledger = dataclasses.replace(LEDGER, used=frozenset({row("once used").key}))
    one = news(ledger, data, used={row("used").key})
    assert [texts(one.evaluation), left_out(one)] == [["new"], {"seen": 2}]


def test_quarantined_rows_are_used_for_nothing() -> None:
    bad = [row("bad train"), row("bad validation"), row("bad test")]
    data = dataset(*([one, row(f"good {i}")] for i, one in enumerate(bad)))
    one = found(data, quarantine={row.digest for row in bad}, reserved=bad)
    assert [texts(one.train), texts(one.validation), texts(one.evaluation)] == [["good 0"], ["good 1"], ["good 2"]]
    assert left_out(one) == {"quarantined": 3}


def test_quarantine_counts_only_what_the_data_has() -> None:
    assert left_out(found(dataset(), quarantine={row("elsewhere").digest})) == {}


def test_quarantine_counts_no_row_that_the_champion_has_seen() -> None:
    """All rows of a sweep came with its winner, and after a rollback to the champion before most are that one's."""
    withdrawn = row("came with the sweep")
    everything = {one.digest for one in (*TRAINED, *CHOSEN, *MAY, *JUNE, withdrawn)}
    assert left_out(found(dataset([withdrawn]), quarantine=everything)) == {"quarantined": 1}


def test_rows_of_a_slice_that_have_another_target_now_are_told_and_the_slice_keeps_theirs() -> None:
    other = [row(one.fields["text"], "bad" if one.fields["label"] == "good" else "good") for one in MAY]
    one = found(dataset(TRAINED, CHOSEN, [*other, *JUNE, row("new")], alone=True))
    assert [texts(one.evaluation), left_out(one)] == [["new"], {"relabelled": len(MAY)}]
    assert f"; {len(MAY)} to judge by with another target now, of which their slice keeps" in one.line()


def test_reserved_rows_that_are_still_there_join_the_new_slice_and_are_never_trained_on() -> None:
    reserved = [row("reserved 0"), row("reserved 1"), row("gone")]
    data = dataset([row("Reserved 0", "bad"), row("new")], [reserved[1]], [row("tested")])
    one = found(data, reserved=reserved)
    assert [texts(one.train), texts(one.validation)] == [["new"], []]
    assert texts(one.evaluation) == ["tested", "Reserved 0", "reserved 1"]
    assert one.evaluation[1].fields["label"] == "bad"  # as it is now: somebody has looked at it
    assert left_out(one) == {"leaked": 2}


def test_reserved_rows_that_the_champion_has_seen_do_not_join() -> None:
    reserved = [row("Trained 0"), row("may 1", "bad"), row("reserved")]
    one = found(dataset(reserved), reserved=reserved)
    assert texts(one.evaluation) == ["reserved"]


def test_rows_that_come_twice_are_found_once() -> None:
    twice = [row("new"), row("new", origin="again:1")]
    for split in ("train", "validation", "test"):
        one = found(dataset(*(twice if name == split else () for name in ("train", "validation", "test"))))
        assert len({"train": one.train, "validation": one.validation, "test": one.evaluation}[split]) == 1
    assert len(found(dataset(twice[1:], test=twice[:1]), reserved=twice[1:]).evaluation) == 1


def test_the_digest_names_the_rows_of_each_split_whatever_their_order() -> None:
    rows = [row(f"new {number}") for number in range(6)]

    def digest(*parts: Sequence[Row]) -> str:
        return found(dataset(*parts)).digest

    one = digest(rows[:2], rows[2:4], rows[4:])
    assert len(one) == 16
    assert digest(rows[1::-1], rows[3:1:-1], rows[:3:-1]) == one
    others = [
        digest(rows[:1], rows[2:4], rows[4:]),
        digest(rows[:2], rows[4:], rows[2:4]),
        digest(rows[:4], (), rows[4:]),
    ]
    assert len({one, *others}) == 4


def test_unseen_are_the_test_rows_that_no_other_split_has() -> None:
    tested = [row("Trained 0", "bad"), row("chosen 1"), row("new"), row("new", origin="again:1"), row("newer")]
    data = dataset(TRAINED, CHOSEN, tested, alone=True)
    assert texts(unseen(data)) == ["new", "newer"]


def labelled(counts: dict[str, int]) -> tuple[list[Row], dict[str, list[str]]]:
    rows = [row(f"{label} {number}", label) for label, count in counts.items() for number in range(count)]
    return rows, {row.digest: [row.fields["label"]] for row in rows}


def again(rows: list[Row], share: float, labels: dict[str, list[str]], seed: str) -> list[Row]:
    return [row for row, _ in replayed(rows, share, labels, seed)]


def test_a_share_of_nothing_replays_nothing_and_a_whole_share_everything() -> None:
    rows, labels = labelled({"good": 5, "bad": 3})
    assert replayed(rows, 0, labels, "seed") == []
    assert replayed(rows, 1, labels, "seed") == [(row, 1) for row in rows]
    assert replayed([], 0.5, {}, "seed") == []


def test_the_same_share_of_every_label_is_replayed_and_at_least_a_row() -> None:
    rows, labels = labelled({"good": 50, "bad": 20, "rare": 2})
    chosen = again(rows, 0.1, labels, "seed")
    assert [sum(row.fields["label"] == label for row in chosen) for label in ("good", "bad", "rare")] == [5, 2, 1]
    assert chosen == [row for row in rows if row in chosen]


def test_the_same_rows_are_replayed_in_any_order_and_another_share_adds_to_them() -> None:
    rows, labels = labelled({"good": 30, "bad": 20})
    chosen = {row.digest for row in again(rows, 0.2, labels, "seed")}
    for seed in range(5):
        shuffled = random.Random(seed).sample(rows, len(rows))
        others = again(shuffled, 0.2, labels, "seed")
        assert {row.digest for row in others} == chosen
        assert others == [row for row in shuffled if row.digest in chosen]
    assert chosen < {row.digest for row in again(rows, 0.4, labels, "seed")}


def test_each_pass_replays_others_until_all_were_seen() -> None:
    rows, labels = labelled({"good": 60, "bad": 40, "rare": 3})
    passes = [again(rows, 0.1, labels, f"0 {number}") for number in range(80)]
    assert {len(chosen) for chosen in passes} == {6 + 4 + 1}
    assert {row.digest for chosen in passes for row in chosen} == {row.digest for row in rows}
    assert again(rows, 0.1, labels, "0 7") == passes[7]


def test_a_label_that_always_goes_with_a_rarer_one_is_replayed_too() -> None:
    sets = [[name, "all"] for name in "abcdef"] + [[name] for name in "abcdef"] * 3
    for seed in range(20):
        rows = [row(f"{seed} {number}") for number in range(len(sets))]
        labels = {one.digest: some for one, some in zip(rows, sets, strict=True)}
        chosen = again(rows, 0.05, labels, "seed")
        assert {label for one in chosen for label in labels[one.digest]} == {*"abcdef", "all"}, seed
        assert {row.digest for row in again(rows[::-1], 0.05, labels, "seed")} == {row.digest for row in chosen}


def test_a_row_without_labels_is_replayed_too() -> None:
    rows, labels = labelled({"good": 30})
    bare = [row(f"bare {number}") for number in range(20)]
    chosen = again([*rows, *bare], 0.1, {**labels, **{one.digest: [] for one in bare}}, "seed")
    assert [len(chosen), sum(one in bare for one in chosen)] == [5, 2]


def test_replayed_rows_stand_for_all_old_ones_of_their_label() -> None:
    rows, labels = labelled({"good": 50, "bad": 25, "rare": 3})
    chosen = replayed(rows, 0.1, labels, "seed")
    stand_for = {label: [weight for row, weight in chosen if row.fields["label"] == label] for label in ("good", "bad")}
    assert stand_for == {"good": [10] * 5, "bad": [12.5] * 2}
    assert [weight for row, weight in chosen if row.fields["label"] == "rare"] == [3]
    many = [["all", name] for name in "abcdef"] + [["all"]] * 40
    mixed = [row(f"{number}") for number in range(len(many))]
    by_digest = {one.digest: some for one, some in zip(mixed, many, strict=True)}
    assert sum(weight for _, weight in replayed(mixed, 0.1, by_digest, "seed")) == len(mixed)


def test_what_a_rejected_version_was_judged_by_stays_the_same_where_a_row_of_train_has_its_inputs() -> None:
    """Such as a text that stands in train with another label, or in capitals."""
    data = dataset([row("again", "bad"), row("AGAIN"), row("new")], test=[row("again"), row("other")])
    first = found(data)
    second = found(data, reserved=first.evaluation, used=[one.key for one in first.train])
    assert texts(second.evaluation) == texts(first.evaluation) == ["again", "other"]
    assert second.digest == first.digest
    assert [second.leaked, second.leaked_now] == [first.leaked, first.leaked_now] == [2, 2]
