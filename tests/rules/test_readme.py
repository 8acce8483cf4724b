"""The README against the checkout: its commands are there, and its tree names every file, each with a line."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Target and variables of every `make` in blocks and inline code."""
    code = "\n".join([*re.findall(r"```\n(.*?)```", text, re.S), *re.findall(r"`(make [^`]+)`", text)])
    for target, rest in re.findall(r"\bmake ([a-z-]+)([^\n#]*)", code):
        yield target, re.findall(r"\b([A-Z]+)=", rest)


def tree(text: str) -> list[str]:
    """The paths that the tree names, folders with a slash behind them."""
    block = text.split("## The tree\n")[1].split("```")[1]
    found: list[str] = []
    folders: list[str] = []
    for line in filter(None, block.splitlines()):
        depth = (len(line) - len(line.lstrip())) // 2
        names, _, purpose = line.strip().partition("  ")
        assert purpose.strip(), f"{names} has no line"
        for name in names.split():
            found.append("".join([*folders[:depth], name]))
        if names.endswith("/") and " " not in names:
            folders[depth:] = [names]
    return found


def test_every_command_of_the_readme_is_one_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.M))
    found = list(commands((ROOT / "README.md").read_text("utf-8")))
    assert len(found) > 12
    for target, variables in found:
        assert target in targets, target
        for name in variables:
            assert re.search(rf"\$\({name}\)|value {name}\)|given,{name},", makefile), name


def test_the_tree_names_what_is_there_and_all_of_the_code() -> None:
    found = tree((ROOT / "README.md").read_text("utf-8"))
    assert [path for path in found if not (ROOT / path).exists()] == []
    code = {str(file.relative_to(ROOT)) for top in ("pipeline", "jobs") for file in (ROOT / top).rglob("*.py")}
    assert {path for path in code if not path.endswith("__init__.py")} <= set(found)


@pytest.mark.parametrize("planted", ["pipeline/gone.py  what was here once\n", "jobs/sweep.py\n"])
def test_a_planted_line_is_found(planted: str) -> None:
    text = f"## The tree\n\n```\n{planted}```\n"
    with pytest.raises(AssertionError):
        assert all((ROOT / path).exists() for path in tree(text))
