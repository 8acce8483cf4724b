"""The code of docs/extending.md, taken out of the page and run: what the recipes add still fits what there is."""

import json
import re
import statistics
import textwrap
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from pipeline.config import FIELDS, METRICS, EngineConfig, MethodConfig, SearchConfig, TaskConfig
from pipeline.config.search import Range
from pipeline.core.adapters.checkpoint import fingerprint
from pipeline.core.data.rows import Row, make_row
from pipeline.core.engine.events import TrialPaused
from pipeline.core.engine.trials import Settings, Trial
from pipeline.rules import halving, search
from tests.families import make
from tests.rules.test_floors import ROOT, start_faults

PAGE = ROOT / "docs" / "extending.md"
FENCED = re.findall(r"^ *```(\w*)\n(.*?)^ *```", PAGE.read_text("utf-8"), re.S | re.M)
BLOCKS = [textwrap.dedent(text) for language, text in FENCED if not language]


def run(marker: str, **names: Any) -> dict[str, Any]:
    """Run the one block that holds `marker`, with `names` as what its file has already."""
    (block,) = [one for one in BLOCKS if marker in one]
    exec(compile(block, marker, "exec"), names)
    return names


def test_the_kind_checks_rows_and_scores_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    name: Any = "ordinal"
    monkeypatch.setitem(cast(dict[Any, Any], FIELDS), name, {"text": str, "text_pair": str, "label": str})
    monkeypatch.setitem(cast(dict[Any, Any], METRICS), name, ("accuracy",))
    kind = run("class Ordinal")["Ordinal"]
    config = TaskConfig(name="review", kind=name, labels=["poor", "fair", "good"])
    values = [{"text": "w1", "label": "good"}, {"text": "w2", "label": "poor"}, {"text": "w3", "label": " "}]
    *rows, empty = [row for one in values for row in make_row(one, config, "train.jsonl:1") if isinstance(row, Row)]
    assert [(one.where, one.rule) for one in kind.target_faults(empty)] == [("train.jsonl:1", "has an empty label")]
    assert [*kind.input_faults(rows[0]), *kind.target_faults(rows[0])] == []
    task = kind.from_rows(config, rows)
    assert task.labels == ("poor", "fair", "good") and task.head(8, 0.0).linear.out_features == 2
    said = task.answers(rows, None, [np.array([3.0, 1.0]), np.array([0.5, -2.0])])
    assert said == [{"label": "good"}, {"label": "fair"}]
    scores = task.score(rows, said)
    assert (scores.primary, scores.baseline, scores.counts.shape) == (0.5, 0.5, (2, 2))


def test_the_method_trains_norms_and_leaves_the_base_as_it_was() -> None:
    method, base = run("def attach"), make("bert")
    before = fingerprint(base.state_dict())
    model = method["attach"](base, MethodConfig(name="layernorm", layers="top-1"), 0)  # type: ignore[arg-type]
    assert len(method["state"](model)) == 4
    for tensor in method["state"](model).values():
        tensor.add_(1)
    assert fingerprint(base.state_dict()) != before
    method["undo"](model)
    assert (fingerprint(base.state_dict()), method["state"](base)) == (before, {})


def test_the_searcher_covers_the_space_by_its_seed() -> None:
    space = {"engine.learning_rate": Range(log_uniform=[1e-4, 1e-2]), "method.width": Range(choice=[8, 16])}
    config = SearchConfig(trials=6, space=space)
    halton = run("class Halton", **vars(search))["Halton"]
    first, again, other = (halton(config, seed).propose() for seed in (0, 0, 1))
    assert first == again != other
    assert len({one["engine.learning_rate"] for one in first}) == 6
    assert {one["method.width"] for one in first} == {8, 16}


def test_the_pruning_rule_stops_what_is_below_the_median() -> None:
    rule = run("class Median", **{**vars(halving), "statistics": statistics})["Median"](first_rung=0.2)
    reached = [halving.Standing(epoch=1, share=0.25, score=score) for score in (0.5, 0.7, 0.9, 0.4, 0.8)]
    actions = [rule.report(trial, standing).action for trial, standing in enumerate(reached)]
    assert actions == ["continue", "continue", "continue", "stop", "continue"]
    assert rule.leave(0, reached[0]).action == "stop"


def test_the_sink_writes_a_line_for_each_event(tmp_path: Path) -> None:
    settings = Settings(method=MethodConfig(name="probe"), engine=EngineConfig())
    trial = Trial(job="ner/news", index=3, params={}, settings=settings, seed=0)
    run("class EventLines")["EventLines"](tmp_path)(TrialPaused(trial=trial))
    (line,) = (tmp_path / "events.jsonl").read_text("utf-8").splitlines()
    record = json.loads(line)
    assert (record["event"], record["trial"]["index"]) == ("TrialPaused", 3)


def test_the_sink_is_added_to_those_that_listen_today() -> None:
    """A recipe that shows the line without one of them would take it out."""
    (line,) = (one.strip() for one in BLOCKS if ", EventLines(folder)]" in one)
    assert line.replace(", EventLines(folder)]", "]") in (ROOT / "pipeline" / "steps" / "train.py").read_text("utf-8")


def test_whole_files_of_the_recipes_load_nothing_slow_before_a_function_needs_it(tmp_path: Path) -> None:
    folder = tmp_path / "pipeline" / "core"
    folder.mkdir(parents=True)
    files = [one for one in BLOCKS if one.startswith('"""')]
    assert len(files) >= 3
    for number, text in enumerate(files):
        (folder / f"recipe{number}.py").write_text(text, "utf-8")
    assert list(start_faults(tmp_path)) == []
