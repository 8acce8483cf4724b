"""Every YAML file below conf/ is composed as a command would, typed, and counted."""

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

import pipeline.config.overrides
from pipeline.config import SweepConfig
from pipeline.config.commands import COMMANDS
from pipeline.config.overrides import compose_values
from pipeline.config.strict import build
from pipeline.errors import ConfigError, Fault
from tests.conftest import compose_quickly

CONF = pipeline.config.overrides.CONF
REQUIRED: Mapping[str, Mapping[str, str]] = {"convert": {"source": "here", "target": "there"}}
"""What a command cannot do without."""


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of conf/ that the commands read."""
    folder = tmp_path / "conf"
    shutil.copytree(CONF, folder)
    monkeypatch.setattr(pipeline.config.overrides, "CONF", folder)
    return folder


def read_all(conf: Path) -> list[Path]:
    """Compose every file, one of each group at a time; return those that were composed."""
    files = files_of(conf)
    groups: dict[str, list[Path]] = {}
    for file in files:
        if file.parent == conf:
            read(file, conf)
        elif file.parent.name != "task":  # all of them are in every composition
            groups.setdefault(file.parent.name, []).append(file)
    for chosen in zip_longest(*groups.values()):
        options = [file for file in chosen if file is not None]
        values = compose("sweep", *(f"{file.parent.name}={file.stem}" for file in options))
        for file in options:
            assert_holds(values[file.parent.name], file)
    for file in files:
        if file.parent.name == "task":
            assert_holds(values["task"][file.stem], file)
    return files


def files_of(conf: Path) -> list[Path]:
    """Every file that holds settings: all YAML but the templates for Kubernetes."""
    return [file for file in (*conf.glob("*.yaml"), *conf.glob("*/*.yaml")) if file.parent.name != "kubernetes"]


def on_disk_of(conf: Path) -> list[Path]:
    """What there is besides those templates and the image's file."""
    files = (path for path in conf.rglob("*") if path.is_file() and "kubernetes" not in path.parts)
    return [path for path in files if not path.name.startswith("Dockerfile")]


def read(file: Path, conf: Path) -> None:
    """Compose one file as the command does that it is of; one that takes no effect, or has no type, is an error."""
    group, option = file.parent.name, file.stem
    if file.parent == conf:
        compose(option)
    elif group == "task":
        assert_holds(compose("sweep")["task"][option], file)
    else:
        assert_holds(compose("sweep", f"{group}={option}")[group], file)


def compose(command: str, *arguments: str) -> dict[str, Any]:
    """Compose and type a command's config; return it as plain containers."""
    faults: list[Fault] = []
    values = compose_values(command, list(arguments), faults)
    if faults:
        raise ConfigError(faults)
    build(COMMANDS[command].config, {**values, **REQUIRED.get(command, {})})
    return values


def repeated(values: Mapping[str, Any], cls: Any) -> Iterator[str]:
    """The keys of a file whose value is the dataclass's own default."""
    for field in dataclasses.fields(cls):
        value = values.get(field.name)
        if isinstance(value, dict) and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
            yield from repeated(value, type(default)) if dataclasses.is_dataclass(default) else ()
        elif field.name in values and field.name != "name" and value == field.default:
            yield field.name


def typed(file: Path) -> Any:
    """The dataclass that a file below conf/ has values for."""
    if file.parent.name == "conf":
        return COMMANDS[file.stem].config
    hint = get_type_hints(SweepConfig)[file.parent.name]
    return get_args(hint)[1] if get_args(hint) else hint


def assert_holds(values: Mapping[str, Any], file: Path) -> None:
    """What stands in the file is what the command gets; the search space is flattened on the way."""
    for key, value in yaml.safe_load(file.read_text("utf-8")).items():
        if key not in ("defaults", "space"):
            assert values[key] == value, f"{file}: {key} had no effect"


def test_every_yaml_file_is_composed_typed_and_counted() -> None:
    composed = read_all(CONF)
    on_disk = on_disk_of(CONF)
    assert len(composed) == len(set(composed)) == len(on_disk)
    assert len(composed) > 20


def test_no_file_repeats_a_default_of_the_dataclasses() -> None:
    for file in files_of(CONF):
        assert list(repeated(yaml.safe_load(file.read_text("utf-8")), typed(file))) == [], file


def test_a_planted_default_is_found(planted: Path) -> None:
    text = "data:\n  max_train_rows: 5\nsearch:\n  trials: 6\nseeds: 3\n"
    assert list(repeated(yaml.safe_load(text), typed(planted / "compare.yaml"))) == ["trials", "seeds"]


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        ("method/typo.yaml", "name: houlsby\nwidht: 24\n", "method.widht: is no config key. Did you mean width"),
        ("method/new.yaml", "name: houlsbee\n", "method.name: 'houlsbee' must be one of houlsby, pfeiffer, parallel"),
        ("engine/odd.yaml", "epochs: many\n", "engine.epochs: 'many' must be a whole number"),
        (
            "search/odd.yaml",
            "space: {engine: {learning_rate: {uniform: [2, 1]}}}\n",
            "search.space.engine.learning_rate",
        ),
        ("checkpoint/bare.yaml", "name: bare\n", "checkpoint.source: is missing"),
        ("task/odd.yaml", "kind: clasification\n", "task.odd.kind: 'clasification' must be one of"),
        ("task/odd.yaml", "kind: tagging\nmetric: accuracy\n", "task.odd.metric: 'accuracy' is no metric of tagging"),
        ("task/odd.yaml", "labels: [a, b]\n", "odd.yaml: is no task: it has no `kind`"),
        ("task/broken.yaml", "kind: [tagging\n", "broken.yaml: cannot be read"),
        ("data/broken.yaml", "source: {a\n", "cannot be read"),
    ],
)
def test_a_planted_bad_yaml_file_is_found(planted: Path, path: str, text: str, fault: str) -> None:
    (planted / path).parent.mkdir(exist_ok=True)
    (planted / path).write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        read(planted / path, planted)
    assert fault in str(caught.value)


def test_a_folder_of_own_tasks_may_have_any_name(tmp_path: Path) -> None:
    own = tmp_path / "my tasks, (été) #1 ~ 'x'"
    own.mkdir()
    (own / "triage.yaml").write_text("kind: classification\n", "utf-8")
    assert "triage" in compose("sweep", f'conf="{own}"')["task"]


def test_a_planted_command_without_a_type_is_found(planted: Path) -> None:
    (planted / "mystery.yaml").write_text("seed: 0\n", "utf-8")
    with pytest.raises(KeyError, match="mystery"):
        read(planted / "mystery.yaml", planted)


def test_a_planted_file_that_has_no_effect_is_found(planted: Path) -> None:
    (planted / "sweep.yaml").write_text(
        (planted / "sweep.yaml").read_text("utf-8") + "  - _self_\nmethod: {width: 3}\n"
    )
    with pytest.raises(AssertionError, match="width had no effect"):
        read(planted / "method" / "houlsby.yaml", planted)


def test_a_planted_file_that_no_command_reads_is_counted(planted: Path) -> None:
    (planted / "task" / "forgotten.yml").write_text("kind: tagging\n", "utf-8")
    on_disk = on_disk_of(planted)
    found = files_of(planted)
    assert len(found) == len(on_disk) - 1


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sweep", ["tasks=[ner]", "method=lora", "++engine.epochs=3", "search=grid", "task.ner.labels=[no,1]"]),
        ("sweep", ["tasks=[ner]", "checkpoint=bert_base", "++search.space.engine.learning_rate={choice: [1e-4]}"]),
        ("compare", ["methods=[lora,probe]", "++tracking.uri=sqlite:///m.db"]),
        ("predict", ["job=ner", "alias=challenger"]),
    ],
)
def test_what_the_other_tests_compose_quickly_is_what_hydra_composes(command: str, words: list[str]) -> None:
    whole = compose(command, *words)
    with pytest.MonkeyPatch.context() as quick:
        compose_quickly(quick)
        assert [compose(command, *words) for _ in range(2)] == [whole, whole]
