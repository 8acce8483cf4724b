"""What a sweep says of the layers below its adapters, before it begins."""

import dataclasses
from collections.abc import Iterator

from pipeline.config import SweepConfig
from pipeline.core.adapters.anatomy import layers_of
from pipeline.core.adapters.entry import entry_of, is_shut
from pipeline.reports.words import size
from pipeline.rules.packs import are_packed
from pipeline.rules.search import num_trials, search_of
from pipeline.steps.prepare import Prepared


def prefix_notes(config: SweepConfig, prepared: Prepared) -> Iterator[str]:
    """Which layers are computed once a row and kept, and of which families that cannot be done."""
    base, limit = prepared.base, config.cluster.prefix_bytes
    kept: dict[int, None] = {}
    packed: dict[int, None] = {}
    shut = False
    for job in prepared.jobs:
        method, search = job.settings.method, search_of(config.search, job)
        range_ = search.space.get("method.layers")
        if limit == 0 or job.task.decoding is not None:
            continue
        for layers in range_.named if range_ else [method.layers]:
            tried = dataclasses.replace(method, layers=layers)
            entry, shut = entry_of(tried, base), shut or is_shut(tried, base)
            if entry is not None:
                (packed if are_packed(config.cluster, prepared.slots, num_trials(search)) else kept)[entry.layer] = None
    room = f"{size(limit)} a node (cluster.prefix_bytes)"
    becomes = (
        (kept, f"they are computed once a row and kept, where a job's rows fit into {room}"),
        (packed, "trials that are trained together compute them once a batch; cluster.pack=1 keeps them"),
    )
    for layers, how in becomes:
        if layers:
            numbers = " or ".join(map(str, sorted(layers)))
            yield f"The lowest {numbers} of {len(layers_of(base))} layers have no adapter: {how}"
    if shut:
        family = base.config.model_type
        yield f"The layers of {family} share weights: those below the adapters are computed at every step, too"
