"""Files and folders that are there whole, or not at all."""

from pathlib import Path

import pytest

from pipeline.errors import BundleError
from pipeline.files import new_file, new_folder


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
