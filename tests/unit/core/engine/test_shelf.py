"""Files of what was computed: whole, of their section, within the bound, and shared."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from pipeline.core.engine.shelf import Section, Shelf, ShelfFullError, own_shelf
from pipeline.files import new_file


def rows(*numbers: int, size: int = 3) -> dict[str, tuple[torch.Tensor, ...]]:
    return {
        f"{n:032x}": (torch.full((n, size), float(n)), torch.full((n, size), n, dtype=torch.bfloat16)) for n in numbers
    }


def filled(folder: Path) -> Section:
    section = Shelf(folder, 2**20).section({"weights": "a"})
    with section.claimed(0, wait=True):
        section.put(rows(1, 2, 3))
    return section


def test_rows_come_back_as_they_were_put_in_another_process_too(tmp_path: Path) -> None:
    filled(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    again = Shelf(tmp_path, 2**20).section({"weights": "a"})
    wanted = rows(1, 2, 3)
    assert again.look([*wanted, "f" * 32]) == ["f" * 32]
    assert again.rows.keys() == wanted.keys()
    for digest, row in wanted.items():
        assert all(torch.equal(one, other) for one, other in zip(row, again.rows[digest], strict=True))
        assert [one.dtype for one in row] == [one.dtype for one in again.rows[digest]]
    assert Shelf(tmp_path, 2**20).section({"weights": "b"}).look(list(wanted)) == list(wanted)


def test_it_lies_in_the_users_caches_if_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    shelf = own_shelf(10)
    assert shelf is not None and shelf.folder == Path("/caches/adapters/prefix") and shelf.limit == 10
    assert own_shelf(0) is None
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert own_shelf(10) is None


def test_what_is_not_wanted_any_more_is_unmapped_and_found_again(tmp_path: Path) -> None:
    section = filled(tmp_path)
    section.let_go(["f" * 32])
    assert not section.rows
    assert not section.look(list(rows(2)))


@pytest.mark.parametrize("place", [0, 33, 60, -1, -100])
def test_a_file_with_a_wrong_byte_is_removed_and_not_trusted(tmp_path: Path, place: int) -> None:
    filled(tmp_path)
    (file,) = tmp_path.glob("*/*.kept")
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    again = Shelf(tmp_path, 2**20).section({"weights": "a"})
    assert again.look(list(rows(1))) == list(rows(1))
    assert not file.exists()
    again.put(rows(1))
    assert not again.look(list(rows(1)))


@pytest.mark.parametrize("size", [0, 10, 100, 700])
def test_a_file_that_was_cut_off_is_removed(tmp_path: Path, size: int) -> None:
    filled(tmp_path)
    (file,) = tmp_path.glob("*/*.kept")
    assert file.stat().st_size > size
    os.truncate(file, size)
    assert Shelf(tmp_path, 2**20).section({"weights": "a"}).look(list(rows(1))) == list(rows(1))
    assert not file.exists()


def test_a_file_of_another_section_is_not_trusted_and_half_a_file_is_not_seen(tmp_path: Path) -> None:
    section = filled(tmp_path)
    other = Shelf(tmp_path, 2**20).section({"weights": "b"})
    other.folder.mkdir()
    (file,) = section.folder.glob("*.kept")
    (other.folder / file.name).write_bytes(file.read_bytes())
    (other.folder / f".{file.name}.123").write_bytes(file.read_bytes()[:100])  # of a writer that was killed
    assert other.look(list(rows(1))) == list(rows(1))
    assert not (other.folder / file.name).exists()
    assert file.exists()


def test_what_was_not_used_for_longest_makes_room_and_what_is_used_stays(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 3_500)
    old, used = shelf.section({"weights": "old"}), shelf.section({"weights": "used"})
    for number, section in enumerate((old, used)):
        section.folder.mkdir(parents=True)
        section.put(rows(1, size=64))
        (file,) = section.folder.glob("*.kept")
        os.utime(file, (number, number))
    begun = used.folder / ".name.kept.123"
    begun.write_bytes(bytes(1_000))  # by a writer that was killed
    os.utime(begun, (0, 0))
    old.look(list(rows(1)))
    old.touch()
    new = shelf.section({"weights": "new"})
    new.folder.mkdir()
    new.put(rows(6, size=64))
    assert not begun.exists()
    assert [len(list(one.folder.glob("*.kept"))) for one in (old, used, new)] == [1, 0, 1]
    assert old.rows[f"{1:032x}"][0].sum() == 64, "what is mapped stays"
    with pytest.raises(ShelfFullError):
        new.put(rows(7, size=64))
    assert sum(file.stat().st_size for file in tmp_path.glob("*/*.kept")) <= 3_500


def test_two_who_want_the_same_share_the_work(tmp_path: Path) -> None:
    computed: list[int] = []
    together = threading.Barrier(2)

    def want() -> None:
        section = Shelf(tmp_path, 2**20).section({"weights": "a"})
        left = list(range(1, 9))
        together.wait()
        for wait in (False, True):
            for number in list(left):
                with section.claimed(number, wait=wait) as mine:
                    if not mine:
                        continue
                    if section.look(list(rows(number))):
                        computed.append(number)
                        section.put(rows(number))
                    left.remove(number)
        assert section.rows.keys() == rows(*range(1, 9)).keys()

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(computed) == list(range(1, 9))


def test_two_who_write_at_once_do_not_find_the_same_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = [Shelf(tmp_path, 2_500).section({"weights": name}) for name in "ab"]
    together, whole = threading.Barrier(2), new_file

    @contextmanager
    def slow(file: Path) -> Iterator[Path]:
        with suppress(threading.BrokenBarrierError):
            together.wait(1)
        with whole(file) as draft:
            yield draft

    def put(number: int) -> None:
        with suppress(ShelfFullError):
            sections[number].put(rows(1, size=200))

    for section in sections:
        section.folder.mkdir(parents=True)
    monkeypatch.setattr("pipeline.core.engine.shelf.new_file", slow)
    threads = [threading.Thread(target=put, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < sum(file.stat().st_size for file in tmp_path.glob("*/*.kept")) <= 2_500
