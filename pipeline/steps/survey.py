"""What a pass finds out before it trains: the champion, what is new to it, how far that has drifted."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.config import ChallengerConfig, GateConfig, RetrainConfig, TaskConfig
from pipeline.config.strict import identity
from pipeline.config.task import task_change
from pipeline.config.training import METHOD_TRAITS, MethodName
from pipeline.core.adapters.checkpoint import Checkpoint, Resident
from pipeline.core.bank.predictor import Scorer
from pipeline.core.data.ledger import Ledger, read_ledger, without
from pipeline.core.data.load import job_name, load, registered_name
from pipeline.core.data.rows import Dataset, Row, Split, num_rows
from pipeline.core.data.splits import fingerprint
from pipeline.core.engine.bundle import Bundle, BundleRecord, read_bundle
from pipeline.core.engine.embed import embeddings
from pipeline.core.engine.trials import Job, Settings
from pipeline.core.tasks.kinds import restore, task_for
from pipeline.core.tasks.task import Task
from pipeline.errors import ConfigError, DataError, PipelineError, fault
from pipeline.rules.drift import Drift, Sample, choose, measure, retrain_reason
from pipeline.rules.ladder import Attempt, Work, attempts, told
from pipeline.rules.news import News, news, replayed, shuffled
from pipeline.rules.versions import Champion, Past
from pipeline.steps.challenger import cold_epochs_of, engine_of, pooling_of, rates, searched_by, space_around, start_of
from pipeline.steps.prepare import most_virtual_tokens
from pipeline.tracking.registry import champion_of, past_of
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MOST_TESTS = 0.5
"""Share of a period's evaluation rows that may stand in train too; short texts come again by chance."""
Finding = Literal["nothing new", "waits", "leaks", "judged before", "no drift", "trains"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What is known of one task before anything is trained."""

    name: str
    """`sentiment/movies`."""
    registered_name: str
    champion: Champion
    bundle: Bundle
    ledger: Ledger
    used: frozenset[str]
    """Keys of rows that other versions, which are not champion, were trained on or chosen by."""
    news: News
    fresh: frozenset[str] = frozenset()
    """The labels that come in with them."""
    finding: Finding
    reason: str
    pass_id: str
    """Names the new rows and the settings: what was judged once on one champion is not judged again."""
    tried: tuple[Past, ...] = ()
    """The attempts that were made on them, in their order."""
    attempts: tuple[Attempt, ...] = ()
    """Those that may be made, with these the first."""
    notes: tuple[str, ...] = ()
    """What was noticed in the data: rows left out, splits that were cut."""
    drift: Drift | None = None
    job: Job | None = None
    """What is trained; None where nothing is."""
    num_replayed: int = 0

    @property
    def number(self) -> int:
        """Of the attempt that is next, from 0."""
        return len(self.tried)

    @property
    def attempt(self) -> Attempt:
        """The next one."""
        return self.attempts[self.number]

    def next_line(self) -> str:
        """Say what comes next, after an attempt."""
        return told(self.attempts, self.number) if self.job is not None else f"{self.finding}: {self.reason}"


def survey(config: RetrainConfig, task: TaskConfig, domain: str, store: Store, resident: Resident) -> Survey:
    """Compare the data of a task with what its champion has seen, and decide whether to train.

    Raises:
        UserError: There is no champion, it sits on another checkpoint, the task has changed, or the data are bad.
    """
    name, registered = job_name(task, domain), registered_name(task, domain)
    champion = champion_of(store, registered, settle=not config.dryrun)
    if champion is None:
        remedy = f"Train the first one with `make sweep TASKS={name}`"
        raise ConfigError(fault(name, "", "has no champion to retrain", remedy))
    bundle = read_bundle(champion.files.bundle)
    check_champion(name, task, bundle, resident.checkpoint, config.challenger)
    past = past_of(store, registered, champion.version)
    ledger, reserved, quarantine, used = _seen(name, champion, past, task)
    dataset = data_of(config, task, domain, bundle.record, ledger)
    found = news(ledger, dataset, reserved=reserved, quarantine=quarantine, used=used)
    now = restore(task, bundle.record.labels)
    fresh = fresh_labels(now, found.train, ledger)
    work = work_of(config, bundle.record, ledger, found, now, fresh)
    here = Survey(
        name=name,
        registered_name=registered,
        champion=champion,
        bundle=bundle,
        ledger=ledger,
        used=used,
        news=found,
        fresh=frozenset(fresh),
        finding="nothing new",
        reason=found.line(),
        pass_id=pass_of(config, task, found, bundle.record, still=work.still),
        notes=dataset.notes,
    )
    if not found.count:
        return here
    if found.count < config.drift.min_new_rows:
        decision = retrain_reason(None, found.count, config.drift)
        return dataclasses.replace(here, finding="waits", reason="; ".join([decision.reason, *found.others()]))
    if mixed_up := leak_reason(found, config.gate):
        return dataclasses.replace(here, finding="leaks", reason=mixed_up)
    check_start(config.challenger, bundle.record.method.name, fresh)
    tried = [one for one in past if one.news == here.pass_id and one.replaces == champion.version]
    here = dataclasses.replace(
        here,
        tried=tuple(sorted(tried, key=lambda one: one.version)),
        attempts=tuple(attempts(config.challenger, work, champion.attempt)),
    )
    if (last := judged_before(here)) is not None:
        reason = f"these rows and settings were judged before, as version {last.version} ({last.alias}): {last.reason}"
        return dataclasses.replace(here, finding="judged before", reason=reason)
    check_champion(name, task, bundle, resident.checkpoint, here.attempt.challenger)
    drift = _drift(config, now, here, resident)
    decision = retrain_reason(drift, found.count, config.drift)
    here = dataclasses.replace(here, drift=drift, reason=decision.reason)
    if not decision.retrain:
        return dataclasses.replace(here, finding="no drift")
    job, num_replayed = challenger_job(on_attempt(config, here.attempt), now, here, dataset, resident.tokenizer)
    return dataclasses.replace(here, finding="trains", job=job, num_replayed=num_replayed)


def check_champion(
    name: str, task: TaskConfig, bundle: Bundle, checkpoint: Checkpoint, challenger: ChallengerConfig
) -> None:
    """Raise a ConfigError where no challenger of the task as it is now can go on from the bundle of its champion."""
    record = bundle.record
    if changed := changed_since(bundle, task):
        was, is_ = changed
        remedy = "Give the task back what it was, or train a new champion with `make sweep` under another name"
        raise ConfigError(fault(name, is_, f"is no task of its champion's: {was}", remedy))
    if challenger.start != "cold" and record.task.scoring != task.scoring:
        rule = (
            f"needs another head than the champion's, which is {record.task.scoring} and which a challenger begins with"
        )
        remedy = "Give the task back what it was, or set challenger.start=cold"
        raise ConfigError(fault(f"task.{task.name}.scoring", task.scoring, rule, remedy))
    if record.checkpoint_sha256 != checkpoint.sha256:
        rule = f"is not what the champion of {name} sits on ({record.checkpoint.name})"
        place = record.checkpoint.location if record.checkpoint.source == "path" else record.checkpoint.name
        remedy = f"Set CHECKPOINT={place}, or begin anew on this one with `make sweep`"
        raise ConfigError(fault("checkpoint", checkpoint.config.name, rule, remedy))


def fresh_labels(task: Task, rows: Sequence[Row], ledger: Ledger) -> set[str]:
    """The labels that come in with these rows.

    One that is listed and has no row yet is not new: nothing is learnt of it. With its first row it is, also where the
    champion has had an output for it all the time.
    """
    return task.labels_in(rows) & set(task.grown(rows) or ()) - task.labels_in(ledger.taught)


def check_start(challenger: ChallengerConfig, method: MethodName, fresh: Collection[str]) -> None:
    """Raise a ConfigError where a champion shall stay as it is, and nothing could be trained beside it."""
    if challenger.start == "still" and not (fresh and METHOD_TRAITS[method].shares_base):
        rule = "trains the outputs of new labels alone, and " + (
            f"the method {method} trains the checkpoint itself" if fresh else "no label is new here"
        )
        raise ConfigError(fault("challenger.start", "still", rule, "Leave it out, or set warm or cold"))


def changed_since(bundle: Bundle, task: TaskConfig) -> tuple[str, str] | None:
    """Say what the task of a bundle was and what it is now, where the two cannot be compared."""
    record = bundle.record
    return task_change(record.task, task, restore(record.task, record.labels).names())


def work_of(
    config: RetrainConfig, champion: BundleRecord, ledger: Ledger, found: News, task: Task, fresh: Collection[str]
) -> Work:
    """What there is to train a challenger on, and for how long, where these labels are new."""
    rows, own = found.train, config.challenger.new_label_epochs
    num_fresh = sum(any(label in fresh for label in task.labels_of(row)) for row in rows)
    return Work(
        old=len(ledger.trained),
        new=found.count,
        epochs=own if fresh and "engine.epochs" not in config.said else config.engine.epochs,
        cold_epochs=cold_epochs_of(champion),
        grown=bool(fresh),
        still=2 * num_fresh > len(rows) and METHOD_TRAITS[champion.method.name].shares_base,
    )


def judged_before(here: Survey) -> Past | None:
    """The last attempt, where no other one may be made on these rows."""
    last = here.tried[-1] if here.tried else None
    if last is None or (last.harder and last.alias == "challenger" and len(here.tried) < len(here.attempts)):
        return None
    return last


def leak_reason(found: News, gate: GateConfig) -> str:
    """Say that training rows are evaluation rows, where there are so many that the splits must have been mixed up."""
    if found.leaked_share > gate.max_leaked:
        rows = num_rows(found.leaked)
        rule = f"{rows} to train on or choose by, {found.leaked_share:.2%}, stand among the evaluation rows too, more "
        rule += f"than {gate.max_leaked:.2%}"
    elif found.leaked_tests_share > max(gate.max_leaked, _MOST_TESTS):
        tests = f"{found.leaked_tests} of the {len(found.evaluation)} rows to judge by"
        rule = f"{tests} stand among those to train on or choose by too, more than half"
    else:
        return ""
    return f"{rule}: were the splits mixed up? Nothing is trained; gate.max_leaked=1 leaves them out and trains"


def on_attempt(config: RetrainConfig, attempt: Attempt) -> RetrainConfig:
    """The config with how this challenger is trained."""
    engine = dataclasses.replace(config.engine, epochs=attempt.epochs)
    return dataclasses.replace(config, challenger=attempt.challenger, engine=engine)


def pass_of(
    config: RetrainConfig, task: TaskConfig, found: News, champion: BundleRecord, *, still: bool = False
) -> str:
    """16 hex digits that name new rows and all settings by which a challenger is trained on them and judged.

    Args:
        still: Whether the champion may stay as it is; else what the ladder says of that is no part of the pass.
    """
    ladder = [one for one in config.challenger.ladder if still or one.start != "still"]
    parts = (dataclasses.replace(config.challenger, ladder=ladder), engine_of(config, champion), config.gate, task)
    settings: list[Any] = [*map(identity, parts), pooling_of(config, champion)]
    for entry in settings[-2]["hub"].values():
        del entry["bad_rows"]  # what is left out is seen in the rows; and a pass of before had no such setting
    text = json.dumps([found.digest, config.seed, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def data_of(config: RetrainConfig, task: TaskConfig, domain: str, champion: BundleRecord, ledger: Ledger) -> Dataset:
    """Read the data, cut as the champion's were: else rows that it was trained on would come into the test split."""
    grouped = dataclasses.replace(task, group=champion.task.group)
    trained = {row.digest for row in ledger.trained}
    return load(grouped, domain, config.data, kind=restore(grouped), cut=champion.cut, trained=trained)


def _seen(
    name: str, champion: Champion, past: Sequence[Past], task: TaskConfig
) -> tuple[Ledger, list[Row], set[str], frozenset[str]]:
    """What the champion has seen; evaluation rows of others, which stay evaluation rows; digests that are left out; and
    keys of what others were trained on or chosen by."""
    ledger = read_ledger(champion.files.ledger, task)
    known = {one.digest for one in ledger.slices}
    reserved: list[Row] = []
    quarantine: set[str] = set()
    used: set[str] = set()
    for one in past:
        if (its := kept_by(one, name, task)) is None:
            continue
        used |= its.seen_keys
        if one.quarantined:
            quarantine |= set(its.added)
        else:
            reserved += [row for part in its.slices if part.digest not in known for row in part.rows]
    return ledger, reserved, quarantine, frozenset(used)


def kept_by(one: Past, name: str, task: TaskConfig) -> Ledger | None:
    """The ledger of a version that is not champion; None of one that was made by hand, or before there were ledgers."""
    try:
        return read_ledger(one.ledger, task) if one.ledger.is_dir() else None
    except PipelineError as error:
        became = "rolled back" if one.alias == "rolled back" else "rejected"
        why = str(error).strip().partition("\n")[0]
        rule = f"was {became}, and it is not known which rows it keeps out of training: {why}"
        remedy = "Bring its files back, or delete this version in the MLflow UI: then its rows are trained on"
        raise DataError(fault(f"{name} v{one.version}", "", rule, remedy)) from error


def _drift(config: RetrainConfig, task: Task, here: Survey, resident: Resident) -> Drift:
    record = here.bundle.record
    known = restore(record.task, record.labels, record.method.virtual_tokens)
    scorer = Scorer(resident, known)
    new = [*here.news.train, *here.news.validation]
    last = here.ledger.history[-1].scores if here.ledger.history else {}
    own = next((last[one.name] for one in reversed(here.ledger.slices) if one.name in last), None)
    sides = []
    now = scorer(here.bundle, choose(new, config.drift.max_rows)).on_own_labels()  # as the ledger has it of slices
    for rows, score, high in ((list(here.ledger.trained), own, None), (new, now.primary, now.high)):
        chosen = choose(rows, config.drift.max_rows)
        sides.append(
            Sample(
                labels=[task.labels_of(row) for row in rows],
                numbers=[number for row in rows if (number := task.number_of(row)) is not None],
                lengths=[len(task.text_of(row).split()) for row in rows],
                vectors=embeddings(resident.base, known, chosen, resident.tokenizer, config.engine),
                score=score,
                high=high,
            )
        )
    return measure(sides[0], sides[1], config.drift)


def challenger_job(
    config: RetrainConfig, task: Task, here: Survey, dataset: Dataset, tokenizer: "PreTrainedTokenizerBase"
) -> tuple[Job, int]:
    """The challenger's job, and how many of its rows are old ones."""
    record, ledger, found = here.bundle.record, here.ledger, here.news
    edited = {row.digest for row in found.replaced}
    old, chosen_before = without(ledger.trained, edited), without(ledger.chosen, edited)
    labels = {row.digest: task.labels_of(row) for row in old}
    seed = f"{config.seed} {found.digest}"  # another one in each pass, and the same again on the same rows
    assert config.challenger.replay is not None, "an attempt says it"
    replay = replayed(old, config.challenger.replay, labels, seed)
    num_before = len(found.validation) or len(chosen_before)
    validation = [*found.validation, *shuffled(chosen_before, seed)[:num_before]]
    test = list(found.evaluation) or [row for one in ledger.slices[-1:] for row in one.rows]
    rows = {"train": [*found.train, *(row for row, _ in replay)], "validation": validation, "test": test}
    for name, part in rows.items():
        if not part:
            raise DataError(fault(here.name, "", f"has no rows for {name}, neither new nor old", f"Add a {name} split"))
    train, chosen, tested = (Split(name, tuple(part), fingerprint(part), None) for name, part in rows.items())
    combined = dataclasses.replace(
        dataset, train=train, validation=chosen, test=tested, overlap={}, notes=(found.line(), *here.notes)
    )
    weighted = config.challenger.weighted
    known = {*task.names(), *task.labels_in(old)}
    built = task_for(
        task.config,
        combined,
        known,
        labels=task.grown(found.train),
        shares=[*found.train, *old] if weighted and replay else None,
    )
    rate, learning_rate = rates(record, config.challenger, grown=bool(here.fresh))
    engine = dataclasses.replace(engine_of(config, record), learning_rate=learning_rate)
    settings = Settings(method=record.method, engine=engine)
    searched = searched_by(record, config.challenger.spread)
    space = space_around(config, settings, searched, rate)
    built.reserved = most_virtual_tokens(dataclasses.replace(config.search, space=space), record.method)
    encoded = built.encoded(combined, tokenizer)
    if weighted:
        encoded["train"] = encoded["train"].weighted([*[1.0] * len(found.train), *(weight for _, weight in replay)])
    start = start_of(here.bundle, config.challenger, rate)
    if start is not None and start.still:
        outputs = built.outputs_of(here.fresh)
        built.fresh = tuple(one for one in built.labels if one not in start.labels or one in outputs)
    job = Job(
        name=here.name,
        registered_name=here.registered_name,
        task=built,
        dataset=combined,
        encoded=encoded,
        settings=settings,
        seed=config.seed,
        space=space,
        searched=searched,
        start=start,
        pooling=pooling_of(config, record),
    )
    return job, len(replay)
