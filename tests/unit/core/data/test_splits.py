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


def label_of(row: Row) -> tuple[str, ...]:
    return (row.fields["label"],)


def test_a_label_of_one_row_stays_in_train() -> None:
    """One csv of 32 labels, of which 30 have a single row."""
    rare = [labelled(f"rare {one}", f"label {one}") for one in range(30)]
    rows = [*MANY[:200], *(labelled(f"other {one}", "y") for one in range(200)), *rare]
    splits, _, notes = arrange({"train": rows}, CONFIG, "t/d", labels_of=label_of)
    labels = {name: {row.fields["label"] for row in split.rows} for name, split in splits.items()}
    assert len(labels["train"]) == 32
    assert labels["validation"] | labels["test"] <= labels["train"]
    before, _, _ = arrange({"train": rows}, CONFIG, "t/d", labels_of=label_of, cut=2)
    moved = {row.digest for row in splits["train"].rows} - {row.digest for row in before["train"].rows}
    assert moved == {row.digest for row in rare} & {
        row.digest for row in (*before["test"].rows, *before["validation"].rows)
    }
    assert notes[-1] == (
        f"{len(moved)} rows that would have been cut off stay in train: their label has no other row there."
    )


def test_of_a_label_that_would_be_cut_off_the_row_with_the_highest_digest_stays() -> None:
    low = sorted((row for row in make(*(f"low {one}" for one in range(400)))), key=lambda row: row.digest)[:5]
    rows = [*MANY[:100], *(dataclasses.replace(row, fields={**row.fields, "label": "rare"}) for row in low)]
    splits, _, _ = arrange({"train": rows}, CONFIG, "t/d", labels_of=label_of)
    assert [row.digest for row in splits["train"].rows if label_of(row) == ("rare",)] == [low[-1].digest]
    assert low[-1].digest < "199"


def test_with_a_group_the_whole_group_stays() -> None:
    task = TaskConfig(name="t", kind="classification", group="doc")
    rows = grouped(100, 5, task)
    first, _, _ = arrange({"train": rows}, CONFIG, "t/d", labels_of=label_of)
    group = first["test"].rows[0].group
    rows = [
        dataclasses.replace(row, fields={**row.fields, "label": "rare"} if row is first["test"].rows[0] else row.fields)
        for row in rows
    ]
    splits, _, notes = arrange({"train": rows}, CONFIG, "t/d", labels_of=label_of)
    assert [sum(row.group == group for row in split.rows) for split in splits.values()] == [5, 0, 0]
    assert notes[-1].startswith("5 rows that would have been cut off stay in train")


def test_of_rows_with_many_labels_each_label_counts() -> None:
    rows = make(*(f"text {one}" for one in range(300)))
    first, _, _ = arrange({"train": rows}, CONFIG, "t/d")
    low = {row.digest for row in (*first["test"].rows[:2], *first["validation"].rows[:1])}

    def labels_of(row: Row) -> tuple[str, ...]:
        return ("x", "rare", f"own {row.digest}") if row.digest in low else ("x",)

    splits, _, _ = arrange({"train": rows}, CONFIG, "t/d", labels_of=labels_of)
    assert low <= {row.digest for row in splits["train"].rows}


def test_rows_that_a_version_was_trained_on_stay_in_train_but_not_by_an_older_cut() -> None:
    before, _, _ = arrange({"train": MANY}, CONFIG, "t/d")
    trained = {before["test"].rows[0].digest, before["validation"].rows[0].digest, before["train"].rows[0].digest}
    splits, _, notes = arrange({"train": MANY}, CONFIG, "t/d", trained=trained)
    assert trained <= {row.digest for row in splits["train"].rows}
    assert notes[-1].startswith("2 rows that would have been cut off stay in train")
    older, _, _ = arrange({"train": MANY}, CONFIG, "t/d", trained=trained, cut=2)
    assert [split.fingerprint for split in older.values()] == [split.fingerprint for split in before.values()]


def test_a_label_that_gets_more_rows_keeps_in_train_what_was_trained_on() -> None:
    rows = [*MANY[:300]]
    first, _, _ = arrange({"train": rows}, CONFIG, "t/d", labels_of=label_of)
    low = first["test"].rows[0]
    rare = dataclasses.replace(low, fields={**low.fields, "label": "rare"})
    rows = [rare if row is low else row for row in rows]
    kept, _, _ = arrange({"train": rows}, CONFIG, "t/d", labels_of=label_of)
    assert rare.digest in digests(kept["train"].rows)
    more = [*rows, *(labelled(f"more {one}", "rare") for one in range(20))]
    assert rare.digest in digests(arrange({"train": more}, CONFIG, "t/d", labels_of=label_of)[0]["test"].rows)
    later, _, _ = arrange(
        {"train": more}, CONFIG, "t/d", labels_of=label_of, trained={row.digest for row in kept["train"].rows}
    )
    assert rare.digest in digests(later["train"].rows)


@pytest.mark.parametrize(("group", "said"), [(None, "all equal"), ("0" * 16, "all of one group")])
def test_equal_rows_are_told_as_that_and_not_as_too_few(group: str | None, said: str) -> None:
    rows = make("a") * 50 if group is None else [dataclasses.replace(row, group=group) for row in MANY[:50]]
    with pytest.raises(DataError) as caught:
        arrange({"train": rows}, CONFIG, "t/d")
    assert all(said in fault.rule and "too few" not in fault.rule for fault in caught.value.faults)


def test_overlap_counts_the_later_splits_rows_and_says_so() -> None:
    found = {"train": make("a", "b", "b"), "validation": make("a", "c"), "test": make("a", "b", "b", "d")}
    _, overlap, notes = arrange(found, CONFIG, "t/d")
    assert overlap == {"train/validation": 1, "train/test": 3, "validation/test": 1}
    assert notes == [
        "1 row of validation stands in train too.",
        "3 rows of test stand in train too.",
        "1 row of test stands in validation too.",
        "1 row of test is equal to others there: the gate counts each once.",
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


def test_how_few_rows_differ_is_told_where_none_can_be_cut_off() -> None:
    with pytest.raises(DataError) as caught:
        arrange({"train": make("a", "b", "c") * 20}, CONFIG, "t/d")
    assert any("too few to cut one off: 60 rows, 3 different rows" in fault.rule for fault in caught.value.faults)
