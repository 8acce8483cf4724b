"""Why a data set of the hub cannot be loaded: all that the library says, and what helps."""

from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError

from pipeline.config import DataConfig, HubConfig, TaskConfig
from pipeline.core.data.hub import open_dataset
from pipeline.errors import DataError, Fault


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def task(id_: str, **values: Any) -> TaskConfig:
    return TaskConfig(name="mood", kind="classification", hub={"films": HubConfig(id=id_, **values)})


def refused(config: TaskConfig) -> Fault:
    with pytest.raises(DataError) as caught:
        open_dataset(config, "films")
    (fault,) = caught.value.faults
    return fault


@pytest.mark.parametrize("config", [None, "c"])
def test_a_configuration_that_is_not_named_or_not_there_lists_those_that_are(
    tmp_path: Path, config: str | None
) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / f"{name}.csv").parent.mkdir(exist_ok=True)
        (tmp_path / "set" / f"{name}.csv").write_text("text,label\nx,y\n")
    configs = "".join(f"- config_name: {name}\n  data_files: {name}.csv\n" for name in ("a", "b"))
    (tmp_path / "set" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    fault = refused(task(str(tmp_path / "set"), config=config))
    assert "['a', 'b']" in fault.rule
    assert fault.remedy == "Set task.mood.hub.films.config to one of those"


@pytest.mark.parametrize(
    ("error", "rule", "remedy"),
    [
        (
            RuntimeError("Dataset scripts are no longer supported, but found x.py"),
            "but found x.py",
            "Set task.mood.hub.films.revision=refs/convert/parquet",
        ),
        (
            DatasetNotFoundError(
                "Dataset 'a/b' is a gated dataset on the Hub. You must be authenticated to access it."
            ),
            "You must be authenticated",
            "set HF_TOKEN to a token of that account",
        ),
        (
            DatasetNotFoundError("Revision 'v9' doesn't exist for dataset 'a/b' on the Hub."),
            "Revision 'v9'",
            "Set task.mood.hub.films.revision to a branch, tag or commit that is there",
        ),
        (
            ConnectionError("https://hub does not answer (timed\nout)"),
            "https://hub does not answer (timed out)",
            "Check the network, a proxy and HF_ENDPOINT",
        ),
        (ValueError("first line\nsecond line"), "first line second line", "Check the network and the full id"),
    ],
)
def test_the_whole_reason_is_told_with_a_remedy_of_its_own(
    monkeypatch: pytest.MonkeyPatch, error: Exception, rule: str, remedy: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    fault = refused(task("a/b"))
    assert rule in fault.rule
    assert remedy in fault.remedy


def test_what_an_error_comes_from_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        try:
            raise KeyError("column of that file")
        except KeyError as cause:
            raise ValueError("An error occurred while generating the dataset") from cause

    monkeypatch.setattr(datasets, "load_dataset", fail)
    assert "while generating the dataset ('column of that file')" in refused(task("a/b")).rule


def test_columns_of_a_command_and_tags_of_another_scheme_are_those_of_the_hub_too(tmp_path: Path) -> None:
    rows = [{"words": ["a", "b"], "ner": ["S-X", "O"]}]
    (tmp_path / "set").mkdir()
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "set" / "train.parquet")
    config = TaskConfig(
        name="ner", kind="tagging", hub={"d": HubConfig(id=str(tmp_path / "set"), columns={"tokens": "words"})}
    )
    source = open_dataset(config, "d", DataConfig(source="hub", columns={"tags": "ner"}))
    ((row,),) = (list(split.rows) for split in source.splits.values())
    assert not isinstance(row, Fault) and row.fields["tags"] == ["B-X", "O"]
    assert source.notes == (f"{tmp_path}/set: IOBES tags, written as BIO.",)
