"""`make predict`: a registered version answers a text, an item or many rows, as JSON lines or into the file OUT."""

import sys
from pathlib import Path

from rich.console import Console

from pipeline.config.champions import PredictConfig
from pipeline.config.hints import as_typed
from pipeline.steps.asked import asked, check_out


def main(config: PredictConfig, console: Console) -> None:
    given = asked()
    if config.out:
        check_out(config.out, given.file)
    # Here, and in this order: what can be told is told before torch is loaded.
    from pipeline.tracking.lookup import choose
    from pipeline.tracking.store import open_registry

    chosen = choose(open_registry(config.tracking), config.job, config.alias, config.version)
    from transformers.utils import logging as transformers_logging

    from pipeline.core.data.writers import json_line, write_records
    from pipeline.core.engine.bundle import read_bundle
    from pipeline.reports.counter import counted
    from pipeline.steps.answer import Answers, Questions

    transformers_logging.set_verbosity_error()
    bundle = read_bundle(chosen.files.bundle)
    questions = Questions(given, bundle, config.data)
    for note in questions.notes:
        print(as_typed(note), file=sys.stderr)
    answers = Answers(bundle, questions)
    said = counted(answers, questions.total, "answered")
    if config.out:
        write_records(Path(config.out).expanduser(), said)
    else:
        for answer in said:
            print(json_line(answer), end="")
    if answers.partial:
        print(answers.partial, file=sys.stderr)
    answers.raise_unanswered()
