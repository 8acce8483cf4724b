import dataclasses
import random
from collections.abc import Sequence

import pytest

from pipeline.config import DataConfig, TaskConfig
from pipeline.core.data.rows import Row, make_row
from pipeline.core.data.splits import arrange, fingerprint
from pipeline.errors import DataError

TASK = TaskConfig(name="t", kind="classification")
CONFIG = DataConfig()


def make(*texts: str) -> list[Row]:
    made = [row for text in texts for row in make_row({"text": text, "label": "x"}, TASK, "f:1")]
    return [row for row in made if isinstance(row, Row)]


def labelled(text: str, label: str = "x") -> Row:
    (row,) = make_row({"text": text, "label": label}, TASK, "f:1")
    assert isinstance(row, Row)
    return row


def digests(rows: Sequence[Row]) -> list[str]:
    return [row.digest for row in rows]


MANY = make(*(f"text {i}" for i in range(1000)))


def test_splits_that_are_there_stay_as_they_are() -> None:
    found = {"train": make("b", "a"), "validation": make("c"), "test": make("d")}
    splits, overlap, notes = arrange(found, CONFIG, "t/d")
    assert {name: list(split.rows) for name, split in splits.items()} == found
    assert [split.cut_from for split in splits.values()] == [None] * 3
    assert overlap == {"train/validation": 0, "train/test": 0, "validation/test": 0}
    assert notes == []


def test_both_missing_splits_are_cut_from_train_disjoint_and_complete() -> None:
    splits, overlap, notes = arrange({"train": MANY}, DataConfig(test_share=0.2), "t/d")
    parts = [set(digests(splits[name].rows)) for name in ("train", "validation", "test")]
    assert set.union(*parts) == set(digests(MANY))
    assert sum(map(len, parts)) == len(MANY)
    assert 60 < len(parts[1]) < 140
    assert 150 < len(parts[2]) < 250
    assert [splits[name].cut_from for name in ("train", "validation", "test")] == [None, "train", "train"]
    assert not any(overlap.values())
    assert notes[0] == f"There is no test split: {len(parts[2])} of the 1000 rows of train were cut off for it by hash."
    assert f"There is no validation split: {len(parts[1])} of the 1000" in notes[1]


@pytest.mark.parametrize("missing", ["validation", "test"])
def test_one_missing_split_is_cut_and_noted_and_the_other_kept(missing: str) -> None:
    (kept,) = {"validation", "test"} - {missing}
    splits, _, (note,) = arrange({"train": MANY, kept: make("other")}, CONFIG, "t/d")
    assert splits[missing].cut_from == "train"
    assert digests(splits[kept].rows) == digests(make("other"))
    assert len(splits["train"].rows) + len(splits[missing].rows) == 1000
    assert f"no {missing} split" in note


def test_cut_depends_on_the_row_alone_and_neither_on_order_nor_on_other_rows() -> None:
    shuffled = random.Random(0).sample(MANY, 700)
    before = arrange({"train": MANY}, CONFIG, "t/d")[0]
    after = arrange({"train": shuffled}, CONFIG, "t/d")[0]
    for name in ("train", "validation", "test"):
        assert set(digests(after[name].rows)) <= set(digests(before[name].rows))


def test_equal_rows_are_never_cut_apart() -> None:
    overlap = arrange({"train": [*MANY, *MANY]}, CONFIG, "t/d")[1]
    assert overlap == {"train/validation": 0, "train/test": 0, "validation/test": 0}


def grouped(num_groups: int, size: int, task: TaskConfig) -> list[Row]:
    values = [
        {"text": f"text {one} of {group}", "label": "x", "group": group}
        | {"question": f"q {one}", "context": f"C {group}"}
        | {"answers": {"text": ["C"], "answer_start": [0]}}
        for one in range(size)
        for group in range(num_groups)
    ]
    return [row for one in values for row in make_row(one, task, "f:1") if isinstance(row, Row)]


@pytest.mark.parametrize(
    "task",
    [TaskConfig(name="t", kind="classification", group="doc"), TaskConfig(name="q", kind="extractive_qa")],
    ids=lambda task: task.kind,
)
def test_rows_of_a_group_are_never_cut_apart(task: TaskConfig) -> None:
    rows = grouped(100, 5, task)
    splits, _, notes = arrange({"train": rows}, CONFIG, "t/d")
    groups = {name: {row.group for row in split.rows} for name, split in splits.items()}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == 100
    assert all(len(split.rows) == 5 * len(groups[name]) for name, split in splits.items())
    assert 3 < len(groups["test"]) < 20
    assert notes[0].endswith(f"were cut off for it by hash, {len(groups['test'])} groups as a whole.")
    more = arrange({"train": [*rows, *make("another")]}, CONFIG, "t/d")[0]
    assert set(digests(splits["test"].rows)) <= set(digests(more["test"].rows))


def test_a_row_that_names_no_group_goes_for_itself() -> None:
    task = TaskConfig(name="t", kind="classification", group="doc")
    rows = [
        row
        for number, group in enumerate(["", None] * 500)
        for row in make_row({"text": f"text {number}", "label": "x", "group": group}, task, "f:1")
        if isinstance(row, Row)
    ]
    splits, _, _ = arrange({"train": rows}, CONFIG, "t/d")
    assert digests(splits["test"].rows) == digests(arrange({"train": MANY}, CONFIG, "t/d")[0]["test"].rows)


def test_the_first_version_of_the_cut_knows_no_groups() -> None:
    task = TaskConfig(name="q", kind="extractive_qa")
    splits, _, _ = arrange({"train": grouped(100, 5, task)}, CONFIG, "t/d", cut=1)
    own = [dataclasses.replace(row, group=None) for row in grouped(100, 5, task)]
    expected = arrange({"train": own}, CONFIG, "t/d")[0]
    assert {name: split.fingerprint for name, split in splits.items()} == {
        name: split.fingerprint for name, split in expected.items()
    }


def test_overlap_counts_the_later_splits_rows_and_says_so() -> None:
    found = {"train": make("a", "b", "b"), "validation": make("a", "c"), "test": make("a", "b", "b", "d")}
    _, overlap, notes = arrange(found, CONFIG, "t/d")
    assert overlap == {"train/validation": 1, "train/test": 3, "validation/test": 1}
    assert notes == [
        "1 row of validation stands in train too.",
        "3 rows of test stand in train too.",
        "1 row of test stands in validation too.",
    ]


SAME_INPUTS = [
    labelled("Un café noir", "y"),
    labelled("UN CAFÉ NOIR"),
    labelled("Un\u00a0 caf\u00e9 noir\n"),
    labelled("Un cafe\u0301 noir", "y"),
    labelled("Un cafe\u0301\u2003NOIR"),
    labelled("\ufeffUn ca\u00adf\u00e9\u200b noir"),
]


@pytest.mark.parametrize("again", SAME_INPUTS, ids=lambda row: ascii(row.fields["text"]))
@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_same_inputs_are_overlap_whatever_the_label_the_case_or_the_form_of_unicode(again: Row, split: str) -> None:
    found = {"train": [labelled("Un café noir"), *make("a")], "validation": make("v"), "test": make("w")}
    found[split] = [*found[split], again]
    assert arrange(found, CONFIG, "t/d")[1][f"train/{split}"] == 1
    splits, overlap, _ = arrange(found, DataConfig(drop_overlap=True), "t/d")
    assert [digests(splits["train"].rows), any(overlap.values())] == [digests(make("a")), False]


def test_drop_overlap_takes_shared_rows_from_train_alone() -> None:
    found = {"train": make("a", "b", "b", "e"), "validation": make("a", "c"), "test": make("b", "d")}
    splits, overlap, notes = arrange(found, DataConfig(drop_overlap=True), "t/d")
    assert digests(splits["train"].rows) == digests(make("e"))
    assert len(splits["validation"].rows) == len(splits["test"].rows) == 2
    assert not any(overlap.values())
    assert notes == ["3 rows of train dropped: in validation or test too (data.drop_overlap)."]


def test_drop_overlap_that_leaves_no_training_rows_is_an_error() -> None:
    found = {"train": make("a"), "validation": make("a"), "test": make("b")}
    with pytest.raises(DataError, match=r"t/d: has no rows left to train on\. .*data\.drop_overlap"):
        arrange(found, DataConfig(drop_overlap=True), "t/d")


def test_max_train_rows_chooses_by_hash_keeps_order_and_is_noted() -> None:
    found = {"train": MANY, "validation": make("v"), "test": make("w")}
    splits, _, notes = arrange(found, DataConfig(max_train_rows=50), "t/d")
    chosen = digests(splits["train"].rows)
    assert chosen == [digest for digest in digests(MANY) if digest in set(chosen)]
    shuffled = {**found, "train": random.Random(0).sample(MANY, 1000)}
    assert sorted(digests(arrange(shuffled, DataConfig(max_train_rows=50), "t/d")[0]["train"].rows)) == sorted(chosen)
    assert notes == ["train is limited to 50 of 1000 rows, chosen by hash (data.max_train_rows)."]


def test_max_train_rows_above_what_is_there_changes_nothing() -> None:
    found = {"train": make("a", "b"), "validation": make("v"), "test": make("w")}
    splits, _, notes = arrange(found, DataConfig(max_train_rows=2), "t/d")
    assert len(splits["train"].rows) == 2
    assert notes == []


def test_train_too_small_to_be_cut_is_an_error_for_each_split() -> None:
    (row,) = [row for row in MANY if row.digest.startswith("f")][:1]
    with pytest.raises(DataError) as caught:
        arrange({"train": [row]}, CONFIG, "t/d")
    assert [("validation" in fault.rule, "test" in fault.rule) for fault in caught.value.faults] == [
        (True, False),
        (False, True),
    ]


def test_fingerprint_depends_on_every_row_and_not_on_order() -> None:
    rows = make("a", "b", "c")
    assert fingerprint(rows) == fingerprint(rows[::-1])
    assert len(fingerprint(rows)) == 16
    assert len({fingerprint(rows), fingerprint(rows[:2]), fingerprint([*rows, rows[0]])}) == 3
