"""What a sweep will take: its trials measured as they will run, its search played with that, and what comes on top."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from pipeline.config import CompareConfig, SweepConfig
from pipeline.core.adapters.checkpoint import build_base, tensors_of
from pipeline.core.data.rows import Split
from pipeline.core.engine.machine import age_s
from pipeline.core.engine.trials import Job, Trial
from pipeline.reports.tables import Cost
from pipeline.reports.words import duration
from pipeline.rules import slots
from pipeline.rules.forecast import Lasting, forecast
from pipeline.rules.packs import are_packed
from pipeline.rules.search import num_trials, plan_of, search_of
from pipeline.steps.measure import Device, Pace, measure, measure_together
from pipeline.steps.prepare import Prepared

_STORE_S, _JOB_S = 5.0, 2.0
"""On top of what was measured: opening the tracking store and ending the runs; and registering the winner of a job,
drawing its figures and recording them. Of two cores, and a SQLite store."""
_RAY_S = 19.0
"""On top of them where a Ray is started: until its processes may be started, and until it has ended. Of two cores."""
_STARTED_S = 10.0
"""In what time processes that train started on the machine that these seconds are of. They too go into starting and
loading, so that a machine on which processes start in half the time is taken to need half of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """How long a sweep will take, in seconds of its wall clock."""

    costs: Mapping[str, Cost]
    """Of each job."""
    search_s: float
    """Training, validation and tests, from the first step to the last."""
    outside_s: float
    """All else: getting ready, starting processes, registering, recording."""
    is_most: bool
    """Whether early stopping may save some of it."""

    def line(self, num_slots: int) -> str:
        """The whole in a sentence."""
        where = "1 slot" if num_slots == 1 else f"{num_slots} slots"
        about = "At most" if self.is_most else "About"
        whole, search, outside = map(duration, (self.search_s + self.outside_s, self.search_s, self.outside_s))
        return (
            f"{about} {whole}: {search} of training, evaluation and tests on {where} of this machine, and {outside} of "
            "starting, registering and recording. Nothing was trained."
        )


def outlook(config: SweepConfig, prepared: Prepared, work: Sequence[tuple[Job, Trial]]) -> Outlook:
    """Measure, and say what the sweep will take.

    Args:
        config: Of the sweep.
        prepared: Its jobs, on their checkpoint; on a cluster of several nodes they are measured on this one.
        work: Each job, and a trial of it that costs as much as any.
    """
    ready_s = age_s()  # as the sweep itself will need for the same
    cluster = config.cluster
    packed = any(are_packed(cluster, prepared.slots, num_trials(search_of(config.search, job))) for job, _ in work)
    kept = 0 if packed else cluster.prefix_bytes
    device: Device = "cuda" if cluster.gpus_per_trial and torch.cuda.is_available() else "cpu"
    if cluster.name == "here":
        torch.set_num_threads(cluster.cpus_per_trial)
        base = prepared.base
        if device != "cpu":  # a copy, as the sweep has
            base = build_base(prepared.checkpoint, tensors_of(base)).to(device)
        pad_token_id = prepared.tokenizer.pad_token_id
        paces = [measure(base, prepared.checkpoint, pad_token_id, job, trial, kept) for job, trial in work]
        started_s = 0.0
    else:
        room = slots.num_slots(replace(cluster, slots=None, num_workers=1), [slots.local_node(cluster)])
        count = max(min(prepared.slots * cluster.num_workers, room), 1)
        paces, started_s = measure_together(prepared, work, count, cluster.cpus_per_trial, device, kept)
    slowness = started_s / _STARTED_S or 1.0  # where no process is started, as on that machine
    more_s = _STORE_S + _JOB_S * len(work) + (_RAY_S if cluster.name == "local" else 0.0)
    lasting, costs = {}, {}
    for (job, _), pace in zip(work, paces, strict=True):
        lasting[job.name] = one = _lasting(job, pace, cluster.num_workers)
        plan = plan_of(search_of(config.search, job), config.engine.epochs)
        costs[job.name] = Cost(
            seconds=one.once_s + one.epoch_s * plan.epochs / prepared.slots,
            memory_bytes=pace.memory_bytes * prepared.slots,
        )
    search_s = forecast(prepared.jobs, config.search, prepared.slots, lasting)
    if isinstance(config, CompareConfig):  # the winners' settings on more seeds
        again = sum(one.epoch_s * config.engine.epochs + one.test_s for one in lasting.values())
        search_s += again * (config.seeds - 1) / prepared.slots
    return Outlook(
        costs=costs,
        search_s=search_s,
        outside_s=ready_s + started_s + slowness * more_s,
        is_most=config.engine.patience > 0,
    )


def _lasting(job: Job, pace: Pace, num_workers: int) -> Lasting:
    """Seconds of an epoch and of the test, shared by the workers of a trial."""
    train, validation, test = (_sub_tokens(job, split) for split in job.dataset.splits)
    twice = 2 if job.task.answers_untrained else 1  # the untrained checkpoint is tested too
    return Lasting(
        epoch_s=(pace.train_s * train + pace.eval_s * validation) / num_workers,
        test_s=pace.test_s * test * twice / num_workers,
        once_s=pace.fill_s * (train + validation),
    )


def _sub_tokens(job: Job, split: Split) -> int:
    return sum(example["length"] for example in job.encoded[split.name].examples)
