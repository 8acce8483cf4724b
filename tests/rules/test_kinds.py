"""A kind of task is whole in its file: no code elsewhere asks which kind it has before it."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from pipeline.config import Kind

ROOT = Path(__file__).parents[2]
HOMES = ("pipeline/core/tasks/", "pipeline/config/task.py", "pipeline/config/training.py")
"""The kinds themselves; their fields and metrics; and the kinds that a method cannot train."""
FOREIGN = ("pipeline/interop/adapterhub/heads.py", "pipeline/interop/adapterhub/names.py")
"""AdapterHub's own names of heads, some of which are the same words."""


def kind_faults(root: Path) -> Iterator[str]:
    """Every place outside the homes that names a kind, or looks something up by one."""
    for file in sorted(file for top in ("pipeline", "jobs") for file in (root / top).rglob("*.py")):
        path = file.relative_to(root).as_posix()
        if path.startswith((*HOMES, *FOREIGN)):
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in get_args(Kind):
                yield f"{path}:{node.lineno}: names the kind {node.value}"
            elif (
                isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Attribute) and node.slice.attr == "kind"
            ):
                yield f"{path}:{node.lineno}: looks something up by kind"


def test_no_code_outside_the_kinds_asks_for_a_kind() -> None:
    assert list(kind_faults(ROOT)) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("if task.kind == 'tagging':\n    pass", "names the kind tagging"),
        ("if task.config.kind in ('classification', 'other'):\n    pass", "names the kind classification"),
        ("match task.kind:\n    case 'generation':\n        pass", "names the kind generation"),
        ("def f(task):\n    return FIELDS[task.config.kind]", "looks something up by kind"),
    ],
)
@pytest.mark.parametrize("path", ["pipeline/steps/planted.py", "jobs/planted.py", "pipeline/core/engine/planted.py"])
def test_a_planted_question_is_found(tmp_path: Path, path: str, text: str, fault: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text, "utf-8")
    (found,) = kind_faults(tmp_path)
    assert found.startswith(f"{path}:") and found.endswith(fault)


def test_the_kinds_may_name_themselves(tmp_path: Path) -> None:
    file = tmp_path / "pipeline" / "core" / "tasks" / "kinds.py"
    file.parent.mkdir(parents=True)
    file.write_text('TASK_KINDS = {"tagging": None}', "utf-8")
    assert list(kind_faults(tmp_path)) == []
