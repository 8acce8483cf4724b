"""A folder of parquet files that stands in for a data set on the hub."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
from datasets import Features, Value
from omegaconf import OmegaConf

from pipeline.config import DataConfig, TaskConfig
from pipeline.config.strict import build
from pipeline.core.data.load import load
from pipeline.core.data.rows import Dataset
from pipeline.core.tasks.kinds import restore

CONF = Path(__file__).parents[4] / "conf" / "task"
TEXT = Value("string")


class StandIn:
    """A task of `conf/task/` whose hub id is a folder laid out like a data set on the hub."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, features: Mapping[str, Any], **splits: list[dict[str, Any]]) -> None:
        (self.folder / "data").mkdir(parents=True)
        for name, rows in splits.items():
            part = datasets.Dataset.from_list(rows, features=Features(features))
            part.to_parquet(self.folder / "data" / f"{name}-00000-of-00001.parquet")

    def task(self, name: str, domain: str, **changes: Any) -> TaskConfig:
        values: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
        task = build(TaskConfig, {**values, "name": name}, f"task.{name}")
        # A local folder has neither configurations nor revisions; the columns are what is under test.
        local = {"id": str(self.folder), "config": None}
        config = dataclasses.replace(task.hub[domain], **(local | changes))
        return dataclasses.replace(task, hub={domain: config})

    def load(self, name: str, domain: str, **changes: Any) -> Dataset:
        task = self.task(name, domain, **changes)
        return load(task, domain, DataConfig(source="hub"), kind=restore(task))
