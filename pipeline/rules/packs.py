"""Which candidates are trained together: a pack, which the base reads each batch once for. Pure."""

import dataclasses
import itertools
import math
from collections.abc import Hashable, Sequence
from typing import Any

from pipeline.config import ClusterConfig
from pipeline.core.engine.trials import Job, Trial
from pipeline.core.methods import GRAFTS
from pipeline.rules.slots import Nodes, num_slots


def most_together(cluster: ClusterConfig, nodes: Nodes, waiting: int) -> int:
    """Say how many candidates a pack may have, of those that wait.

    `auto` is one on CPUs, where a pack was not measured to be quicker; on GPUs those that wait are dealt out to the
    slots, and a process that has no memory for all of its own trains them in parts.
    """
    if cluster.num_workers > 1:
        return 1
    if cluster.pack != "auto":
        return cluster.pack
    if not cluster.gpus_per_trial:
        return 1
    return math.ceil(waiting / max(num_slots(cluster, nodes), 1))


def are_packed(cluster: ClusterConfig, num_slots: int, waiting: int) -> bool:
    """Whether some of the candidates of a job that wait are trained together, on so many slots."""
    given = dataclasses.replace(cluster, slots=num_slots)
    return min(most_together(given, (), waiting), waiting) > 1


def packs_of(waiting: Sequence[Trial], keys: Sequence[Hashable], most: int) -> list[list[Trial]]:
    """Put trials together that are alike, in as few packs as can be, whose sizes differ by one at most.

    Args:
        waiting: In the order in which they are to be trained.
        keys: Of each what it must have in common with those of its pack.
        most: Trials of a pack.
    """
    alike: dict[Hashable, list[Trial]] = {}
    for trial, key in zip(waiting, keys, strict=True):
        alike.setdefault(key, []).append(trial)
    packs = []
    for trials in alike.values():
        num_packs = math.ceil(len(trials) / most)
        size, more = divmod(len(trials), num_packs)
        ends = [0]
        for number in range(num_packs):
            ends.append(ends[-1] + size + (number < more))
        packs += [trials[begin:end] for begin, end in itertools.pairwise(ends)]
    return packs


def key_of(job: Job, trial: Trial, epochs: int) -> tuple[Any, ...]:
    """What trials of a job must have in common to be trained together: where they stand, how large their batches are,
    and what is computed in which precision. One that writes texts, or whose method is attached to the base, is alone.

    Args:
        epochs: That it has had.
    """
    method, engine = trial.settings.method, trial.settings.engine
    if method.name not in GRAFTS or job.task.decoding is not None:
        return (trial.index,)
    return epochs, engine.batch_size, engine.eval_batch_size, engine.precision
