"""What a version has seen: kept whole in files, checked when it is read, and grown by a period."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import TaskConfig
from pipeline.core.data.ledger import Entry, Ledger, Slice, extended, read_ledger, write_ledger
from pipeline.core.data.rows import Row, make_row
from pipeline.errors import DataError

TASK = TaskConfig(name="mood", kind="classification", columns={"text": "review"})


def row(text: str, label: str = "good", **others: Any) -> Row:
    made = next(make_row({"text": text, "label": label, **others}, TASK, "here"))
    assert isinstance(made, Row)
    return made


LEDGER = Ledger(
    trained=(row("one", id="a"), row("two", "bad", id=7), row("three")),
    chosen=(row("four"),),
    former=(row("One", id="a"),),
    used=frozenset({"00" * 8, "ff" * 8}),
    slices=(Slice(name="may", rows=(row("five"), row("six", "bad"))), Slice(name="june", rows=(row("seven"),))),
    history=(Entry(name="may", scores={"may": 0.5, "june": 0.25}), Entry(name="june", scores={"june": 1.0})),
    added=("0123456789abcdef",),
)


def fields(rows: tuple[Row, ...]) -> list[tuple[str, Any]]:
    """Of each row everything but where it stands."""
    return [(row.digest, row.fields) for row in rows]


def again(ledger: Ledger, folder: Path) -> Ledger:
    write_ledger(folder / "ledger", ledger)
    return read_ledger(folder / "ledger", TASK)


def slice_file(folder: Path, number: int) -> Path:
    return folder / "ledger" / "slices" / f"{LEDGER.slices[number].digest}.jsonl"


def grown(ledger: Ledger | None = LEDGER, **changes: Any) -> Ledger:
    values: dict[str, Any] = {"trained": [], "chosen": [], "slice_rows": [], "scores": {}}
    return extended(ledger, name="july", **{**values, **changes})


def test_a_ledger_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    found = again(LEDGER, tmp_path)
    for part in ("trained", "chosen", "former"):
        assert fields(getattr(found, part)) == fields(getattr(LEDGER, part))
    assert [(one.name, fields(one.rows)) for one in found.slices] == [(o.name, fields(o.rows)) for o in LEDGER.slices]
    assert [found.history, found.added, found.used] == [LEDGER.history, LEDGER.added, LEDGER.used]
    assert (
        found.known
        == LEDGER.known
        == {row.digest for row in map(row, ["one", "One", "three", "four", "five", "seven"])}
        | {
            row("two", "bad").digest,
            row("six", "bad").digest,
        }
    )


def test_an_empty_ledger_is_read_back(tmp_path: Path) -> None:
    assert again(Ledger(trained=()), tmp_path) == Ledger(trained=())


@pytest.mark.parametrize(
    "text", ["žluťoučký kůň 馬 🐎", "a\u2028b\u2029c\x85d", "a\nb\r\nc\x0bd\x0ce\x1cf", "\x00\\u2028"]
)
def test_every_character_of_a_text_survives(tmp_path: Path, text: str) -> None:
    rows = (row(text), row("after it"))
    found = again(Ledger(trained=rows, chosen=rows, slices=(Slice(name=text, rows=rows),)), tmp_path)
    assert fields(found.trained) == fields(found.chosen) == fields(found.slices[0].rows) == fields(rows)
    assert found.slices[0].name == text


@pytest.mark.parametrize("change", [("six", "sax"), ('"bad"', '"good"')])
def test_a_slice_that_was_changed_is_refused_by_name(tmp_path: Path, change: tuple[str, str]) -> None:
    write_ledger(tmp_path / "ledger", LEDGER)
    file = slice_file(tmp_path, 0)
    before = file.read_text("utf-8")
    file.write_text(before.replace(*change), "utf-8")
    assert file.read_text("utf-8") != before
    with pytest.raises(
        DataError, match=rf"slices/{file.name}: .*has other rows than were written: they should be {file.stem}"
    ):
        read_ledger(tmp_path / "ledger", TASK)


@pytest.mark.parametrize(
    "name", ["trained.jsonl", "chosen.jsonl", "former.jsonl", f"slices/{LEDGER.slices[1].digest}.jsonl"]
)
def test_a_file_that_lost_a_row_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write_ledger(tmp_path / "ledger", LEDGER)
    file = tmp_path / "ledger" / name
    file.write_text("".join(file.read_text("utf-8").splitlines(keepends=True)[1:]), "utf-8")
    with pytest.raises(DataError, match=f"{name}.*has other rows than were written"):
        read_ledger(tmp_path / "ledger", TASK)


@pytest.mark.parametrize(
    "name", ["trained.jsonl", "chosen.jsonl", "former.jsonl", f"slices/{LEDGER.slices[0].digest}.jsonl"]
)
def test_a_file_that_is_gone_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    write_ledger(tmp_path / "ledger", LEDGER)
    (tmp_path / "ledger" / name).unlink()
    with pytest.raises(DataError, match=rf"{name}.* Restore the file"):
        read_ledger(tmp_path / "ledger", TASK)


def test_a_line_that_is_cut_off_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger", LEDGER)
    file = tmp_path / "ledger" / "trained.jsonl"
    file.write_text(file.read_text("utf-8")[:-5], "utf-8")
    with pytest.raises(DataError, match=r"trained.jsonl:3: .* Restore the file"):
        read_ledger(tmp_path / "ledger", TASK)


def test_rows_of_another_task_are_an_error(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger", LEDGER)
    other = TaskConfig(name="mood", kind="classification", columns={"text_pair": "context"})
    with pytest.raises(DataError, match=r"jsonl:1: has no text_pair: it is no row"):
        read_ledger(tmp_path / "ledger", other)
    with pytest.raises(DataError, match=r"jsonl:1: has no tokens and no tags: it is no row"):
        read_ledger(tmp_path / "ledger", TaskConfig(name="mood", kind="tagging"))


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"format": 1}'])
def test_where_there_is_no_ledger_the_error_says_so(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "ledger.json").write_text(content, "utf-8")
    with pytest.raises(DataError, match=f"{tmp_path}.* has no ledger of what it has seen. Register a version anew"):
        read_ledger(tmp_path, TASK)


def test_a_ledger_of_another_format_is_refused(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger", LEDGER)
    file = tmp_path / "ledger" / "ledger.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "format": 2}), "utf-8")
    with pytest.raises(DataError, match="format"):
        read_ledger(tmp_path / "ledger", TASK)


def test_the_first_period_is_all_that_there_is() -> None:
    found = grown(None, trained=[row("a")], chosen=[row("b")], slice_rows=[row("c")], scores={"july": 0.5})
    assert found == Ledger(
        trained=(row("a"),),
        chosen=(row("b"),),
        slices=(Slice(name="july", rows=(row("c"),)),),
        history=(Entry(name="july", scores={"july": 0.5}),),
        added=tuple(row(text).digest for text in "abc"),
    )


def test_a_period_comes_behind_those_before_it() -> None:
    found = grown(trained=[row("a")], chosen=[row("b")], slice_rows=[row("c")], scores={"may": 0.5, "july": 1.0})
    assert found.trained == (*LEDGER.trained, row("a"))
    assert found.chosen == (*LEDGER.chosen, row("b"))
    assert found.slices == (*LEDGER.slices, Slice(name="july", rows=(row("c"),)))
    assert found.history == (*LEDGER.history, Entry(name="july", scores={"may": 0.5, "july": 1.0}))
    assert found.added == tuple(row(text).digest for text in "abc")


def test_a_slice_that_is_there_is_not_added_under_another_name() -> None:
    assert grown(slice_rows=LEDGER.slices[0].rows[::-1]).slices == LEDGER.slices
    assert grown(slice_rows=[]).slices == LEDGER.slices
    assert len(grown(slice_rows=LEDGER.slices[0].rows[:1]).slices) == 3


def test_a_row_that_was_edited_replaces_the_old_one_which_stays_known() -> None:
    old, new = LEDGER.trained[0], row("ONE", id="a")
    found = grown(trained=[new], replaced=[old])
    assert found.trained == (*LEDGER.trained[1:], new)
    assert found.former == (*LEDGER.former, old)
    assert found.known == {*LEDGER.known, new.digest}
    back = grown(found, trained=[old], replaced=[new])
    assert [back.trained, back.former] == [(*LEDGER.trained[1:], old), (*LEDGER.former, new)]


def test_the_same_id_alone_replaces_nothing() -> None:
    new = [row("ONE", id="a"), row("TWO", "bad", id="7")]
    assert grown(trained=new, chosen=[row("six", id="a")]).trained == (*LEDGER.trained, *new)


def test_a_ledger_that_was_written_before_former_rows_were_kept_is_read(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger", LEDGER)
    file = tmp_path / "ledger" / "ledger.json"
    values = json.loads(file.read_text("utf-8"))
    del values["former"], values["used"]
    file.write_text(json.dumps(values), "utf-8")
    (tmp_path / "ledger" / "former.jsonl").unlink()
    found = read_ledger(tmp_path / "ledger", TASK)
    assert [found.former, found.used, fields(found.trained)] == [(), frozenset(), fields(LEDGER.trained)]


def test_rows_without_an_id_replace_nothing_and_are_kept_once() -> None:
    assert grown(trained=[row("three"), row("new"), row("new")]).trained == (*LEDGER.trained, row("new"))
    assert grown(trained=[row("new"), row("new")]).added == (row("new").digest,)


def test_the_champions_score_on_the_new_slice_goes_into_its_own_entry() -> None:
    found = grown(scores={"july": 0.75}, before={"june": 0.0, "july": 0.5})
    assert found.history == (
        LEDGER.history[0],
        Entry(name="june", scores={"june": 1.0, "july": 0.5}),  # and what it had stays
        Entry(name="july", scores={"july": 0.75}),
    )
    assert grown(None, before={"july": 0.5}).history == (Entry(name="july", scores={}),)


def test_the_ledger_that_is_extended_stays_as_it_was() -> None:
    found = grown(trained=[row("ONE", id="a")], slice_rows=[row("c")], before={"july": 0.5})
    assert found != LEDGER
    assert [entry.scores for entry in LEDGER.history] == [{"may": 0.5, "june": 0.25}, {"june": 1.0}]
    assert [one.fields["text"] for one in LEDGER.trained] == ["one", "two", "three"]
