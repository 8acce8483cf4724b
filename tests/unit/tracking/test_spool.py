import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.engine.events import TrialStarted
from pipeline.tracking.spool import Described, Filed, Record, Spool, Told, decode, encode


def texts(spool: Spool) -> list[str]:
    return [record.markdown for record in spool.first(100) if isinstance(record, Described)]


@pytest.mark.parametrize("which", ["started", "epoch", "end", "failed", "tested"])
def test_every_event_comes_back_equal(which: str, story: Any) -> None:
    event = {
        "started": TrialStarted(trial=story.trial()),
        "epoch": story.epoch(2),
        "end": story.end(),
        "failed": story.end(status="failed", bundle=None, best_primary=None),
        "tested": story.tested(),
    }[which]
    record = Told(event=event, at_ms=1_700_000_000_123)
    assert decode(encode(record)) == record


def test_numbers_that_are_none_and_those_of_numpy_come_back(story: Any) -> None:
    evaluated = dataclasses.replace(story.epoch(1).evaluated, metrics={"f1": np.float32(0.5)}, primary=math.inf)
    event = dataclasses.replace(story.epoch(1), evaluated=evaluated, losses=((1, math.nan, 1e-3),))
    found = decode(encode(Told(event=event, at_ms=1)))
    assert isinstance(found, Told)
    assert math.isnan(found.event.losses[0][1])  # type: ignore[union-attr]
    assert (found.event.evaluated.primary, found.event.evaluated.metrics) == (math.inf, {"f1": 0.5})  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "record",
    [
        Filed(job="ner/news", path="search.png", data=bytes(range(256))),
        Filed(job=None, path="leaderboard.json", data=b"{}", is_table=True),
        Described(job=None, markdown="| ä |\n"),
    ],
)
def test_every_artifact_comes_back_equal(record: Record) -> None:
    assert decode(encode(record)) == record


def test_records_come_out_in_the_order_in_which_they_were_put_in_and_stay_until_dropped(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    for number in range(12):
        spool.put(Described(job=None, markdown=str(number)))
    assert texts(spool) == [str(number) for number in range(12)]
    spool.drop(10)
    assert (texts(spool), len(spool)) == (["10", "11"], 2)


def test_what_a_killed_process_left_comes_before_what_is_new(tmp_path: Path) -> None:
    for word in ("first", "second"):
        Spool(tmp_path / "spool").put(Described(job=None, markdown=word))
    cut_off = tmp_path / "spool" / ".000000003.json.7"
    cut_off.write_text('{"kind": "desc')
    spool = Spool(tmp_path / "spool")
    assert not cut_off.exists()
    spool.put(Described(job=None, markdown="third"))
    assert texts(spool) == ["first", "second", "third"]


def test_a_record_that_is_cut_off_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(tmp_path / "spool")
    for word in ("whole", "cut", "last"):
        spool.put(Described(job=None, markdown=word))
    file = spool.folder / "000000002.json"
    file.write_text(file.read_text()[:12])
    assert texts(spool) == ["whole"]
    spool.drop(1)
    assert texts(spool) == ["last"]
    assert "000000002.json cannot be read" in caplog.text


def test_folder_is_gone_when_nothing_is_left(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.put(Described(job=None, markdown="text"))
    spool.close()
    assert (tmp_path / "spool").is_dir()
    spool.drop(1)
    spool.close()
    assert not (tmp_path / "spool").exists()
