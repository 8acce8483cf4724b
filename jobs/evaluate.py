"""`make evaluate`: a registered version is scored on labelled rows, and that is recorded; no alias is moved."""

import sys

from rich.console import Console

from pipeline.config.champions import EvaluateConfig
from pipeline.steps.asked import with_file


def main(config: EvaluateConfig, console: Console) -> None:
    config = with_file(config)
    # What can be told is told before torch is loaded.
    from transformers.utils import logging as transformers_logging

    from pipeline.reports.evaluation import figure_table, scores_table
    from pipeline.steps.evaluate import evaluate, record
    from pipeline.tracking.lookup import choose
    from pipeline.tracking.store import open_store

    transformers_logging.set_verbosity_error()
    store = open_store(config.tracking, create=False)
    chosen = choose(store, config.job, config.alias, config.version)
    found = evaluate(config, chosen)
    console.print(found.title, soft_wrap=True)
    console.print(scores_table(found))
    for shown in found.figures:
        if table := figure_table(shown):
            console.print(table)
    for note in found.notes:
        console.print(note, soft_wrap=True)
    if found.partial:
        print(found.partial, file=sys.stderr)
    run = record(store, config, chosen, found)
    console.print(f"Recorded in {store.uri} (experiment {store.config.experiment}, run {run})", soft_wrap=True)
