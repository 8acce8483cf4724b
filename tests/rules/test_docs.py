"""README and docs/ against the checkout: their commands, files and links are there, and every command has its line."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config.commands import COMMANDS
from tests.tree import PAGE, page

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
MOST_BYTES = 12_288
PATH = re.compile(r"`((?:jobs|pipeline|conf|tests|docs)/[\w./-]*)`")


def targets() -> set[str]:
    return {*COMMANDS, *re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)}


def code_of(text: str) -> list[str]:
    """The lines of code in blocks without a language, and what stands between backticks in a line."""
    fence = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.S | re.M)
    blocks = [block for language, block in fence.findall(text) if not language]
    prose = fence.sub("", text)
    return [*(line for block in blocks for line in block.splitlines()), *re.findall(r"`([^`\n]+)`", prose)]


def command_faults(text: str, known: set[str]) -> Iterator[str]:
    """What no user could type: a target or module that is not there, a variable that the command does not take."""
    for line in code_of(text):
        words = re.sub(r"'[^']*'|\"[^\"]*\"", "''", line.partition("  #")[0])
        for target, rest in re.findall(r"\bmake ([a-z-]+)([^#]*)", words):
            if target not in known:
                yield f"{line}: {target} is no target"
            names = re.findall(r"\b([A-Z]+)=", rest)
            if target in COMMANDS:
                yield from (
                    f"{line}: {target} takes no {name}" for name in names if name not in variables(target, rest)
                )
        for module in re.findall(r"python -m ((?:jobs|tests|pipeline)[\w.]*)", words):
            path = ROOT / module.replace(".", "/")
            if not (path.with_suffix(".py").exists() or (path / "__main__.py").exists()):
                yield f"{line}: {module} is no module"


def variables(command: str, words: str) -> set[str]:
    """The variables that a command takes, where it wraps another one also that one's."""
    own = {*COMMANDS[command].keys(), "ARGS"}
    if not COMMANDS[command].wraps:
        return own
    named = re.search(r"COMMAND=([a-z]+)", words)
    default = COMMANDS[command].config.__dataclass_fields__["command"].default
    return own | set(COMMANDS[named[1] if named else default].keys())


def link_faults(file: Path) -> Iterator[str]:
    """Links and paths that lead nowhere."""
    text = file.read_text("utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        if not (file.parent / link).exists():
            yield f"links to {link}"
    yield from (f"names {path}" for path in PATH.findall(text) if not (ROOT / path).exists())


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_every_command_variable_and_file_of_a_page_is_there(file: Path) -> None:
    assert list(command_faults(file.read_text("utf-8"), targets())) == []
    assert list(link_faults(file)) == []


def test_the_readme_says_what_each_command_is_for_and_no_more_than_fits() -> None:
    text = README.read_text("utf-8")
    rows = re.findall(r"^\| `make ([a-z-]+)[^|]*`[^|]*\| (.+) \|$", text, re.M)
    assert {name for name, says in rows if len(says) > 20} >= set(COMMANDS)
    assert {word for row in rows for word in row[:1]} <= targets()
    assert len(text.encode()) <= MOST_BYTES


def test_the_readme_leads_to_every_page() -> None:
    text = README.read_text("utf-8")
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", text))
    second = {
        name
        for page_ in linked
        for name in re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / page_).read_text("utf-8"))
    }
    assert {file.name for file in PAGES} - {"README.md", "SECURITY.md"} == linked | second
    assert "](SECURITY.md)" in text


def test_the_tree_is_what_the_files_say_today() -> None:
    assert PAGE.read_text("utf-8") == page(), "Run: python -m tests.tree"


def test_every_file_of_the_code_says_what_it_is_for() -> None:
    assert re.findall(r"^\* `([^`]+)`: *$", page(), re.M) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("```\nmake swep TASKS=ner\n```\n", "swep is no target"),
        ("Then `make predict EPOCHS=3`.", "predict takes no EPOCHS"),
        ("`make submit COMMAND=status TASKS=ner`", "submit takes no TASKS"),
        ("`python -m tests.bench.gone`", "tests.bench.gone is no module"),
    ],
)
def test_a_planted_command_is_found(text: str, fault: str) -> None:
    (found,) = command_faults(text, targets())
    assert found.endswith(fault)


def test_a_planted_link_and_a_planted_file_are_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("[here](gone.md), [there](https://example.com), and `pipeline/gone.py`", "utf-8")
    assert list(link_faults(tmp_path / "page.md")) == ["links to gone.md", "names pipeline/gone.py"]


def test_a_file_without_a_line_is_found(tmp_path: Path) -> None:
    for top in ("jobs", "pipeline", "conf"):
        (tmp_path / top).mkdir()
    (tmp_path / "jobs" / "a.py").write_text('"""Does a."""', "utf-8")
    (tmp_path / "jobs" / "b.py").write_text("x = 1", "utf-8")
    assert page(tmp_path).endswith("## jobs/\n\n* `a.py`: Does a.\n* `b.py`: \n")
