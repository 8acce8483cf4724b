"""`make predict`: the champion of a task answers one text or item, or many of them, JSON lines in and out."""

import json

from rich.console import Console

from pipeline.config.champions import PredictConfig
from pipeline.steps.answer import items


def main(config: PredictConfig, console: Console) -> None:
    asked = list(items())
    from transformers.utils import logging as transformers_logging  # here: a bad item is told before torch is loaded

    from pipeline.core.adapters.checkpoint import load_checkpoint, open_checkpoint
    from pipeline.core.bank.predictor import Predictor
    from pipeline.core.engine.bundle import read_bundle
    from pipeline.tracking.registry import fetch
    from pipeline.tracking.store import open_store

    transformers_logging.set_verbosity_error()
    bundle = read_bundle(fetch(open_store(config.tracking, create=False), config.job))
    predictor = Predictor(load_checkpoint(open_checkpoint(bundle.record.checkpoint)))
    for answer in predictor.predict(bundle, [item for _, item in asked], where=[origin for origin, _ in asked]):
        print(json.dumps(answer, ensure_ascii=False))
