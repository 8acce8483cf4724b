"""How fair pruning is: `python -m tests.bench.search FOLDER [hours=1] [seeds=0,1] [tasks=a,b] [data=<dir>] ...`.

Of each task and seed all candidates of the default search are trained to their end, once; FOLDER keeps their curves,
and a later call goes on. Then searches are played with these curves by the pipeline's own race: without pruning, with
the rule of before (rungs at epochs 1, 2, 4 ..., ties by number), with today's from several first rungs, and ASHA, which
here decides in the order of one trial after another. Regret is how many points of validation score the best of all
candidates, trained out, is above the one that the search ends with. Tasks whose candidates are not all trained when
the hours are over are left out, and named. No test row is read. Further words are settings, as behind `make`.
"""

import dataclasses
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline.config import ClusterConfig, SearchConfig
from pipeline.core.engine.events import EpochSaved, Evaluated, Finished, JobTested, SessionEvent, SweepEvent, TrialEnded
from pipeline.core.engine.trials import Job, Trial
from pipeline.rules.search import proposer_of
from pipeline.steps import here
from tests.bench.curves import Curve, Curves, asked, best_of, jobs_of, line
from tests.played import in_turn

STARTER = ("sentiment/films", "ner/news", "medqa/basics")
BROUGHT = ("ner/social", "question_type", "intent/banking")
PRESET = ("data.max_train_rows=300",)


class Played:
    """A trial whose epochs are those of a curve."""

    def __init__(self, curve: Curve) -> None:
        self._curve = curve

    def events(self, start: int = 0) -> Iterator[SessionEvent]:
        best, known = (-math.inf, -math.inf), []
        for number, epoch in enumerate(self._curve, start=1):
            now = (epoch["primary"], -epoch["loss"])
            known.append(
                Evaluated(
                    epoch=number,
                    step=number,
                    primary=epoch["primary"],
                    metrics={},
                    best=now > best,
                    loss=epoch["loss"],
                    train_loss=0.0,
                    train_s=0.0,
                    eval_s=0.0,
                    rows_per_s=0.0,
                    peak_bytes=0,
                )
            )
            best = max(best, now)
        for evaluated in known[start:]:
            yield EpochSaved(evaluated=evaluated, losses=(), bundle=Path(f"bundle-{evaluated.epoch}"), went_on=False)
        yield Finished(epochs=len(known), best_epoch=1, best_primary=best[0], reason="all epochs done")

    def close(self) -> None:
        pass


class PlayedBench:
    """Gives each trial its curve, and notes whose test was asked for."""

    def __init__(self, curves: Sequence[Curve]) -> None:
        self.curves = curves

    def session(self, job: Job, trial: Trial, folder: Path) -> Played:
        return Played(self.curves[trial.index])

    together = staticmethod(in_turn)

    def test(self, job: Job, trial: Trial, bundle: Path) -> JobTested:
        values = {"validation": 0.0, "primary": 0.0, "low": 0.0, "high": 0.0, "baseline": 0.0}
        return JobTested(
            trial=trial, bundle=bundle, scores={}, predictions=(), num_truncated=0, num_trained=0, **values
        )

    def close(self) -> None:
        pass


def play(job: Job, search: SearchConfig, curves: Sequence[Curve]) -> tuple[float, int]:
    """Search with these curves; return the score that the winner has, and how many epochs were trained."""
    told: list[SweepEvent] = []
    cluster = ClusterConfig(name="here", cpus_per_trial=1)
    with tempfile.TemporaryDirectory(prefix="played-") as folder:
        here.run_on(
            lambda: PlayedBench(curves), [job], search=search, cluster=cluster, folder=Path(folder), sink=told.append
        )
    (winner,) = (event.trial.index for event in told if isinstance(event, JobTested))
    ended = {event.trial.index: event for event in told if isinstance(event, TrialEnded)}
    score = ended[winner].best_primary
    assert score is not None
    return score, sum(event.epochs for event in ended.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How a search ends trials before their last epoch."""

    search: SearchConfig
    knows_losses: bool = True
    """Whether ties are decided by them."""
    patience: int = 0
    """As `engine.patience`; 0: none."""

    def seen(self, curve: Curve) -> Curve:
        """As much of a curve as there is by this rule."""
        known = curve if self.knows_losses else [{**epoch, "loss": math.inf} for epoch in curve]
        best, since = (-math.inf, -math.inf), 0
        for number, epoch in enumerate(known, start=1):
            now = (epoch["primary"], -epoch["loss"])
            best, since = (now, 0) if now > best else (best, since + 1)
            if self.patience and since > self.patience:
                return known[:number]
        return known


def rules_of(search: SearchConfig, epochs: int) -> dict[str, Rule]:
    """Name of a rule -> the rule."""

    def rule(scheduler: str, share: float = 0.2, reduction: int = 2, **others: Any) -> Rule:
        of: Any = {"scheduler": scheduler, "first_rung": share, "reduction": reduction}
        return Rule(search=dataclasses.replace(search, **of), **others)

    before = rule("halving", 1 / epochs if epochs > 1 else 0.5, knows_losses=False)
    found = {"none": rule("none"), "halving of before: epochs 1, 2, 4, ties by number": before}
    for reduction, shares in ((2, (0.2, 0.3, 0.4, 0.5, 0.6)), (3, (0.2, 0.3)), (6, (0.2,))):
        for share in shares:
            found[f"halving, first_rung={share}, reduction={reduction}"] = rule("halving", share, reduction)
    for share, reduction in ((0.2, 2), (0.2, 3), (0.4, 2)):
        found[f"asha, first_rung={share}, reduction={reduction}"] = rule("asha", share, reduction)
    for patience in (1, 2):
        found[f"none, patience={patience}"] = rule("none", patience=patience)
    found["halving, first_rung=0.2, reduction=3, patience=1"] = rule("halving", reduction=3, patience=1)
    return found


def main(words: Sequence[str]) -> None:
    """Train what is not known yet, play, and print the table."""
    given = asked(words, STARTER, BROUGHT)
    kept = Curves(given.folder, given.hours)
    rows: dict[str, dict[str, tuple[float, float]]] = {}
    left_out, shown = [], []
    jobs = jobs_of(given, STARTER, PRESET)
    for seed in given.seeds:
        for prepared, config, of_job in jobs:
            job = dataclasses.replace(of_job, seed=seed)
            candidates = proposer_of(config.search, job.name, seed).propose() or []
            curves = [kept.of(prepared, job, params) for params in candidates]
            found = [curve for curve in curves if curve is not None]
            if len(found) < len(curves):
                left_out.append(f"{job.name} seed {seed} ({len(found)} of {len(curves)} candidates trained)")
                continue
            best, whole = max(map(best_of, found)), sum(map(len, found))
            shown.append(f"{job.name} seed {seed}")
            for name, rule in rules_of(config.search, config.engine.epochs).items():
                score, epochs = play(job, rule.search, [rule.seen(curve) for curve in found])
                rows.setdefault(name, {})[shown[-1]] = (100 * (best - score), epochs / whole)
    print(line(["rule", *shown, "mean regret", "worst", "epochs trained"]))
    print(line(["---", *["---:"] * (len(shown) + 3)]))
    for name, by_task in rows.items():
        regrets = [regret for regret, _ in by_task.values()]
        share = fmean(share for _, share in by_task.values())
        cells = [*(f"{regret:.1f}" for regret in regrets), f"{fmean(regrets):.2f}", f"{max(regrets):.1f}"]
        print(line([name, *cells, f"{100 * share:.0f} %"]))
    if left_out:
        print(f"\nLeft out, as time was up: {', '.join(left_out)}")


if __name__ == "__main__":
    main(sys.argv[1:])
