"""A winner is judged and registered: the store is asked before and after, and what is scored is scored once."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config import GateConfig, TaskConfig
from pipeline.core.data.ledger import Ledger
from pipeline.core.data.rows import Row
from pipeline.core.engine.bundle import Bundle, read_bundle
from pipeline.core.tasks.scores import Scores
from pipeline.errors import PipelineError, TrackingError
from pipeline.rules.judge import Case, Opponent
from pipeline.rules.versions import Champion, Files
from pipeline.steps.verdict import in_one_precision, opponent_of, settle_winner
from pipeline.tracking.lookup import fetch
from pipeline.tracking.recorder import SweepFacts
from pipeline.tracking.registry import champion_of
from pipeline.tracking.store import Store
from tests.unit.tracking.conftest import TASK, Story, enrol, recording, verdict


@dataclasses.dataclass
class Scoring:
    """Everybody says `good` to everything, and it is noted who was asked, and about how many rows."""

    story: Story
    asked: list[tuple[str, int]] = dataclasses.field(default_factory=list)

    def __call__(self, bundle: Bundle, rows: Sequence[Row], answers: Mapping[str, Any]) -> Scores:
        self.asked.append((bundle.folder.name, len(rows)))
        return self.story.job.task.score(rows, [{"label": "good"} for _ in rows])


@dataclasses.dataclass
class Away:
    """A client whose server is away for the first requests of a name."""

    client: Any
    name: str
    times: int

    def __getattr__(self, name: str) -> Any:
        if name == self.name and self.times:
            self.times -= 1
            raise ConnectionError("connection refused")
        return getattr(self.client, name)


def case_of(story: Story, score: Any, sweep: str = "two") -> Case:
    """The winner of a sweep over the job, whose test rows nobody has seen."""
    data = story.job.dataset
    return Case(
        score=score,
        gate=GateConfig(min_rows=1),
        period=sweep,
        bundle=read_bundle(story.bundle()),
        trained=data.train.rows,
        chosen=data.validation.rows,
        evaluation=data.test.rows,
    )


def test_nothing_is_scored_again_though_the_store_is_away_while_a_winner_is_registered(
    store: Store, facts: SweepFacts, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tracking.outage.FIRST_DELAY_S", 0.01)
    enrol(store, "one", story.tested(), verdict("champion", ledger=Ledger(trained=())))
    scoring = Scoring(story)
    with recording(store, facts) as recorder:
        away = dataclasses.replace(store, client=Away(store.client, "create_model_version", 3))
        registered, judgement = settle_winner(
            case_of(story, scoring), story.job, story.tested(), away, recorder, facts.checkpoint
        )
    assert away.client.times == 0
    assert scoring.asked == [("0", 2), ("bundle", 2)]
    assert (registered.version, registered.alias) == (2, judgement.verdict.alias)
    assert store.client.get_model_version("sentiment", "2").tags["replaces"] == "1"


def test_what_the_scorer_cannot_read_is_not_blamed_on_the_tracking_store(
    store: Store, facts: SweepFacts, story: Story
) -> None:
    def score(*_: object) -> Scores:
        raise OSError(28, "No space left on device")

    with recording(store, facts) as recorder, pytest.raises(OSError, match="No space left on device"):
        settle_winner(case_of(story, score), story.job, story.tested(), store, recorder, facts.checkpoint)
    assert store.client.search_model_versions("name = 'sentiment'") == []


def test_a_champion_that_has_lost_its_files_is_no_reason_to_promote(
    store: Store, facts: SweepFacts, story: Story
) -> None:
    enrol(store, "one", story.tested(), verdict("champion"))
    folder = fetch(store, "sentiment")
    folder.rename(folder.with_name("elsewhere"))
    with recording(store, facts) as recorder:
        registered, _ = settle_winner(
            case_of(story, Scoring(story)), story.job, story.tested(), store, recorder, facts.checkpoint
        )
    assert registered.alias == "challenger"
    assert "version 1 could not be scored again: sentiment version 1: there is no bundle" in registered.reason
    aliases = store.client.get_registered_model("sentiment").aliases
    assert {name: int(number) for name, number in aliases.items()} == {"champion": 1, "challenger": 2}


@pytest.mark.parametrize(
    "task",
    [
        TaskConfig(name="mood", kind="tagging"),
        TaskConfig(name="mood", kind="classification", columns={"text_pair": "context"}),
    ],
)
def test_a_champion_of_another_kind_or_with_other_fields_is_not_compared_with(story: Story, task: TaskConfig) -> None:
    files = Files(bundle=story.bundle(), ledger=Path("nowhere"))
    read = opponent_of(Champion(version=3, test=0.5, found=files), task).read
    wrong = f"the task was classification of text, label and is {task.kind} of {', '.join(task.field_names)} now"
    assert isinstance(read, PipelineError)
    assert str(read) == wrong


def test_a_champion_that_was_scored_otherwise_is_not_compared_with(story: Story) -> None:
    files = Files(bundle=story.bundle(), ledger=Path("nowhere"))
    champion = Champion(version=3, test=0.5, found=files)
    metric = "macro_f1" if TASK.primary == "accuracy" else "accuracy"
    read = opponent_of(champion, dataclasses.replace(TASK, metric=metric)).read
    assert str(read) == f"the task was scored by {TASK.primary} and is scored by {metric} now"
    read = opponent_of(champion, dataclasses.replace(TASK, labels=["fine", "poor"])).read
    assert str(read).startswith("the task was to answer with ")


def test_a_champion_without_a_ledger_is_not_compared_with(story: Story, tmp_path: Path) -> None:
    files = Files(bundle=story.bundle(), ledger=tmp_path / "nowhere")
    read = opponent_of(Champion(version=3, test=0.5, found=files), TASK).read
    assert isinstance(read, PipelineError)
    assert "has no ledger of what it has seen" in str(read)


def test_a_champion_is_read_with_what_it_has_seen(store: Store, story: Story) -> None:
    seen = Ledger(trained=story.job.dataset.train.rows)
    enrol(store, "one", story.tested(), verdict("champion", ledger=seen))
    champion = champion_of(store, "sentiment")
    assert champion is not None
    opponent = opponent_of(champion, TASK)
    assert opponent.version == 1 and not isinstance(opponent.read, PipelineError)
    bundle, ledger = opponent.read
    assert bundle.record == read_bundle(story.bundle()).record
    assert [row.fields for row in ledger.trained] == [row.fields for row in seen.trained]
    lost = dataclasses.replace(champion, found=TrackingError("its files are gone"))
    assert opponent_of(lost, TASK).read == lost.found


@pytest.mark.parametrize(
    ("winner", "champion", "has_it", "scored", "is_known"),
    [
        ("bfloat16", "bfloat16", True, ["bfloat16", "bfloat16"], True),
        ("float32", "float32", True, ["float32", "float32"], True),
        ("bfloat16", "bfloat16", False, ["float32", "float32"], False),  # trained elsewhere
        ("bfloat16", "float32", True, ["float32", "float32"], False),
        ("float32", "bfloat16", True, ["float32", "float32"], True),
        ("bfloat16", "auto", True, ["float32", "float32"], False),  # a champion of before
    ],
)
def test_both_sides_are_scored_in_one_precision(
    story: Story,
    winner: Any,
    champion: Any,
    has_it: bool,
    scored: list[str],
    is_known: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_it})
    plain = case_of(story, Scoring(story))
    known = {row.digest: {"label": "good"} for row in plain.evaluation}
    case = dataclasses.replace(plain, bundle=plain.bundle.answering_in(winner), answers=known)
    opponent = Opponent(version=1, read=(plain.bundle.answering_in(champion), Ledger(trained=())))
    ours, theirs = in_one_precision(case, opponent)
    assert theirs is not None and not isinstance(theirs.read, PipelineError)
    assert [one.record.engine.precision for one in (ours.bundle, theirs.read[0])] == scored
    assert ours.answers == (known if is_known else {})


def test_there_is_one_precision_where_nobody_is_beaten(story: Story) -> None:
    case = case_of(story, Scoring(story))
    lost = Opponent(version=1, read=PipelineError("its checkpoint is gone"))
    assert in_one_precision(case, None) == (case, None)
    assert in_one_precision(case, lost) == (case, lost)
