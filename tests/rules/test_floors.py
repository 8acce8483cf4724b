"""The floors that the tree shows: every import of the code walked one by one, and what each floor may do.

A command is made of steps; a step may touch the outside; what decides is a rule and touches nothing; what trains and
predicts is core; what is typed is config. An import goes down, never up; no wing knows another; nobody imports a
command.
"""

import ast
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FLOORS = (
    ("jobs",),
    ("steps",),
    ("cluster", "tracking", "serving", "reports", "interop", "kubernetes", "clock"),
    ("rules", "pyfunc"),
    ("core", "core.bank", "core.engine", "core.methods", "core.tasks", "core.data", "core.adapters"),
    ("config", "files", "errors"),
)
"""From the top down: a room is a folder of `pipeline` (of `pipeline/core` on its floor), or a file of it."""
TIGHT = (2, 3)
"""Floors on which no room imports another; on the lowest two one may, if there is no circle."""
NUMBER = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

HOMES = {
    "ray": ("pipeline/cluster/", "pipeline/serving/"),
    "mlflow": ("pipeline/tracking/",),
    "fastapi": ("pipeline/serving/",),
    "starlette": ("pipeline/serving/",),
    "pydantic": ("pipeline/serving/",),
    "prometheus_client": ("pipeline/serving/figures.py",),
    "hydra": ("pipeline/config/overrides.py",),
    "omegaconf": ("pipeline/config/overrides.py",),
    "cronsim": ("pipeline/config/cron.py",),
    "datasets": ("pipeline/core/data/hub.py",),
    "pyarrow": ("pipeline/core/data/readers/", "pipeline/core/data/writers.py"),
    "peft": ("pipeline/core/methods/lora.py", "pipeline/core/methods/prompt.py"),
    "sacrebleu": ("pipeline/core/tasks/metrics.py",),
    "optuna": ("pipeline/rules/search.py",),
    "scipy": ("pipeline/rules/shifts.py", "pipeline/rules/paired.py"),
    "onnx": (),
    "onnxruntime": ("pipeline/interop/onnx_model.py",),
    "sklearn": (),
    "seqeval": (),
    "pandas": (),
}
"""Where each framework may be imported, in whatever way: inside functions and for type checking too."""

SLOW = {"transformers": ("pipeline/interop/edge_runtime.py",)}
"""What takes longer to load than torch, and where it may be loaded before a function needs it: in what runs alone on a
device. A command that asks for a table, and a process of Ray that only passes things on, do without it."""

MOST_LINES, MOST_LINES_OF_A_COMMAND = 400, 60
MOST_LINES_OF = {"pipeline/core/engine/loop.py": 250, "jobs/__main__.py": 400}
"""The door is no command."""
NAMELESS = ("utils", "util", "helpers", "helper", "common", "misc")

FILES = ("os", "io", "shutil", "subprocess", "tempfile", "socket", "sqlite3", "glob", "urllib", "pipeline.files")
"""What reaches files, programs or the network."""
FILE_METHODS: tuple[str, ...] = ("open", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "touch")
FILE_METHODS += (
    "unlink",
    "rmdir",
    "iterdir",
    "glob",
    "rglob",
    "exists",
    "is_file",
    "is_dir",
    "stat",
    "resolve",
    "symlink_to",
)
FILE_FUNCTIONS = ("read_", "write_", "open_", "load_", "save_", "new_folder")
"""How functions of ours begin that do."""


def sources(root: Path, *, tests: bool = False) -> list[Path]:
    """The files of the code, and if asked those of its tests."""
    tops = ("pipeline", "jobs", "tests") if tests else ("pipeline", "jobs")
    return sorted(file for top in tops for file in (root / top).rglob("*.py"))


def imports(file: Path, root: Path, *, at_start: bool = False) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports; of `from a import b` it is `a.b`.

    `at_start`: only what is imported whenever the file is, not what is in a function or for type checking.
    """
    package = file.relative_to(root).parent.parts
    tree = ast.parse(file.read_text("utf-8"))
    for node in tree.body if at_start else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            start = ".".join((*above, *([node.module] if node.module else [])))
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)


def room_of(name: str) -> str | None:
    """`config` of `pipeline.config.strict`, `core.data` of `pipeline.core.data.rows`; None of what has no room."""
    top, *rest = name.split(".")
    if top == "jobs":
        return "jobs"
    if top != "pipeline" or not rest:
        return None
    return ".".join(rest[:2]) if rest[0] == "core" else rest[0]


def name_of(path: Path) -> str:
    """`pipeline/core/data/rows.py` is `pipeline.core.data.rows`, a package its folder."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def arrows(root: Path) -> Iterator[tuple[str, str, str]]:
    """Every import from one room into another: where it is, its room, and the name that it imports."""
    for file in sources(root):
        path = file.relative_to(root)
        own = room_of(name_of(path))
        for line, name in imports(file, root):
            other = room_of(name)
            if own is not None and other not in (None, own):
                yield f"{path}:{line}", own, name


def floor_faults(root: Path) -> Iterator[str]:
    for file in sources(root):
        room = room_of(name_of(file.relative_to(root)))
        if room is not None and room not in NUMBER:
            yield f"{file.relative_to(root)}: is on no floor"
    for where, own, name in arrows(root):
        here, there = NUMBER.get(own, -1), NUMBER.get(room_of(name) or "", -1)
        if there < here or (there == here and here in TIGHT):
            yield f"{where}: {own} imports {name}"


def command_faults(root: Path) -> Iterator[str]:
    for file in sources(root):
        for line, name in imports(file, root):
            if name.split(".")[0] == "jobs":
                yield f"{file.relative_to(root)}:{line}: imports the command {name}"


def circles(root: Path) -> Iterator[str]:
    """Rooms that import each other, directly or through others."""
    graph: dict[str, dict[str, str]] = {}
    for where, own, name in arrows(root):
        graph.setdefault(own, {}).setdefault(room_of(name) or "", where)

    def reached(start: str, seen: set[str]) -> set[str]:
        for room in graph.get(start, {}):
            if room not in seen:
                seen.add(room)
                reached(room, seen)
        return seen

    for room, others in graph.items():
        yield from (
            f"{where}: {room} and {other} are in a circle"
            for other, where in others.items()
            if room in reached(other, set())
        )


def home_faults(root: Path) -> Iterator[str]:
    for file in sources(root):
        path = file.relative_to(root).as_posix()
        for line, name in imports(file, root):
            homes = HOMES.get(name.split(".")[0])
            if homes is not None and not path.startswith(homes):
                yield f"{path}:{line}: imports {name}, whose home is {' and '.join(homes) or 'the tests'}"


def start_faults(root: Path) -> Iterator[str]:
    for file in sources(root):
        path = file.relative_to(root).as_posix()
        for line, name in imports(file, root, at_start=True):
            if path not in SLOW.get(name.split(".")[0], (path,)):
                yield f"{path}:{line}: imports {name} before a function needs it"


def purity_faults(root: Path) -> Iterator[str]:
    """What in `pipeline/rules` reaches files, programs or the network."""
    for file in sorted((root / "pipeline" / "rules").rglob("*.py")):
        path = file.relative_to(root)
        for line, name in imports(file, root):
            ours = name.startswith("pipeline.") and name.rpartition(".")[2].startswith(FILE_FUNCTIONS)
            if ours or any(f"{name}.".startswith(f"{one}.") for one in FILES):
                yield f"{path}:{line}: imports {name}"
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id == "open":
                yield f"{path}:{called.lineno}: calls open"
            if isinstance(called, ast.Attribute) and called.attr in FILE_METHODS:
                yield f"{path}:{called.lineno}: calls {called.attr}"


def size_faults(root: Path) -> Iterator[str]:
    for file in sources(root, tests=True):
        path = file.relative_to(root)
        count = len(file.read_text("utf-8").splitlines())
        usual = MOST_LINES_OF_A_COMMAND if path.parts[0] == "jobs" else MOST_LINES
        most = MOST_LINES_OF.get(path.as_posix(), usual)
        if count > most:
            yield f"{path}: has {count} lines, more than {most}"


def name_faults(root: Path) -> Iterator[str]:
    for file in sources(root):
        path = file.relative_to(root)
        if any(part.removesuffix(".py") in NAMELESS for part in path.parts):
            yield f"{path}: says nothing about what is in it"


Rule = Callable[[Path], Iterator[str]]
RULES: Mapping[str, Rule] = {
    rule.__name__: rule
    for rule in (
        floor_faults,
        command_faults,
        circles,
        home_faults,
        start_faults,
        purity_faults,
        size_faults,
        name_faults,
    )
}


@pytest.mark.parametrize("rule", RULES)
def test_the_tree_obeys(rule: str) -> None:
    assert list(RULES[rule](ROOT)) == []


def test_the_walk_sees_the_tree() -> None:
    assert len(sources(ROOT)) > 40
    assert Path(__file__) in sources(ROOT, tests=True)
    found = {name.split(".")[0] for file in sources(ROOT) for _, name in imports(file, ROOT)}
    assert {framework for framework, homes in HOMES.items() if homes} <= found
    seen = {(own, room_of(name)) for _, own, name in arrows(ROOT)}
    assert {("core.engine", "core.tasks"), ("steps", "rules"), ("cluster", "core.engine"), ("rules", "config")} <= seen


def plant(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")


LATE = "def f():\n    "
TYPED = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "


@pytest.mark.parametrize(
    ("rule", "path", "text", "fault"),
    [
        (
            "floor_faults",
            "pipeline/core/engine/loop.py",
            "from pipeline.cluster.x import run",
            "core.engine imports pipeline.cluster.x.run",
        ),
        (
            "floor_faults",
            "pipeline/core/data/load.py",
            "from ...rules import gate",
            "core.data imports pipeline.rules.gate",
        ),
        (
            "floor_faults",
            "pipeline/cluster/x.py",
            "from pipeline.tracking import runs",
            "cluster imports pipeline.tracking.runs",
        ),
        (
            "floor_faults",
            "pipeline/cluster/x.py",
            f"{LATE}import pipeline.reports.words",
            "cluster imports pipeline.reports.words",
        ),
        (
            "floor_faults",
            "pipeline/rules/x.py",
            "from pipeline.steps import prepare",
            "rules imports pipeline.steps.prepare",
        ),
        (
            "floor_faults",
            "pipeline/rules/x.py",
            f"{TYPED}from pipeline.tracking.x import A",
            "rules imports pipeline.tracking.x.A",
        ),
        ("floor_faults", "pipeline/pyfunc.py", "import pipeline.rules.gate", "pyfunc imports pipeline.rules.gate"),
        ("floor_faults", "pipeline/config/x.py", "from pipeline import core", "config imports pipeline.core"),
        ("floor_faults", "pipeline/core/bank/x.py", "from pipeline import steps", "core.bank imports pipeline.steps"),
        ("floor_faults", "pipeline/newcomer/x.py", "", "is on no floor"),
        ("floor_faults", "pipeline/core/newcomer.py", "", "is on no floor"),
        ("command_faults", "pipeline/steps/x.py", "from jobs.sweep import main", "imports the command jobs.sweep.main"),
        ("command_faults", "jobs/schedule.py", f"{LATE}from jobs import submit", "imports the command jobs.submit"),
        ("command_faults", "jobs/schedule.py", "from . import submit", "imports the command jobs.submit"),
        ("home_faults", "pipeline/core/engine/loop.py", "import ray", "imports ray"),
        ("home_faults", "pipeline/reports/plots.py", "from mlflow.entities import Run", "imports mlflow.entities.Run"),
        ("home_faults", "pipeline/config/strict.py", f"{LATE}import hydra.utils", "imports hydra.utils"),
        ("home_faults", "jobs/submit.py", "from omegaconf import OmegaConf", "imports omegaconf.OmegaConf"),
        ("home_faults", "pipeline/core/data/load.py", f"{TYPED}import datasets", "imports datasets"),
        ("home_faults", "pipeline/core/adapters/insert.py", "import peft", "imports peft"),
        ("home_faults", "pipeline/core/tasks/metrics.py", "import sklearn.metrics", "whose home is the tests"),
        (
            "start_faults",
            "pipeline/core/tasks/x.py",
            "from transformers import AutoModel",
            "imports transformers.AutoModel before",
        ),
        (
            "start_faults",
            "jobs/status.py",
            f"{LATE}pass\nimport transformers.utils",
            ":3: imports transformers.utils before",
        ),
        ("purity_faults", "pipeline/rules/x.py", "import os.path", "imports os.path"),
        ("purity_faults", "pipeline/rules/x.py", f"{LATE}from subprocess import run", "imports subprocess.run"),
        ("purity_faults", "pipeline/rules/x.py", "from pipeline.files import new_folder", "imports pipeline.files"),
        ("purity_faults", "pipeline/rules/x.py", "from pipeline.core.engine.bundle import read_bundle", "read_bundle"),
        ("purity_faults", "pipeline/rules/x.py", "def f(path):\n    return open(path)", ":2: calls open"),
        ("purity_faults", "pipeline/rules/x.py", "def f(path):\n    return path.read_text()", ":2: calls read_text"),
        ("purity_faults", "pipeline/rules/x.py", "from pathlib import Path\nPath('x').mkdir()", ":2: calls mkdir"),
        ("size_faults", "pipeline/core/data/long.py", "x = 1\n" * 401, "has 401 lines, more than 400"),
        ("size_faults", "pipeline/core/engine/loop.py", "x = 1\n" * 251, "has 251 lines, more than 250"),
        ("size_faults", "jobs/sweep.py", "x = 1\n" * 61, "has 61 lines, more than 60"),
        ("name_faults", "jobs/helpers.py", "", "says nothing"),
        ("name_faults", "pipeline/misc/x.py", "", "says nothing"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, rule: str, path: str, text: str, fault: str) -> None:
    plant(tmp_path, {path: text})
    (found,) = RULES[rule](tmp_path)
    assert found.startswith(path) and fault in found


def test_a_planted_circle_of_three_rooms_is_found_at_each_of_its_imports(tmp_path: Path) -> None:
    files = {
        "pipeline/core/adapters/x.py": f"{LATE}from pipeline.core.methods import lora",
        "pipeline/core/methods/lora.py": f"{TYPED}from pipeline.core.tasks.task import Task",
        "pipeline/core/tasks/task.py": "import pipeline.core.adapters.x",
        "pipeline/core/engine/loop.py": "import pipeline.core.tasks.task",  # leads into it, and is not part of it
    }
    plant(tmp_path, files)
    found = list(circles(tmp_path))
    assert sorted(fault.partition(":")[0] for fault in found) == sorted(files)[:1] + sorted(files)[2:]
