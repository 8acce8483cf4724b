"""What a challenger is trained with."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config import (
    ChallengerConfig,
    CheckpointConfig,
    EngineConfig,
    GateConfig,
    MethodConfig,
    Range,
    RetrainConfig,
    TaskConfig,
)
from pipeline.config.overrides import read_config
from pipeline.config.training import MethodName
from pipeline.core.data.ledger import Ledger, Slice, write_ledger
from pipeline.core.data.load import load
from pipeline.core.data.rows import Dataset, Row, Split, make_row
from pipeline.core.data.splits import fingerprint
from pipeline.core.engine.bundle import BundleRecord
from pipeline.core.engine.trials import Job
from pipeline.core.tasks.kinds import restore
from pipeline.errors import ConfigError, DataError, TrackingError
from pipeline.rules.ladder import Work, attempts
from pipeline.rules.news import News, news
from pipeline.rules.versions import Files, Past
from pipeline.steps.survey import (
    challenger_job,
    check_champion,
    check_start,
    data_of,
    judged_before,
    kept_by,
    leak_reason,
    pass_of,
    work_of,
)
from tests.conftest import TinyBert

COLD = BundleRecord(
    job="mood/default",
    task=TaskConfig(name="mood", kind="classification"),
    labels=["good", "bad"],
    method=MethodConfig(name="houlsby"),
    engine=EngineConfig(learning_rate=0.002),
    checkpoint=CheckpointConfig(name="any", source="path", location="any"),
    checkpoint_sha256="0" * 64,
    seed=0,
    epoch=1,
    validation={},
    data={},
    num_trained=1,
    num_checkpoint=1,
)


def test_a_champion_keeps_the_cut_that_it_was_made_with(tmp_path: Path) -> None:
    (tmp_path / "mood").mkdir()
    rows = [{"text": f"text {one}", "label": "good", "doc": one % 50} for one in range(300)]
    (tmp_path / "mood" / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), "utf-8")
    config = read_config("retrain", RetrainConfig, ["tasks=[ner]", f"data.source={tmp_path}"])
    now = dataclasses.replace(COLD.task, group="doc")
    alone, grouped = (load(task, "default", config.data, kind=restore(task)) for task in (COLD.task, now))
    assert alone.fingerprints != grouped.fingerprints
    before = dataclasses.replace(COLD, task=now, cut=1)
    for champion, cut in ((COLD, alone), (before, alone), (dataclasses.replace(before, cut=2), grouped)):
        assert data_of(config, now, "default", champion, Ledger(trained=())).fingerprints == cut.fingerprints


def test_rows_that_a_champion_was_trained_on_stay_in_train_when_its_labels_get_more(tmp_path: Path) -> None:
    """A label's only row stays in train; a pass does not take it from there, whatever rows of its label are new."""
    file = tmp_path / "mood" / "train.jsonl"
    file.parent.mkdir()
    rows = [{"text": f"text {one}", "label": "good"} for one in range(300)]
    config = read_config("retrain", RetrainConfig, ["tasks=[ner]", f"data.source={tmp_path}"])
    champion = dataclasses.replace(COLD, cut=3)

    def read(more: list[dict[str, str]], ledger: Ledger) -> Dataset:
        file.write_text("".join(json.dumps(one) + "\n" for one in [*rows, *more]), "utf-8")
        return data_of(config, COLD.task, "default", champion, ledger)

    lowest = min(({"text": f"odd {one}", "label": "odd"} for one in range(200)), key=lambda one: rows_of(one)[0].digest)
    before = read([lowest], Ledger(trained=()))
    assert [row.fields["label"] for row in before.train.rows].count("odd") == 1
    ledger = Ledger(trained=before.train.rows, chosen=before.validation.rows)
    later = read([lowest, *({"text": f"odd {one}", "label": "odd"} for one in range(200, 240))], ledger)
    assert rows_of(lowest)[0].digest in {row.digest for row in later.train.rows}
    found = news(dataclasses.replace(ledger, slices=(Slice(name="one", rows=before.test.rows),)), later)
    assert (found.seen, len(found.train) + len(found.validation) + len(found.evaluation)) == (0, 40)


OLD = [
    {"text": f"the {word} film {number}", "label": label}
    for label, word in (("good", "fine"), ("bad", "dull"))
    for number in range(20)
]


def rows_of(*values: dict[str, str]) -> tuple[Row, ...]:
    return tuple(row for one in values for row in make_row(one, COLD.task, "here:1") if isinstance(row, Row))


def news_of(*values: dict[str, str]) -> tuple[News, Dataset]:
    """What a pass finds in these rows, of each split the same number."""
    parts = {name: rows_of(*values[start::3]) for start, name in enumerate(("train", "validation", "test"))}
    splits: Any = {name: Split(name, rows, fingerprint(rows), None) for name, rows in parts.items()}
    data = Dataset("mood", "default", "somewhere", **splits, overlap={}, notes=())
    return news(Ledger(trained=rows_of(*OLD)), data), data


@pytest.fixture(scope="module")
def plain() -> RetrainConfig:
    """What a user has who sets nothing."""
    return read_config("retrain", RetrainConfig, ["tasks=[ner]"])


def challenger(tiny_bert: TinyBert, config: RetrainConfig, champion: BundleRecord, month: str) -> tuple[Job, int]:
    config = dataclasses.replace(config, challenger=dataclasses.replace(config.challenger, start="cold", replay=0.2))
    found, data = news_of(*({"text": f"a {month} film {n}", "label": ("good", "bad")[n % 2]} for n in range(12)))
    here: Any = SimpleNamespace(
        name="mood/default",
        registered_name="mood",
        bundle=SimpleNamespace(record=champion),
        ledger=Ledger(trained=rows_of(*OLD)),
        news=found,
        fresh=frozenset(),
        notes=(),
    )
    return challenger_job(config, restore(champion.task, champion.labels), here, data, tiny_bert()[1])


def test_a_challenger_is_trained_and_pools_as_its_champion_but_for_what_the_user_sets(
    tiny_bert: TinyBert, plain: RetrainConfig
) -> None:
    engine = dataclasses.replace(COLD.engine, batch_size=32, weight_decay=0.1, schedule="cosine")
    first = dataclasses.replace(COLD.checkpoint, pooling="first")
    champion = dataclasses.replace(COLD, engine=engine, checkpoint=first)
    job, _ = challenger(tiny_bert, plain, champion, "may")
    trained = job.settings.engine
    assert [trained.batch_size, trained.weight_decay, trained.schedule, job.pooling] == [32, 0.1, "cosine", "first"]
    words = ["tasks=[ner]", "engine.batch_size=8", "checkpoint.pooling=mean"]
    job, _ = challenger(tiny_bert, read_config("retrain", RetrainConfig, words), champion, "may")
    assert [job.settings.engine.batch_size, job.settings.engine.weight_decay, job.pooling] == [8, 0.1, "mean"]


def test_each_pass_replays_rows_of_its_own_and_the_same_again_on_the_same_rows(
    tiny_bert: TinyBert, plain: RetrainConfig
) -> None:
    def replayed(month: str) -> set[str]:
        job, count = challenger(tiny_bert, plain, COLD, month)
        texts = {row.fields["text"] for row in job.dataset.train.rows} & {one["text"] for one in OLD}
        assert len(texts) == count == 8
        return texts

    assert replayed("may") == replayed("may") != replayed("june")


def test_a_replayed_row_counts_for_those_it_stands_for_also_in_the_shares_of_labels(
    tiny_bert: TinyBert, plain: RetrainConfig
) -> None:
    def job_of(weighted: bool) -> Job:
        config = dataclasses.replace(plain, challenger=ChallengerConfig(start="cold", replay=0.2, weighted=weighted))
        return challenger(tiny_bert, config, COLD, "may")[0]

    job = job_of(weighted=True)
    old = {one["text"] for one in OLD}
    weights: dict[bool, list[float]] = {True: [], False: []}
    for row, example in zip(job.dataset.train.rows, job.encoded["train"].examples, strict=True):
        weights[row.fields["text"] in old].append(example["weight"])
    assert sum(weights[True]) / sum(weights[False]) == pytest.approx(len(OLD) / len(weights[False]))
    assert fmean([*weights[True], *weights[False]]) == pytest.approx(1)
    everything = [one["label"] for one in OLD] + [row.fields["label"] for row in job.dataset.train.rows][:4]
    assert job.task.shares == pytest.approx(
        {name: everything.count(name) / len(everything) for name in set(everything)}
    )
    assert not any("weight" in example for example in job_of(weighted=False).encoded["train"].examples)


def test_an_attempt_is_another_one_where_rows_or_any_setting_differ(plain: RetrainConfig) -> None:
    found, _ = news_of({"text": "new", "label": "good"})
    newer, _ = news_of({"text": "newer", "label": "good"})
    champion = dataclasses.replace(COLD, engine=dataclasses.replace(COLD.engine, batch_size=32))
    base = pass_of(plain, COLD.task, found, champion)

    def attempt(*said: str, **changes: Any) -> str:
        return pass_of(dataclasses.replace(plain, said=list(said), **changes), COLD.task, found, champion)

    def engine(**changes: Any) -> EngineConfig:
        return dataclasses.replace(plain.engine, **changes)

    others = [
        pass_of(plain, COLD.task, newer, champion),
        pass_of(plain, dataclasses.replace(COLD.task, max_length=64), found, champion),
        attempt(seed=1),
        attempt("engine.batch_size"),  # the default, which the champion does not have
        attempt(engine=engine(epochs=9)),
        attempt(challenger=ChallengerConfig(replay=0.9)),
        attempt(gate=GateConfig(margin=0.5)),
        attempt("checkpoint.pooling", checkpoint=dataclasses.replace(plain.checkpoint, pooling="first")),
    ]
    assert len({base, *others}) == 9
    assert base == attempt("engine.batch_size", engine=engine(batch_size=32)) == attempt(engine=engine(batch_size=8))


def test_a_champion_that_was_scored_otherwise_is_not_retrained() -> None:
    bundle: Any = SimpleNamespace(record=COLD)
    checkpoint: Any = SimpleNamespace(sha256=COLD.checkpoint_sha256)
    now = dataclasses.replace(COLD.task, labels=["good", "poor"])
    with pytest.raises(ConfigError, match="is no task of its champion's: to answer with bad too"):
        check_champion("mood", now, bundle, checkpoint, ChallengerConfig())


def test_a_challenger_does_not_begin_with_the_head_of_another_scoring() -> None:
    before = TaskConfig(name="exam", kind="multiple_choice")
    bundle: Any = SimpleNamespace(record=dataclasses.replace(COLD, task=before, labels=[]))
    checkpoint: Any = SimpleNamespace(sha256=COLD.checkpoint_sha256)
    dual = dataclasses.replace(before, scoring="dual")
    check_champion("exam", dual, bundle, checkpoint, ChallengerConfig(start="cold"))
    with pytest.raises(
        ConfigError, match=r"task\.exam\.scoring: 'dual' needs another head .* set challenger.start=cold"
    ):
        check_champion("exam", dual, bundle, checkpoint, ChallengerConfig())


def test_what_a_search_tries_is_kept_by_its_ends() -> None:
    assert Range(log_uniform=[1e-3, 1e-2]).ends == [1e-3, 1e-2]
    assert Range(choice=[96, 24, 48]).ends == [24.0, 96.0]
    assert [Range(choice=values).ends for values in ([8], ["all", "top-2"], [True, False], [1, "a"])] == [
        [],
        [],
        [],
        [],
    ]


def past(version: int, *, harder: bool, alias: str = "challenger") -> Past:
    lost = TrackingError("gone")
    return Past(
        version=version,
        alias=alias,
        quarantined=False,
        news="0",
        replaces=1,
        reason="worse",
        found=lost,
        attempt="warm",
        harder=harder,
    )


def test_a_version_of_which_nobody_knows_what_it_keeps_out_stops_a_pass_by_name(tmp_path: Path) -> None:
    task, folder = TaskConfig(name="mood", kind="classification"), tmp_path / "version" / "ledger"
    kept = dataclasses.replace(past(2, harder=True, alias="rolled back"), found=Files(bundle=tmp_path, ledger=folder))
    assert kept_by(kept, "mood", task) is None  # made by hand, or before there were ledgers
    write_ledger(folder, Ledger(trained=(), added=("a digest",)))
    its = kept_by(kept, "mood", task)
    assert its is not None and its.added == ("a digest",)
    next(folder.glob("trained*")).write_text('{"text": "another", "label": "good"}\n', "utf-8")
    told = r"^mood v2: was rolled back, and it is not known which rows .*: .*trained\.jsonl.* delete this version"
    with pytest.raises(DataError, match=told):
        kept_by(kept, "mood", task)
    with pytest.raises(DataError, match=r"^mood v3: was rejected, .* out of training: gone\. Bring its files back"):
        kept_by(past(3, harder=True), "mood", task)


@pytest.mark.parametrize(
    ("tried", "final"),
    [
        ([], None),
        ([past(2, harder=True)], None),
        ([past(2, harder=False)], 2),
        ([past(2, harder=True), past(3, harder=False)], 3),
        ([past(2, harder=True, alias="rolled back")], 2),
        ([past(number, harder=True) for number in (2, 3, 4)], None),
        ([past(number, harder=True) for number in (2, 3, 4, 5)], 5),
    ],
)
def test_a_pass_goes_on_with_its_ladder_where_it_was(tried: list[Past], final: int | None) -> None:
    planned = attempts(ChallengerConfig(), Work(old=3000, new=600, epochs=2, cold_epochs=5))
    here: Any = SimpleNamespace(tried=tuple(tried), attempts=tuple(planned))
    last = judged_before(here)
    assert (last.version if last else None) == final


def work(config: RetrainConfig, rows: Sequence[dict[str, str]], fresh: Sequence[str], champion: BundleRecord) -> Work:
    found: Any = SimpleNamespace(train=rows_of(*rows), count=len(rows))
    return work_of(config, champion, Ledger(trained=rows_of(*OLD)), found, restore(COLD.task, COLD.labels), fresh)


def test_a_pass_is_longer_where_a_label_is_new_unless_its_epochs_are_set(plain: RetrainConfig) -> None:
    rows = [{"text": "new", "label": "mixed"}]
    set_ = read_config("retrain", RetrainConfig, ["tasks=[ner]", "engine.epochs=3"])
    own = read_config("retrain", RetrainConfig, ["tasks=[ner]", "challenger.new_label_epochs=6"])
    for config, expected in ((plain, [2, 4]), (set_, [3, 3]), (own, [2, 6])):
        assert [work(config, rows, fresh, COLD).epochs for fresh in ([], ["mixed"])] == expected


def test_a_champion_may_stay_as_it_is_where_most_new_rows_have_a_new_label(plain: RetrainConfig) -> None:
    rows = [{"text": f"new {one}", "label": "mixed" if one < 3 else "good"} for one in range(5)]
    full = dataclasses.replace(COLD, method=MethodConfig(name="full"))
    assert work(plain, rows, ["mixed"], COLD).still
    assert not work(plain, rows[1:], ["mixed"], COLD).still
    assert not work(plain, rows, [], COLD).still
    assert not work(plain, rows, ["mixed"], full).still


@pytest.mark.parametrize(
    ("method", "fresh", "message"),
    [("houlsby", [], "no label is new here"), ("full", ["mixed"], "the method full trains the checkpoint itself")],
)
def test_a_champion_that_shall_stay_needs_something_to_train_beside_it(
    method: MethodName, fresh: list[str], message: str
) -> None:
    still = ChallengerConfig(start="still")
    with pytest.raises(ConfigError, match=rf"challenger\.start: 'still' trains .* {message}.*set warm or cold"):
        check_start(still, method, fresh)
    check_start(still, "houlsby", ["mixed"])
    check_start(ChallengerConfig(), method, fresh)


def test_training_rows_that_are_evaluation_rows_are_counted() -> None:
    found, _ = news_of(*({"text": f"a may film {number}", "label": "good"} for number in range(9)))
    assert found.leaked_share == 0
    leaking = dataclasses.replace(found, leaked=4, leaked_now=4, offered=10)  # beside three of either split
    said = "4 rows to train on or choose by, 40.00%, stand among the evaluation rows too, more than 10.00%: were the "
    assert leak_reason(leaking, GateConfig()).startswith(f"{said}splits mixed up?")
    before = dataclasses.replace(found, leaked=4, offered=100)  # in data that grow
    assert before.leaked_share == 0.04 and not leak_reason(before, GateConfig())
    assert leak_reason(leaking, GateConfig(max_leaked=1)) == ""


def test_a_slice_that_stands_whole_among_very_many_training_rows_is_told() -> None:
    many = [{"text": f"a may film {number}", "label": "good"} for number in range(300)]
    test = rows_of(*many[:20])
    parts = {"train": rows_of(*many), "validation": rows_of({"text": "chosen", "label": "bad"}), "test": test}
    splits: Any = {name: Split(name, rows, fingerprint(rows), None) for name, rows in parts.items()}
    data = Dataset("mood", "default", "somewhere", **splits, overlap={}, notes=())
    found = news(Ledger(trained=rows_of(*OLD)), data)
    assert found.leaked_share < 0.1 and found.leaked_tests_share == 1
    said = "20 of the 20 rows to judge by stand among those to train on or choose by too, more than half: were the "
    assert leak_reason(found, GateConfig()).startswith(said)
    assert leak_reason(found, GateConfig(max_leaked=1)) == ""
    kept = dataclasses.replace(found, leaked_tests=10)  # half of them
    assert leak_reason(kept, GateConfig()) == ""
    # Of a version that was not promoted: they stay evaluation rows, in whatever split they are now.
    again = news(Ledger(trained=rows_of(*OLD)), data, reserved=test)
    assert again.leaked_tests == 0


def test_the_widest_prompt_that_a_pass_tries_takes_its_positions_from_the_text(tiny_bert: TinyBert) -> None:
    champion = dataclasses.replace(
        COLD, method=MethodConfig(name="prompt", width=8), searched={"method.width": [4, 16]}
    )
    config = read_config("retrain", RetrainConfig, ["tasks=[ner]", "challenger.trials=4"])
    job, _ = challenger(tiny_bert, config, champion, "may")
    assert job.space is not None and job.space["method.width"].ends[1] == 16
    assert job.task.reserved == 16
