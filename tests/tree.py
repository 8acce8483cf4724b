"""Every file with the first line that it says of itself: `python -m tests.tree` writes docs/tree.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tree.md"
TOPS = ("jobs", "pipeline", "conf")
RANKS = {"steps": 0, "rules": 2, "core": 3, "config": 4}
"""The floors from the top down; what is not named is a wing (1)."""

BEGINNING = """\
# Every file

Written by `python -m tests.tree` from the first line of each file. [design.md](design.md) says what the folders are.
`tests/` mirrors them (`tests/unit/core/engine/` is for `pipeline/core/engine/`). Beside the unit tests there are
`tests/commands/` for whole commands, `tests/integration/` for Ray, `tests/rules/` for the rules of the house,
`tests/faults/` for what happens when something is killed, and `tests/bench/`, which measures."""


def purpose(file: Path) -> str:
    """The first line of a docstring, or of the comment that a YAML file begins with; empty where there is none."""
    text = file.read_text("utf-8")
    if file.suffix == ".py":
        line = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    else:
        line = text.partition("\n")[0].removeprefix("# ") if text.startswith("# ") else ""
    return line.strip()


def files(folder: Path) -> list[Path]:
    """The Python and YAML files of a folder itself, but for its `__init__.py`."""
    return sorted(file for file in folder.glob("*") if file.suffix in (".py", ".yaml") and file.name != "__init__.py")


def sections(folder: Path, root: Path) -> Iterator[str]:
    """A heading for each folder with files, what the folder says of itself, and a line for each file."""
    package = folder / "__init__.py"
    said = [purpose(package)] if package.exists() else []
    listed = [f"* `{file.name}`: {purpose(file)}" for file in files(folder)]
    if said or listed:
        parts = ["\n".join(lines) for lines in (said, listed) if lines]
        yield "\n\n".join([f"## {folder.relative_to(root)}/", *parts])
    inner = (path for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__")
    for path in sorted(inner, key=lambda path: (RANKS.get(path.name, 1), path)):
        yield from sections(path, root)


def page(root: Path = ROOT) -> str:
    """The whole page as Markdown."""
    return "\n\n".join([BEGINNING, *(part for top in TOPS for part in sections(root / top, root))]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
