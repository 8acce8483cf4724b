"""Evidence for the gate: a new version and the champion answer the same frozen rows, side by side."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from transformers import PreTrainedModel

from pipeline.config import GateConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint, open_checkpoint
from pipeline.core.bank.predictor import Predictor
from pipeline.core.data.ledger import Ledger, Slice, extended, read_ledger
from pipeline.core.data.rows import Row
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.tasks.task import Scores, Task
from pipeline.errors import PipelineError
from pipeline.rules.gate import Decision, Evidence, SliceEvidence, decide
from pipeline.rules.news import input_key
from pipeline.tracking.registry import Champion, Verdict


class Scorer:
    """Scores bundles on rows, by the task as it is now, on the checkpoint that is resident."""

    def __init__(self, checkpoint: Checkpoint, base: PreTrainedModel, task: Task) -> None:
        self._task = task
        self._predictors = {checkpoint.sha256: Predictor(checkpoint, base)}

    def __call__(self, bundle: Path, rows: Sequence[Row], answers: Mapping[str, Any] = MappingProxyType({})) -> Scores:
        """Answer the rows and compare.

        Args:
            bundle: What answers.
            rows: The rows.
            answers: What it is known to answer, by the digest of the row; it is asked unless all rows are there.
        """
        if all(row.digest in answers for row in rows):
            return self._task.score(rows, [answers[row.digest] for row in rows])
        record = read_bundle(bundle).record
        if record.checkpoint_sha256 not in self._predictors:  # a champion on another checkpoint
            self._predictors[record.checkpoint_sha256] = Predictor(open_checkpoint(record.checkpoint))
        return self._task.score(rows, self._predictors[record.checkpoint_sha256].answer(bundle, rows))

    def ledger_of(self, champion: Champion) -> Ledger:
        """Read what the champion has seen.

        Raises:
            PipelineError: The task is another one now, or the ledger cannot be read.
        """
        before, now = read_bundle(champion.bundle).record.task, self._task.config
        if changed := task_change(before, now):
            raise PipelineError("the task was {} and is {} now".format(*changed))
        return read_ledger(champion.ledger, now)


def task_change(before: TaskConfig, now: TaskConfig) -> tuple[str, str] | None:
    """Say what a task was and what it is now, where rows and answers of the two cannot be compared."""
    if (before.kind, set(before.columns)) == (now.kind, set(now.columns)):
        return None
    was, is_ = (f"{task.kind} of {', '.join(task.columns)}" for task in (before, now))
    return was, is_


@dataclass(kw_only=True)
class Judge:
    """Judges the winner of a job by the gate; `registry.Judge`."""

    scorer: Scorer
    gate: GateConfig
    period: str
    """Id of the sweep or pass."""
    bundle: Path
    """The winner's."""
    target: str
    """The field that is predicted."""
    trained: Sequence[Row]
    """Rows that were new to the winner's training."""
    chosen: Sequence[Row]
    """Rows that it was chosen by."""
    evaluation: Sequence[Row]
    """Rows of this period that nothing was trained on or chosen by."""
    follows: int | None = None
    """The champion that it goes on from, in a retraining: it has seen besides what that one has seen."""
    news: str = ""
    answers: Mapping[str, Any] = field(default_factory=dict)
    """What the winner has answered in its test, by the digest of the row: not asked again."""
    ledger: Ledger | None = None
    """What the new version has seen, when it was judged."""
    baselines: dict[str, float] = field(default_factory=dict)
    """Slice's name -> score of an answer that needs no model."""
    decision: Decision | None = None
    """What the gate said, when it was asked."""
    evidence: Evidence | None = None
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    """Slice's name -> champion and challenger -> score."""

    def __call__(self, champion: Champion | None, missing: str | None) -> Verdict:
        self.scores, self.baselines = {}, {}  # asked again, after an outage, beside another champion perhaps
        ledger = None
        gaps = [missing] if missing else []
        present = champion.version if champion is not None else None
        if self.follows not in (None, present):
            now = "there is no champion" if present is None else f"version {present} has become champion"
            gaps.append(f"it goes on from version {self.follows}, and {now} since")
        if champion is not None:
            try:
                ledger = self.scorer.ledger_of(champion)
            except PipelineError as error:
                gaps = [f"version {champion.version} could not be scored again: {error}"]
        self.evidence = self._evidence(champion, ledger, gaps)
        self.decision = decide(self.evidence, self.gate)
        self.ledger = self._ledger(ledger)
        return Verdict(
            alias="champion" if self.decision.promote else "challenger",
            reason=self.decision.reason if champion is None else f"{self.decision.reason} (beside v{champion.version})",
            ledger=self.ledger,
            news=self.news,
        )

    def _evidence(self, champion: Champion | None, ledger: Ledger | None, gaps: list[str]) -> Evidence:
        past: list[SliceEvidence] = []
        if champion is not None and ledger is not None:
            # Of the champion's too: a sweep may have trained it on rows of older slices.
            seen = (*self.trained, *self.chosen, *ledger.trained, *ledger.chosen)
            own = {input_key(row, self.target) for row in seen}
            for one in ledger.slices:
                rows = [row for row in one.rows if input_key(row, self.target) not in own]
                if rows:
                    past.append(self._side_by_side(one.name, rows, champion, gaps))
                else:
                    gaps.append(f"slice {one.name}: one of the two was trained on all of its rows")
        known = {one.digest for one in ledger.slices} if ledger else set()
        new = None
        if self.evaluation and Slice(name=self.period, rows=tuple(self.evaluation)).digest not in known:
            beside = champion if ledger is not None else None
            new = self._side_by_side(self.period, self.evaluation, beside, gaps)
        if gaps:  # nothing else counts, and what there is may have one side alone
            return Evidence(past=(), missing=gaps)
        return Evidence(past=past, new=new, first=champion is None)

    def _side_by_side(
        self, name: str, rows: Sequence[Row], champion: Champion | None, gaps: list[str]
    ) -> SliceEvidence:
        ours = self.scorer(self.bundle, rows, self.answers)
        self.scores[name] = {"challenger": ours.primary}
        self.baselines[name] = ours.baseline
        counts = None
        if champion is not None:
            try:
                theirs = self.scorer(champion.bundle, rows)
            except PipelineError as error:  # its checkpoint is gone, say
                gap = f"version {champion.version} could not be scored again: {error}"
                gaps += [gap] if gap not in gaps else []
            else:
                self.scores[name]["champion"] = theirs.primary
                counts = theirs.counts
        return SliceEvidence(name=name, champion=counts, challenger=ours.counts, statistic=ours.statistic)

    def _ledger(self, ledger: Ledger | None) -> Ledger:
        if ledger is not None and self.follows is None:
            ledger = dataclasses.replace(ledger, trained=(), chosen=())
        side: Mapping[str, dict[str, float]] = {
            who: {name: scores[who] for name, scores in self.scores.items() if who in scores}
            for who in ("champion", "challenger")
        }
        return extended(
            ledger,
            name=self.period,
            trained=self.trained,
            chosen=self.chosen,
            slice_rows=self.evaluation,
            scores=side["challenger"],
            before=side["champion"],
        )

    def check_records(self) -> list[dict[str, Any]]:
        """The gate's checks, as a table."""
        return [dataclasses.asdict(check) for check in self.decision.checks] if self.decision else []

    def row_records(self) -> list[dict[str, Any]]:
        """What both got on every row of every slice: the counts of the metric."""
        found = self.evidence
        slices = [*found.past, *([found.new] if found.new else [])] if found else []
        return [
            {
                "slice": one.name,
                "row": row,
                "champion": None if one.champion is None else one.champion[row].tolist(),
                "challenger": one.challenger[row].tolist(),
            }
            for one in slices
            for row in range(len(one.challenger))
        ]
