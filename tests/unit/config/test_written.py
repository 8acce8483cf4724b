import logging
from pathlib import Path

import pytest

from pipeline.config import SweepConfig
from pipeline.config.commands import COMMANDS
from pipeline.config.overrides import conf_files, read_command, read_config
from pipeline.errors import ConfigError


def config(*arguments: str) -> SweepConfig:
    return read_config("sweep", SweepConfig, ["tasks=[sentiment]", *arguments])


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
def test_labels_of_a_task_are_read_as_they_are_written(tmp_path: Path, suffix: str) -> None:
    text = "kind: classification\nlabels: [yes, No, on, 1, 1.0, 0x10, null, ~, 'off', 2020-01-01, 1e3]\n"
    (tmp_path / f"mine.{suffix}").write_text(text, "utf-8")
    labels = config(f"conf={tmp_path}").task["mine"].labels
    assert labels == ["yes", "No", "on", "1", "1.0", "0x10", "null", "~", "off", "2020-01-01", "1e3"]


def test_labels_one_a_line_and_none_at_all_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: tagging\nlabels:\n  - no\n  - NO\n", "utf-8")
    (tmp_path / "b.yaml").write_text("kind: tagging\nlabels: null\n", "utf-8")
    tasks = config(f"conf={tmp_path}").task
    assert (tasks["a"].labels, tasks["b"].labels) == (["no", "NO"], None)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("[-]", ["-"]),
        ("[-, ?,null , no,1.0,#n/a]", ["-", "?", "null", "no", "1.0", "#n/a"]),
        ("['', \"a,b\", 'it''s']", None),
        ("['', \"a,b\"]", ["", "a,b"]),
        ("[]", []),
    ],
)
def test_labels_on_a_command_line_are_read_as_they_are_typed(given: str, read: list[str] | None) -> None:
    if read is None:
        with pytest.raises(ConfigError, match="is no override"):
            config(f"data.no_label={given}")
        return
    assert config(f"data.no_label={given}").data.no_label == read
    if len(read) > 1:
        assert config(f"task.sentiment.labels={given}").task["sentiment"].labels == read


COMPOSE = "services:\n  db:\n    image: postgres\n"
MANIFEST = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n"
OTHERS = {
    "docker-compose.yaml": COMPOSE,
    "triage.yml": "name: triage\non: [push]\n",
    "service.yaml": MANIFEST,
    "several.yaml": f"{MANIFEST}---\n{MANIFEST}",
    "values.yaml": "{{- if .Values.x }}\n",
    "empty.yml": "",
    "list.yaml": "- kind\n",
}


def test_yaml_that_is_no_task_is_left_alone_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, text in OTHERS.items():
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "mood.yml").write_text("kind: classification\n", "utf-8")
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "wide.yaml").write_text("name: houlsby\n", "utf-8")
    with caplog.at_level(logging.WARNING):
        tasks = config(f"conf={tmp_path}").task
    assert "mood" in tasks and not {"docker-compose", "triage", "service"} & set(tasks)
    assert sorted(caplog.messages) == [
        f"{tmp_path}/{name} is left alone: it is no task, which has a `kind` of task" for name in sorted(OTHERS)
    ]
    assert [file.name for file in conf_files(tmp_path)] == ["mood.yml", "wide.yaml"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("mood.yaml", "kind: [classification\n", r"mood\.yaml: cannot be read .*Mend the YAML"),
        ("mood.yml", "kind: clasification\n", r"'clasification' must be one of"),
        ("task/mood.yml", "labels: [a]\n", r"mood\.yml: is no task: it has no `kind`"),
        ("mood.yaml", "kind: classification\nname: ner\n", r"mood\.yaml: name: 'ner' is not the file's name"),
    ],
)
def test_what_seems_to_be_a_task_is_told_when_it_is_none(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=message):
        config(f"conf={tmp_path}")


def test_one_task_in_two_files_of_a_folder_is_a_fault_and_another_suffix_of_an_option_is_told(tmp_path: Path) -> None:
    for suffix in ("yaml", "yml"):
        (tmp_path / f"mood.{suffix}").write_text("kind: classification\n", "utf-8")
    with pytest.raises(ConfigError, match=r"mood\.yml: is the same task as mood\.yaml beside it"):
        config(f"conf={tmp_path}")
    (tmp_path / "mood.yml").unlink()
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "wide.yml").write_text("name: houlsby\n", "utf-8")
    with pytest.raises(ConfigError, match=r"Rename .*/method/wide\.yml to wide\.yaml"):
        config(f"conf={tmp_path}", "method=wide")


SERVER = "http://lab:5000"
TRACKED = [name for name, command in COMMANDS.items() if "tracking" in command.config.__dataclass_fields__]
GIVEN = {
    "convert": ["source=a", "target=b"],
    "predict": ["job=ner"],
    "promote": ["job=ner", "version=1"],
    "evaluate": ["job=ner"],
    "rollback": ["job=ner"],
}


@pytest.mark.parametrize("name", TRACKED)
def test_mlflows_own_variable_is_the_default_of_tracking_uri(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = GIVEN.get(name, [])
    (before,) = read_command(name, given)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    (by_environment,), (by_hand,) = (
        read_command(name, words) for words in (given, [*given, "tracking.uri=sqlite:///m.db"])
    )
    assert (before.tracking.uri, by_environment.tracking.uri) == ("sqlite:///mlflow.db", SERVER)
    assert by_hand.tracking.uri == "sqlite:///m.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert read_command(name, given)[0].tracking.uri == "sqlite:///mlflow.db"


def test_a_store_that_the_variable_names_and_that_cannot_be_used_is_told_with_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///srv/mlruns")
    with pytest.raises(ConfigError, match=r"'file:///srv/mlruns' must be .*\(it is MLFLOW_TRACKING_URI's\)"):
        config()


@pytest.mark.parametrize(("name", "given"), [("sweep", "method=x"), ("compare", "methods=[x]")])
def test_a_file_of_a_group_that_ends_in_yml_is_told_and_to_be_renamed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, given: str
) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "x.yml").write_text("name: houlsby\n", "utf-8")
    with pytest.raises(ConfigError, match=r"Rename .*method/x\.yml to x\.yaml"):
        read_config(name, COMMANDS[name].config, ["tasks=[ner]", f"conf={tmp_path}", given])
    assert "method/x.yml is not read: rename it to x.yaml" in caplog.text
