"""A new version meets the champion on the champion's slices, by the task's metric of today."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.config import CheckpointConfig, EngineConfig, GateConfig, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint, Resident
from pipeline.core.bank.predictor import Predictor, Scorer
from pipeline.core.data.ledger import Entry, Ledger, Slice
from pipeline.core.data.rows import Row, make_row
from pipeline.core.engine.assemble import fresh_model, release
from pipeline.core.engine.bundle import Bundle, read_bundle
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.metrics import accuracy, macro_f1
from pipeline.errors import DataError, Fault, PipelineError, TrackingError
from pipeline.rules import judge as judges
from pipeline.rules.judge import Case, Judgement, Opponent, judge
from tests import bundles

TASK = TaskConfig(name="mood", kind="classification")
METHOD = MethodConfig(name="pfeiffer", width=4)
GATE = GateConfig(margin=0.1, min_rows=40, resamples=200)


def row(text: str, label: str) -> Row:
    made = next(make_row({"text": text, "label": label}, TASK, "here"))
    assert isinstance(made, Row)
    return made


def rows(name: str, good: int, bad: int = 0) -> tuple[Row, ...]:
    labels = ["good"] * good + ["bad"] * bad
    return tuple(row(f"{name} film {number}", label) for number, label in enumerate(labels))


OLD, CHOSEN, PAST, NEW = rows("old", 3, 1), rows("chosen", 2), rows("past", 45, 15), rows("new", 32, 8)
LEDGER = Ledger(
    trained=OLD,
    chosen=CHOSEN,
    slices=(Slice(name="may", rows=PAST),),
    history=(Entry(name="may", scores={"may": 0.75}),),
)


@dataclass
class Court:
    """A checkpoint, and bundles on it: `new` and `old` of random weights, `good` and `bad` that say nothing else."""

    folder: Path
    resident: Resident

    def scorer(self, task: TaskConfig = TASK) -> Scorer:
        return Scorer(self.resident, restore(task, ["bad", "good"]))

    def bundle(self, name: str) -> Bundle:
        return read_bundle(self.folder / name)

    def champion(self, bundle: str, ledger: Ledger = LEDGER) -> Opponent:
        return Opponent(version=3, read=(self.bundle(bundle), ledger))

    def judge(self, bundle: str, champion: Opponent | None, /, **changes: Any) -> Judgement:
        values: dict[str, Any] = {
            "score": self.scorer(),
            "gate": GATE,
            "period": "june",
            "bundle": self.bundle(bundle),
            "trained": [row("fresh film", "good")],
            "chosen": [row("fresh song", "bad")],
            "evaluation": NEW,
            "follows": 3,
        }
        return judge(Case(**{**values, **changes}), champion)


@pytest.fixture
def court(tiny_bert: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]], tmp_path: Path) -> Court:
    base, tokenizer = tiny_bert()
    for part in (base, tokenizer):
        part.save_pretrained(tmp_path / "tiny")
    source = CheckpointConfig(name="tiny", source="path", location=str(tmp_path / "tiny"))
    checkpoint = Checkpoint(
        config=source, folder=tmp_path / "tiny", sha256="a" * 64, architecture=base.config, has_lm_head=False
    )
    away = dataclasses.replace(
        checkpoint, sha256="b" * 64, config=dataclasses.replace(source, location=str(tmp_path / "away"))
    )
    for seed, name in enumerate(("new", "old", "bad", "good", "away")):
        task, engine = restore(TASK, ["bad", "good"]), EngineConfig()
        model = fresh_model(base, checkpoint, task, METHOD, engine, seed)
        if name in ("bad", "good"):
            with torch.no_grad():
                weight, bias = model.head.parameters()
                weight.zero_()
                bias.copy_(torch.tensor([name == "bad", name == "good"]))
        bundles.write(
            tmp_path / name,
            model,
            checkpoint=away if name == "away" else checkpoint,
            task=TASK,
            labels=task.labels,
            method=METHOD,
            seed=seed,
        )
        release(model, METHOD)
    return Court(tmp_path, Resident(checkpoint=checkpoint, tokenizer=tokenizer, base=base))


def fields(some: Sequence[Row]) -> list[Any]:
    return [dict(one.fields) for one in some]


@pytest.mark.parametrize(("metric", "function"), [("accuracy", accuracy), ("macro_f1", macro_f1)])
def test_both_are_scored_by_the_metric_of_the_task_as_it_is_now(
    court: Court, metric: str, function: Callable[[list[str], list[str]], float]
) -> None:
    scorer = court.scorer(dataclasses.replace(TASK, metric=metric))
    judged = court.judge("new", court.champion("old"), score=scorer)
    predictor = Predictor(court.resident)
    for name, some in (("may", PAST), ("june", NEW)):
        gold = [one.fields["label"] for one in some]
        for side, bundle in (("challenger", "new"), ("champion", "old")):
            answers = predictor.predict(court.bundle(bundle), [one.fields["text"] for one in some])
            assert judged.scores[name][side] == function(gold, [answer["label"] for answer in answers])


def test_a_macro_f1_on_a_slice_is_that_of_labels_which_its_rows_have(court: Court) -> None:
    good = [one for one in NEW if one.fields["label"] == "good"]
    said = ["bad", *["good"] * (len(good) - 1)]
    answers = {one.digest: {"label": label} for one, label in zip(good, said, strict=True)}
    scorer = court.scorer(dataclasses.replace(TASK, metric="macro_f1"))
    judged = court.judge("new", court.champion("good"), score=scorer, evaluation=good, answers=answers)
    alone = f1_score(["good"] * len(good), said, labels=["good"], average="macro")
    assert judged.scores["june"] == {"challenger": pytest.approx(alone), "champion": 1.0}
    ledger = judged.verdict.ledger
    assert ledger is not None and ledger.history[-1].scores["june"] == pytest.approx(alone)


def test_a_label_that_is_listed_and_has_no_row_is_no_growth(court: Court) -> None:
    """Else a task file with one label more than its rows would let the past lose what growth may cost."""
    scorer, good, labels = court.scorer(), court.bundle("good"), ["bad", "good", "fair"]
    record = dataclasses.replace(good.record, task=dataclasses.replace(TASK, labels=labels), labels=labels)
    wider = dataclasses.replace(good, record=record)

    def grown(champion: Opponent | None = None, **changes: Any) -> Sequence[str]:
        judged = court.judge(
            "good",
            champion or court.champion("old"),
            bundle=wider,
            score=lambda bundle, some, answers: scorer(good, some, {}),
            **changes,
        )
        return judged.evidence.grown

    assert grown() == ()
    assert grown(trained=[row("fresh film", "fair")]) == ("fair",)
    # So it is where the champion has an output for it, and was taught none of its rows.
    for ledger, expected in ((LEDGER, ("fair",)), (dataclasses.replace(LEDGER, former=(row("so", "fair"),)), ())):
        champion = Opponent(version=3, read=(wider, ledger))
        assert grown(champion) == ()
        assert grown(champion, trained=[row("fresh film", "fair")]) == expected


def test_the_first_version_is_champion(court: Court) -> None:
    judged = court.judge("bad", None, follows=None)
    verdict = judged.verdict
    assert [verdict.alias, verdict.reason] == [
        "champion",
        "the first champion: 0.200 on 40 rows, and nothing to compare",
    ]
    assert [judged.scores, judged.baselines] == [{"june": {"challenger": 0.2}}, {"june": 0.8}]
    assert verdict.ledger.slices == (Slice(name="june", rows=NEW),)
    assert verdict.ledger.history == (Entry(name="june", scores={"june": 0.2}),)
    assert fields(verdict.ledger.trained) == [{"text": "fresh film", "label": "good"}]
    assert fields(verdict.ledger.chosen) == [{"text": "fresh song", "label": "bad"}]


def test_beside_a_champion_that_cannot_be_read_it_is_a_challenger_for_that_reason(court: Court) -> None:
    verdict = court.judge("good", Opponent(version=3, read=TrackingError("its files are gone"))).verdict
    assert verdict.alias == "challenger"
    assert verdict.reason.startswith("version 3 could not be scored again: its files are gone")
    assert verdict.ledger.slices == (Slice(name="june", rows=NEW),)


def test_a_challenger_that_is_worse_is_rejected_with_the_gates_reason(court: Court) -> None:
    judged = court.judge("bad", court.champion("good"), news="0123")
    verdict = judged.verdict
    assert not judged.decision.promote
    assert verdict.alias == "challenger"
    assert verdict.reason == f"{judged.decision.reason} (beside v3)"
    assert verdict.reason.startswith("slice may: worse by 50 points")
    assert verdict.news == "0123"
    assert judged.scores == {
        "may": {"challenger": 0.25, "champion": 0.75},
        "june": {"challenger": 0.2, "champion": 0.8},
    }


def test_a_challenger_that_is_better_takes_the_champions_place(court: Court) -> None:
    judged = court.judge("good", court.champion("bad"))
    verdict = judged.verdict
    assert verdict.alias == "champion"
    assert verdict.reason.startswith("slice of the past: better by 50 points")
    assert {check["name"]: check["passed"] for check in judged.check_records()} == {
        name: True for name in ("slice may", "past", "new", "learnt")
    }


def test_what_both_got_on_every_row_is_told(court: Court) -> None:
    records = court.judge("bad", court.champion("good")).row_records()
    assert [(one["slice"], one["row"]) for one in records] == [
        *(("may", number) for number in range(60)),
        *(("june", number) for number in range(40)),
    ]
    for one, of in zip(records, (*PAST, *NEW), strict=True):
        is_good = of.fields["label"] == "good"
        assert one["champion"] != one["challenger"]
        assert one["champion" if is_good else "challenger"] == records[0]["champion"]


def test_beside_a_champion_of_another_task_it_is_a_challenger(court: Court) -> None:
    changed = "the task was classification of text, label and is tagging of tokens, tags now"
    verdict = court.judge("good", Opponent(version=3, read=PipelineError(changed)), evaluation=()).verdict
    assert verdict.alias == "challenger"
    assert verdict.reason.startswith(f"version 3 could not be scored again: {changed}")
    assert verdict.reason.endswith(" (beside v3)")


def test_beside_a_champion_without_a_ledger_it_is_a_challenger(court: Court) -> None:
    fault = Fault(where="nowhere", value="", rule="has no ledger of what it has seen", remedy="Register anew")
    verdict = court.judge("good", Opponent(version=3, read=DataError(fault))).verdict
    assert verdict.alias == "challenger"
    assert verdict.reason.startswith("version 3 could not be scored again: ")
    assert "has no ledger of what it has seen" in verdict.reason
    assert verdict.ledger.slices == (Slice(name="june", rows=NEW),)


def test_beside_a_champion_whose_checkpoint_is_gone_it_is_a_challenger(court: Court) -> None:
    verdict = court.judge("good", court.champion("away")).verdict
    assert verdict.alias == "challenger"
    assert verdict.reason.startswith("version 3 could not be scored again: ")
    assert str(court.folder / "away") in verdict.reason
    assert [one.name for one in verdict.ledger.slices] == ["may", "june"]


def test_rows_that_the_challenger_was_trained_on_are_left_out_of_the_past(court: Court) -> None:
    trained, chosen = row(PAST[0].fields["text"].upper(), "bad"), row(f" {PAST[1].fields['text']}", "good")
    judged = court.judge("good", court.champion("bad"), trained=[trained], chosen=[chosen])
    assert [len(one.challenger) for one in judged.evidence.past] == [58]
    assert judged.scores["may"] == {"challenger": 43 / 58, "champion": 15 / 58}
    assert len(judged.verdict.ledger.slices[0].rows) == 60


def test_a_slice_that_the_challenger_was_trained_on_as_a_whole_stops_it(court: Court) -> None:
    verdict = court.judge("good", court.champion("bad"), trained=PAST).verdict
    assert verdict.alias == "challenger"
    assert verdict.reason.startswith("slice may: one of the two was trained on all of its rows")


def test_what_the_winner_answered_in_its_test_is_not_asked_again(court: Court) -> None:
    tested = {one.digest: {"label": "good"} for one in NEW}
    judged = court.judge("bad", court.champion("good"), answers=tested)
    assert judged.scores == {
        "may": {"challenger": 0.25, "champion": 0.75},
        "june": {"challenger": 0.8, "champion": 0.8},
    }
    del tested[NEW[0].digest]
    judged = court.judge("bad", court.champion("good"), answers=tested)
    assert judged.scores["june"] == {"challenger": 0.2, "champion": 0.8}


@pytest.mark.parametrize("bundle", ["good", "bad"])
def test_the_ledger_has_slices_and_history_whatever_the_verdict(court: Court, bundle: str) -> None:
    ledger = court.judge(bundle, court.champion("good" if bundle == "bad" else "bad")).verdict.ledger
    scores = {"may": 0.75, "june": 0.8}, {"may": 0.25, "june": 0.2}
    ours, theirs = scores if bundle == "good" else scores[::-1]
    assert [(one.name, fields(one.rows)) for one in ledger.slices] == [("may", fields(PAST)), ("june", fields(NEW))]
    assert ledger.history == (
        Entry(name="may", scores={"may": 0.75, "june": theirs["june"]}),  # what it had once stays
        Entry(name="june", scores=ours),
    )
    assert len(ledger.added) == 2 + len(NEW)


def test_evaluation_rows_that_are_a_slice_already_are_no_new_one(court: Court) -> None:
    judged = court.judge("good", court.champion("bad"), evaluation=PAST[::-1])
    verdict = judged.verdict
    assert judged.evidence.new is None
    assert verdict.alias == "champion"
    assert [one.name for one in verdict.ledger.slices] == ["may"]
    assert verdict.ledger.history[-1] == Entry(name="june", scores={"may": 0.75})


def test_a_row_that_a_registered_version_was_trained_on_is_no_evaluation_row(court: Court) -> None:
    # A sweep of other splits: the champion, or a rejected version, was trained on rows that are test rows now.
    own, other = row("OLD film 0", "bad"), row("rejected film", "good")
    used = frozenset({other.key})
    ledger = dataclasses.replace(LEDGER, former=(row("edited film", "good"),), used=frozenset({"0" * 16}))
    evaluation = [own, *NEW, other, row("chosen  film 1", "good"), row("edited film", "bad")]
    judged = court.judge("good", court.champion("bad", ledger), evaluation=evaluation, used=used, follows=None)
    assert judged.evidence.new is not None
    assert len(judged.evidence.new.challenger) == len(NEW)
    found = judged.verdict.ledger
    assert fields(found.slices[-1].rows) == fields(NEW)
    assert found.used == {"0" * 16, other.key, *(one.key for one in (*OLD, *CHOSEN)), row("edited film", "").key}
    assert court.judge("good", None, evaluation=[other], used=used, follows=None).verdict.ledger.slices == ()


def test_what_other_versions_were_trained_on_stays_known_in_a_retraining(court: Court) -> None:
    ledger = dataclasses.replace(LEDGER, used=frozenset({"0" * 16}))
    found = court.judge("good", court.champion("bad", ledger), used=frozenset({"1" * 16})).verdict.ledger
    assert found.used == {"0" * 16, "1" * 16}
    assert found.former == ledger.former


def test_a_version_whose_champion_was_replaced_meanwhile_is_stopped(court: Court) -> None:
    verdict = court.judge("good", court.champion("bad"), follows=2).verdict
    assert verdict.alias == "challenger"
    assert verdict.reason == "it goes on from version 2, and version 3 has become champion since (beside v3)"
    gone = court.judge("good", None, follows=2).verdict
    assert (gone.alias, gone.reason) == ("challenger", "it goes on from version 2, and there is no champion since")


def test_a_version_that_goes_on_has_seen_what_the_champion_has(court: Court) -> None:
    ledger = court.judge("good", court.champion("bad"), follows=3).verdict.ledger
    assert fields(ledger.trained) == [*fields(OLD), {"text": "fresh film", "label": "good"}]
    assert fields(ledger.chosen) == [*fields(CHOSEN), {"text": "fresh song", "label": "bad"}]


def test_a_version_that_begins_anew_has_seen_its_own_rows_alone(court: Court) -> None:
    ledger = court.judge("good", court.champion("bad"), follows=None).verdict.ledger
    assert fields(ledger.trained) == [{"text": "fresh film", "label": "good"}]
    assert fields(ledger.chosen) == [{"text": "fresh song", "label": "bad"}]
    assert [one.name for one in ledger.slices] == ["may", "june"]


def test_of_many_counts_of_a_row_those_that_are_not_zero_are_recorded() -> None:
    """With 400 labels a table of 1,000 rows had 43 MB."""
    assert judges._few([0.0, 1.0]) == [0.0, 1.0]
    assert judges._few([0.0] * 700 + [1.0] + [0.0] * 499) == {"700": 1.0}
