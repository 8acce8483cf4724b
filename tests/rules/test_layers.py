"""The imports of the code, walked one by one: downward only, each framework in its home; and files of readable size."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS = (
    ("jobs",),
    ("cluster", "serving", "tracking", "reports"),
    ("lifecycle", "bank", "interop"),
    ("engine",),
    ("methods",),
    ("tasks",),
    ("data",),
    ("adapters",),
    ("config", "strict", "folders"),
    ("errors",),
)
"""From the top down: a layer imports those below it, and none beside it."""

HOMES = {
    "ray": ("pipeline/cluster/", "pipeline/serving/"),
    "mlflow": ("pipeline/tracking/",),
    "hydra": ("jobs/",),
    "omegaconf": ("jobs/",),
    "datasets": ("pipeline/core/data/hub.py",),
    "peft": ("pipeline/core/methods/lora.py", "pipeline/core/methods/prompt.py"),
    "sklearn": ("pipeline/core/tasks/metrics.py",),
    "seqeval": ("pipeline/core/tasks/metrics.py",),
    "sacrebleu": ("pipeline/core/tasks/metrics.py",),
    "apscheduler": ("pipeline/clock/passes.py",),
    "cronsim": ("pipeline/config/cron.py",),
}
"""Where each framework may be imported, in whatever way: inside functions and for type checking too."""

MOST_LINES = 400
MOST_LINES_OF = {"pipeline/core/engine/loop.py": 250}
NAMELESS = ("utils", "util", "helpers", "helper", "common", "misc")


def sources(root: Path) -> list[Path]:
    return sorted(file for top in ("pipeline", "jobs") for file in (root / top).rglob("*.py"))


def imports(file: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports; of `from a import b` it is `a.b`."""
    package = file.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            start = ".".join((*above, *([node.module] if node.module else [])))
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)


def layer_of(parts: tuple[str, ...]) -> str | None:
    """The layer of a dotted name; None for what is not ours."""
    if parts[0] == "pipeline":
        return parts[1].removesuffix(".py") if len(parts) > 1 else None
    return "jobs" if parts[0] == "jobs" else None


def layer_faults(root: Path) -> Iterator[str]:
    rank = {name: number for number, names in enumerate(LAYERS) for name in names}
    for file in sources(root):
        path = file.relative_to(root)
        own = layer_of(path.parts)
        if own == "__init__":
            continue
        if own not in rank:
            yield f"{path}: is in no layer"
            continue
        for line, name in imports(file, root):
            other = layer_of(tuple(name.split(".")))
            if other is not None and other != own and rank.get(other, -1) <= rank[own]:
                yield f"{path}:{line}: {own} imports {name}"


def home_faults(root: Path) -> Iterator[str]:
    for file in sources(root):
        path = file.relative_to(root).as_posix()
        for line, name in imports(file, root):
            homes = HOMES.get(name.split(".")[0])
            if homes is not None and not path.startswith(homes):
                yield f"{path}:{line}: imports {name}, whose home is {' and '.join(homes)}"


def file_faults(root: Path) -> Iterator[str]:
    for file in sources(root):
        path = file.relative_to(root)
        count = len(file.read_text("utf-8").splitlines())
        most = MOST_LINES_OF.get(path.as_posix(), MOST_LINES)
        if count > most:
            yield f"{path}: has {count} lines, more than {most}"
        if any(part.removesuffix(".py") in NAMELESS for part in path.parts):
            yield f"{path}: says nothing about what is in it"


def test_layers_import_downward_only() -> None:
    assert len(sources(ROOT)) > 40
    assert list(layer_faults(ROOT)) == []


def test_each_framework_is_imported_in_its_home_alone() -> None:
    found = {name.split(".")[0] for file in sources(ROOT) for _, name in imports(file, ROOT)}
    assert {"ray", "mlflow", "hydra", "omegaconf", "datasets", "sklearn", "seqeval", "sacrebleu"} <= found
    assert list(home_faults(ROOT)) == []


def test_files_are_of_readable_size_and_have_a_name_that_says_something() -> None:
    assert list(file_faults(ROOT)) == []


def plant(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        (
            "pipeline/core/engine/loop.py",
            "from pipeline.cluster.experiment import run",
            "engine imports pipeline.cluster",
        ),
        ("pipeline/core/engine/loop.py", "import pipeline.core.bank.predictor", "engine imports pipeline.core.bank"),
        ("pipeline/cluster/experiment.py", "from pipeline.tracking import runs", "cluster imports pipeline.tracking"),
        ("pipeline/core/data/load.py", "from ..engine import loop", "data imports pipeline.core.engine"),
        ("pipeline/core/data/load.py", "from .. import bank", "data imports pipeline.core.bank"),
        (
            "pipeline/core/bank/x.py",
            "def f():\n    from pipeline.config.overrides import run",
            "pipeline/core/bank/x.py:2: bank imports jobs",
        ),
        ("pipeline/config.py", "import pipeline.config.strict", "config imports pipeline.config.strict"),
        ("pipeline/core/adapters/x.py", "import pipeline.newcomer.x", "adapters imports pipeline.newcomer"),
        ("pipeline/newcomer/x.py", "", "pipeline/newcomer/x.py: is in no layer"),
    ],
)
def test_a_planted_import_upward_or_sideways_is_found(tmp_path: Path, path: str, text: str, fault: str) -> None:
    plant(tmp_path, path, text)
    (found,) = layer_faults(tmp_path)
    assert fault in found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("pipeline/core/engine/loop.py", "import ray"),
        ("pipeline/reports/plots.py", "from mlflow.entities import Run"),
        ("pipeline/config.py", "from omegaconf import OmegaConf"),
        ("pipeline/config/strict.py", "def f():\n    import hydra.utils"),
        ("pipeline/core/data/load.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import datasets"),
        ("pipeline/core/methods/bottleneck.py", "import peft"),
        ("pipeline/core/tasks/tagging.py", "from seqeval.metrics import f1_score"),
        ("jobs/sweep.py", "import sklearn"),
    ],
)
def test_a_planted_framework_outside_its_home_is_found(tmp_path: Path, path: str, text: str) -> None:
    plant(tmp_path, path, text)
    (found,) = home_faults(tmp_path)
    assert found.startswith(f"{path}:{len(text.splitlines())}: imports")


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("pipeline/core/data/long.py", 401),
        ("pipeline/core/engine/loop.py", 251),
        ("jobs/helpers.py", 1),
        ("pipeline/misc/x.py", 1),
    ],
)
def test_a_planted_long_or_nameless_file_is_found(tmp_path: Path, path: str, lines: int) -> None:
    plant(tmp_path, path, "x = 1\n" * lines)
    (found,) = file_faults(tmp_path)
    assert found.startswith(f"{path}:")
