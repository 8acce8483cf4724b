"""Files and folders that are there whole, or not at all."""

from pathlib import Path

import pytest

from pipeline.errors import BundleError
from pipeline.files import make_folder, new_file, new_folder
from tests.powercut import PowerCut


def test_a_file_is_replaced_only_when_all_of_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "snapshot-1.pt"
    for content in ("first", "second"):
        with new_file(file) as draft:
            draft.write_text(content)
            assert draft.parent == tmp_path and draft.name.startswith(".")
        assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("snapshot-1.pt", content)]
    with pytest.raises(OSError, match="full"), new_file(file) as draft:
        draft.write_text("thi")
        raise OSError("the disk is full")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("snapshot-1.pt", "second")]


def test_a_folder_that_another_process_makes_meanwhile_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, is_dir = tmp_path / "shared", Path.is_dir

    def looked_at_too_early(path: Path) -> bool:
        if path == folder and not is_dir(path):
            folder.mkdir()
            return False
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", looked_at_too_early)
    make_folder(folder)
    assert is_dir(folder)


def test_a_folder_is_there_only_when_all_of_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "bundle-1"
    with pytest.raises(OSError, match="full"), new_folder(folder) as draft:
        (draft / "adapter.safetensors").write_text("half")
        raise OSError("the disk is full")
    assert list(folder.parent.iterdir()) == []
    with new_folder(folder) as draft:
        (draft / "adapter.safetensors").write_text("whole")
    assert [one.name for one in folder.parent.iterdir()] == ["bundle-1"]
    with pytest.raises(BundleError, match="is there already"), new_folder(folder):
        pass
    assert (folder / "adapter.safetensors").read_text() == "whole"


def test_a_draft_that_a_killed_process_left_is_no_part_of_the_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a") as draft:
        pass
    draft.mkdir()
    (draft / "old").touch()
    with new_folder(tmp_path / "b") as other:
        assert other.name == draft.name.replace(".a.", ".b.")
    (tmp_path / "a").rmdir()
    with new_folder(tmp_path / "a") as again:
        assert again == draft and not any(again.iterdir())


def everything(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_what_was_put_in_place_is_there_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    cut = PowerCut(monkeypatch)
    with new_folder(root / "sweep" / "trials" / "bundle-1") as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / "rows.jsonl").write_text("rows")
        (draft / "bundle.json").write_text("{}")
    make_folder(root / "spool" / "deeper")
    for text in ("first", "second"):
        with new_file(root / "spool" / "deeper" / "1.json") as draft:
            draft.write_text(text)
        left = everything(cut.left(root, tmp_path / text))
        assert left == everything(root) and left["spool/deeper/1.json"] == text.encode()
    assert (tmp_path / "second" / "sweep" / "trials" / "bundle-1" / "inner" / "rows.jsonl").read_text() == "rows"


def test_a_power_cut_before_the_block_has_ended_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    cut = PowerCut(monkeypatch)
    with new_file(root / "1.json") as draft:
        draft.write_text("old")
    with new_file(root / "1.json") as draft:
        draft.write_text("new")
        assert everything(cut.left(root, tmp_path / "left")) == {"1.json": b"old"}
