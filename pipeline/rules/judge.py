"""Evidence for the gate: a new version and the champion answer the same frozen rows, side by side. Pure.

What answers is handed in, and the champion as it was read, or what stands in the way of reading it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import GateConfig
from pipeline.core.data.ledger import Ledger, Slice, extended
from pipeline.core.data.rows import Row
from pipeline.core.engine.bundle import Bundle
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.scores import Scores
from pipeline.errors import PipelineError
from pipeline.rules.evidence import Evidence, SliceEvidence
from pipeline.rules.gate import Decision, decide
from pipeline.rules.versions import Verdict

Score = Callable[[Bundle, Sequence[Row], Mapping[str, Any]], Scores]
"""(what answers, rows, answers that are known by the digest of the row) -> scores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opponent:
    """The champion beside which a winner is judged."""

    version: int
    read: tuple[Bundle, Ledger] | PipelineError
    """What answers for it and what it has seen; or why that cannot be compared with."""

    def gap(self, error: PipelineError) -> str:
        """Say that it could not be scored."""
        return f"version {self.version} could not be scored again: {error}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """The winner of a job, and what it is judged by."""

    score: Score
    gate: GateConfig
    confidence: float | None = None
    """Of what has to be shown, where it is one of several attempts; None: the gate's own."""
    period: str
    """Id of the sweep or pass."""
    bundle: Bundle
    """The winner's."""
    trained: Sequence[Row]
    """Rows that were new to the winner's training."""
    chosen: Sequence[Row]
    """Rows that it was chosen by."""
    replaced: Sequence[Row] = ()
    """Rows of the champion's, in a retraining, that new ones are edits of."""
    evaluation: Sequence[Row]
    """Rows of this period that nothing was trained on or chosen by."""
    used: frozenset[str] = frozenset()
    """Keys of rows that other versions of the name were trained on or chosen by."""
    follows: int | None = None
    """The champion that it goes on from, in a retraining: it has seen besides what that one has seen."""
    news: str = ""
    """Names the new rows that it was trained for."""
    attempt: str = ""
    """Name of the attempt that it is, in a retraining."""
    answers: Mapping[str, Any] = field(default_factory=dict)
    """What the winner has answered in its test, by the digest of the row: not asked again."""


Compared = tuple[str, Scores, Scores | None]
"""Slice's name, and what challenger and champion got on it; None: no champion, or one that could not be scored."""


_MOST_COUNTS = 12
"""Counts of a row that are recorded one by one."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judgement:
    """What the gate saw and said."""

    verdict: Verdict
    decision: Decision
    evidence: Evidence
    compared: Sequence[Compared]

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Slice's name -> champion and challenger -> score, as the gate compares them."""
        found = {name: {"challenger": ours.primary} for name, ours, _ in self.compared}
        for name, _, theirs in self.compared:
            if theirs is not None:
                found[name]["champion"] = theirs.primary
        return found

    @property
    def baselines(self) -> dict[str, float]:
        """Slice's name -> score of an answer that needs no model."""
        return {name: ours.baseline for name, ours, _ in self.compared}

    def check_records(self) -> list[dict[str, Any]]:
        """The gate's checks, as a table."""
        return [dataclasses.asdict(check) for check in self.decision.checks]

    def row_records(self) -> list[dict[str, Any]]:
        """What both got on every row of every slice: the counts of the metric."""
        new = self.evidence.new
        return [
            {
                "slice": one.name,
                "row": row,
                "champion": None if one.champion is None else _few(one.champion[row].tolist()),
                "challenger": _few(one.challenger[row].tolist()),
            }
            for one in [*self.evidence.past, *([new] if new else [])]
            for row in range(len(one.challenger))
        ]


def _few(counts: list[float]) -> list[float] | dict[str, float]:
    """The counts of a row; of many, such as three a label, those that are not 0 by their places: a row has few."""
    return counts if len(counts) <= _MOST_COUNTS else {str(i): one for i, one in enumerate(counts) if one}


def judge(case: Case, champion: Opponent | None) -> Judgement:
    """Compare a winner with the champion, if there is one, and let the gate decide.

    Whatever stops the two from being compared as a whole is told to the gate, which then promotes nothing.
    """
    gaps = []
    present = champion.version if champion is not None else None
    if case.follows not in (None, present):
        now = "there is no champion" if present is None else f"version {present} has become champion"
        gaps.append(f"it goes on from version {case.follows}, and {now} since")
    ledger, past, new = None, [], None
    grown: tuple[str, ...] = ()
    if champion is not None:
        if isinstance(champion.read, PipelineError):
            gaps = [champion.gap(champion.read)]
        else:
            theirs, ledger = champion.read
            grown = _grown(case, theirs, ledger)
            past = _past(case, champion, ledger, gaps)
    # A sweep may have other splits than versions before it, and one of them was trained on rows that are test rows now.
    used = case.used | (ledger.seen_keys if ledger is not None else set())
    case = dataclasses.replace(case, evaluation=[row for row in case.evaluation if row.key not in used])
    known = {one.digest for one in ledger.slices} if ledger is not None else set()
    if case.evaluation and Slice(name=case.period, rows=tuple(case.evaluation)).digest not in known:
        new = _side_by_side(case, case.period, case.evaluation, champion, gaps)
    if gaps:  # nothing else counts, and what there is may have one side alone
        evidence = Evidence(past=(), missing=gaps)
    else:
        parts = [_evidence(*one) for one in past]
        evidence = Evidence(past=parts, new=_evidence(*new) if new else None, grown=grown, first=champion is None)
    decision = decide(evidence, case.gate, case.confidence)
    compared = [*past, *([new] if new else [])]
    verdict = Verdict(
        alias="champion" if decision.promote else "challenger",
        reason=decision.reason if present is None else f"{decision.reason} (beside v{present})",
        ledger=_ledger(case, ledger, compared),
        news=case.news,
        attempt=case.attempt,
        harder=decision.may_train_harder,
    )
    return Judgement(verdict=verdict, decision=decision, evidence=evidence, compared=compared)


def _past(case: Case, champion: Opponent, ledger: Ledger, gaps: list[str]) -> list[Compared]:
    # Of the champion's too: a sweep may have trained it on rows of older slices.
    seen = (*case.trained, *case.chosen, *ledger.seen)
    own = {row.key for row in seen}
    past = []
    for one in ledger.slices:
        rows = [row for row in one.rows if row.key not in own]
        if rows:
            past.append(_side_by_side(case, one.name, rows, champion, gaps))
        else:
            gaps.append(f"slice {one.name}: one of the two was trained on all of its rows")
    return past


def _side_by_side(case: Case, name: str, rows: Sequence[Row], champion: Opponent | None, gaps: list[str]) -> Compared:
    ours, theirs = case.score(case.bundle, rows, case.answers).on_own_labels(), None
    if champion is not None and not isinstance(champion.read, PipelineError):
        try:
            theirs = case.score(champion.read[0], rows, {}).on_own_labels()
        except PipelineError as error:  # its checkpoint is gone, say
            gap = champion.gap(error)
            gaps += [gap] if gap not in gaps else []
    return name, ours, theirs


def _evidence(name: str, ours: Scores, theirs: Scores | None) -> SliceEvidence:
    there = {} if theirs is None else theirs.found
    return SliceEvidence(
        name=name,
        champion=None if theirs is None else theirs.counts,
        challenger=ours.counts,
        statistic=ours.statistic,
        labels=ours.labels,
        found={label: (there[label], one) for label, one in ours.found.items() if label in there},
    )


def _grown(case: Case, champion: Bundle, ledger: Ledger) -> tuple[str, ...]:
    """The labels that the winner has and the champion lacks, or has an output for and was never taught; one that is
    listed and of which there is no row does not make a task harder."""
    now, before = (restore(one.record.task, one.record.labels) for one in (case.bundle, champion))
    taught = now.labels_in(ledger.taught) if ledger.taught else set(before.names())
    new = [label for label in now.names() if label not in before.names() or label not in taught]
    carried = now.labels_in([*case.trained, *case.chosen, *case.evaluation]) if new else set()
    return tuple(label for label in new if label in carried)


def _ledger(case: Case, ledger: Ledger | None, compared: Sequence[Compared]) -> Ledger:
    ledger = ledger or Ledger(trained=())
    if case.follows is None:
        ledger = dataclasses.replace(ledger, trained=(), chosen=(), former=(), used=frozenset(ledger.seen_keys))
    ledger = dataclasses.replace(ledger, used=ledger.used | case.used)
    return extended(
        ledger,
        name=case.period,
        trained=case.trained,
        chosen=case.chosen,
        slice_rows=case.evaluation,
        scores={name: ours.primary for name, ours, _ in compared},
        before={name: theirs.primary for name, _, theirs in compared if theirs is not None},
        replaced=case.replaced,
    )
