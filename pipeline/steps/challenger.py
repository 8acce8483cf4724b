"""How a challenger is trained, by what its champion was trained like and what a pass says."""

import dataclasses
from collections.abc import Mapping

from pipeline.config import ChallengerConfig, EngineConfig, Pooling, Range, RetrainConfig
from pipeline.core.engine.bundle import Bundle, BundleRecord
from pipeline.core.engine.trials import Settings, Start
from pipeline.rules.search import check


def engine_of(config: RetrainConfig, champion: BundleRecord) -> EngineConfig:
    """How a challenger is trained: as the champion was, but for the epochs of a pass and what the user sets; in
    bfloat16 only where the nodes have it."""
    said = {key.removeprefix("engine.") for key in config.said if key.startswith("engine.")} | {"epochs"}
    if champion.engine.precision != "float32":
        said.add("precision")
    return dataclasses.replace(champion.engine, **{name: getattr(config.engine, name) for name in said})


def pooling_of(config: RetrainConfig, champion: BundleRecord) -> Pooling:
    """How a challenger makes one vector of a text: as the champion, but where the user says it."""
    return config.checkpoint.pooling if "checkpoint.pooling" in config.said else champion.checkpoint.pooling


def rates(champion: BundleRecord, challenger: ChallengerConfig, *, grown: bool) -> tuple[float, float]:
    """The challenger's learning rate, as a share of that of the last cold start and as it is.

    As a share of the champion's own it would be smaller in each pass. `grown`: whether a label is new.
    """
    of = {"cold": 1.0, "still": challenger.still_rate, "warm": challenger.rate}
    rate = of[challenger.start]
    if challenger.start == "warm" and grown:
        rate = challenger.new_label_rate
    return rate, champion.engine.learning_rate / champion.rate * rate


def start_of(bundle: Bundle, challenger: ChallengerConfig, rate: float) -> Start | None:
    """What a challenger begins with; None where that is chance."""
    if challenger.start == "cold":
        return None
    record, still = bundle.record, challenger.start == "still"
    labels, cold_epochs = tuple(record.labels), cold_epochs_of(record)
    return Start(tensors=bundle.tensors(), labels=labels, rate=rate, cold_epochs=cold_epochs, still=still)


def cold_epochs_of(champion: BundleRecord) -> int:
    """Epochs of the last cold start; of a champion that does not know, its own."""
    return champion.cold_epochs or champion.engine.epochs


def searched_by(champion: BundleRecord, spread: float) -> Mapping[str, list[float]]:
    """The lowest and the highest value of what the first search tried, of a cold start.

    Of a champion that does not know, these are the ends of one search around it.
    """
    cold, width = champion.engine.learning_rate / champion.rate, champion.method.width
    own: dict[str, list[float]] = {
        "engine.learning_rate": [cold / spread, cold * spread],
        "method.width": [max(width // 2, 1), 2 * width],
    }
    return {**own, **champion.searched}


def space_around(
    config: RetrainConfig, settings: Settings, searched: Mapping[str, list[float]], rate: float
) -> Mapping[str, Range]:
    """What is searched around the settings of the first trial; nothing where it is the only one.

    No pass leaves what the first search tried: a learning rate or a width that each pass took further would end
    anywhere.

    Args:
        config: The pass.
        settings: Of the first trial.
        searched: As `searched_by` says.
        rate: The first trial's learning rate as a share of that of a cold start.
    """
    if config.challenger.trials == 1:
        return {}
    spread, width, space = config.challenger.spread, settings.method.width, {}
    low, high = (end * rate for end in searched["engine.learning_rate"])
    around = [max(settings.engine.learning_rate / spread, low), min(settings.engine.learning_rate * spread, high)]
    if around[0] < around[1]:
        space["engine.learning_rate"] = Range(log_uniform=around)
    if config.challenger.start == "cold" and settings.method.reduction_factor is None:  # which is a width of its own
        low, high = searched["method.width"]
        others = {one for one in (max(width // 2, 1), 2 * width) if low <= one <= high}
        space["method.width"] = Range(choice=sorted({width, *others}))
    check(dataclasses.replace(config.search, space=space), settings)
    return space
