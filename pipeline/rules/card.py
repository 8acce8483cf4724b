"""A model card: what is said of a bundle to whoever finds it, in MLflow or in a folder for another program. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from pipeline.config import signed
from pipeline.core.engine.bundle import Bundle
from pipeline.core.engine.events import JobTested
from pipeline.core.engine.trials import Job
from pipeline.core.tasks.kinds import restore
from pipeline.rules.versions import Verdict

MOST_CHARACTERS = 5000
"""What MLflow's databases keep of the description of a version."""
_MOST_LABELS, _MOST_REASON, _MOST_PERIODS = 24, 400, 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What is known of a bundle beside its own record: the data and the test of the sweep that it won."""

    source: str
    """Of the data."""
    seed: int
    """Of the sweep, from which that of the training is derived."""
    rows: Mapping[str, int]
    """train, validation, test -> how many."""
    scores: Mapping[str, float]
    """All test metrics."""
    primary: float
    low: float
    high: float
    """95 % interval of `primary`."""
    baseline: float
    chance: float | None = None
    """The answer without a model, where `baseline` is the untrained checkpoint's."""
    num_truncated: int = 0
    """Test rows that are longer than the model reads."""
    champion: int | None = None
    """The version that was champion when this one was judged."""
    beside: Mapping[str, list[float]] = field(default_factory=dict)
    """Period -> scores of this version and of that champion on the same rows."""
    alias: str = ""
    reason: str = ""
    """What the gate called it, and why."""


def origin_of(job: Job, winner: JobTested, verdict: Verdict, champion: int | None) -> Origin:
    """Put together what is known of a winner when it is registered.

    Args:
        job, winner: The job that it won, and how it was tested.
        verdict: What the gate says of it.
        champion: Number of the version that it was judged beside.
    """
    history = verdict.ledger.history
    ours, theirs = (history[-1].scores, history[-2].scores) if champion and len(history) > 1 else ({}, {})
    return Origin(
        source=job.dataset.source,
        seed=job.seed,
        rows={split.name: len(split.rows) for split in job.dataset.splits},
        scores=dict(winner.scores),
        primary=winner.primary,
        low=winner.low,
        high=winner.high,
        baseline=winner.baseline,
        chance=winner.chance,
        num_truncated=winner.num_truncated,
        champion=champion,
        beside={name: [score, theirs[name]] for name, score in ours.items() if name in theirs},
        alias=verdict.alias,
        reason=verdict.reason,
    )


def model_card(bundle: Bundle, origin: Origin | None, stated: Mapping[str, str], *, usage: str) -> str:
    """Write the card, in Markdown.

    Args:
        bundle: What it is of.
        origin: None: it is no registered version, or one of before this was kept.
        stated: What the checkpoint says of itself: `license`, `language`.
        usage: How it is loaded and asked, in Python.
    """
    record = bundle.record
    parts = [
        f"# {record.job}",
        _about(bundle),
        "## Scores\n\n" + "\n".join(_scores(bundle, origin)),
        f"## Use\n\n```python\n{usage}\n```",
        f"## Data\n\n{_data(bundle, origin)}",
        "## Method\n\n" + "\n".join(_method(bundle, origin, stated)),
        "## Limits\n\n" + "\n".join(f"* {one}" for one in _limits(bundle.record.task.primary, origin, stated)),
    ]
    text = "\n\n".join(parts) + "\n"
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 5]}\n...\n"


def front_matter(bundle: Bundle, stated: Mapping[str, str], *, library: str, tags: Sequence[str] = ()) -> str:
    """Write what the Hugging Face hub reads above a card.

    `base_model` is there where the checkpoint is the hub's: the hub refuses one that is not.

    Args:
        bundle: What the card is of.
        stated: As for `model_card`.
        library: What loads the folder, as the hub calls it.
        tags: What it is to be found by, beside its method and its task.
    """
    record = bundle.record
    values: dict[str, object] = {"library_name": library}
    if record.checkpoint.source == "hub":
        values["base_model"] = record.checkpoint.location
    values |= {
        "license": stated.get("license", "unknown"),
        "pipeline_tag": restore(record.task, record.labels).pipeline_tag,
        "tags": list(dict.fromkeys([*tags, "adapter", record.method.name, record.task.name])),
    }
    if "language" in stated:
        values["language"] = stated["language"].split(", ")
    # JSON is YAML, with every text in quotes.
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()) + "---\n\n"


def _about(bundle: Bundle) -> str:
    record = bundle.record
    labels = list(record.labels)
    more = f" and {len(labels) - _MOST_LABELS} more" if len(labels) > _MOST_LABELS else ""
    answers = f" Its {len(labels)} labels: {', '.join(labels[:_MOST_LABELS])}{more}." if labels else ""
    kind = record.task.kind.replace("_", " ")
    return f"An adapter for {kind} on the frozen checkpoint {record.checkpoint.name}.{answers}"


def _scores(bundle: Bundle, origin: Origin | None) -> Iterator[str]:
    record = bundle.record
    metric = record.task.primary
    validation = ", ".join(f"{name} {value:.3f}" for name, value in sorted(record.validation.items()))
    if origin is None:
        yield "No test is kept with this bundle."
        if validation:
            yield f"On the validation rows, by which it was chosen: {validation}."
        return
    yield _row("", metric, "95 % interval")
    yield _row("---", "---:", "---:")
    ends = " to ".join(_ends(metric, origin))
    yield _row(f"**this version**, {origin.rows['test']:,} test rows", f"**{_shown(metric, origin.primary)}**", ends)
    baseline = "baseline: an answer without a model"
    if origin.chance is not None:
        yield _row(baseline, _shown(metric, origin.chance), "")
        baseline = "baseline: the checkpoint without any training"
    yield _row(baseline, _shown(metric, origin.baseline), "")
    yield ""
    if origin.beside:
        yield f"Beside version {origin.champion}, the champion then, on the same rows:"
        yield ""
        yield _row("rows of", "this version", f"version {origin.champion}")
        yield _row("---", "---:", "---:")
        for period, (ours, theirs) in list(origin.beside.items())[-_MOST_PERIODS:]:
            yield _row(period, _shown(metric, ours), _shown(metric, theirs))
        yield ""
    others = ", ".join(f"{name} {value:.3f}" for name, value in sorted(origin.scores.items()))
    yield f"All metrics on the test rows: {others}. On the validation rows, by which it was chosen: {validation}."
    if origin.reason:
        yield f"Registered as {origin.alias}: {_shortened(origin.reason, _MOST_REASON)}."


def _data(bundle: Bundle, origin: Origin | None) -> str:
    if origin is None:
        return "Not known here."
    record = bundle.record
    domain, source = record.job.partition("/")[2], f"files in `{PurePath(origin.source).name}`"
    if origin.source == "starter":
        source = "the starter corpus that is shipped with the code"
    elif origin.source == "hub":
        source = f"{record.task.hub[domain].id} on the Hugging Face hub" if domain in record.task.hub else "hub"
    counts = ", ".join(f"{count:,} {name}" for name, count in origin.rows.items())
    return f"Source: {source}. Rows: {counts}. The test rows were used once, after all was chosen."


def _method(bundle: Bundle, origin: Origin | None, stated: Mapping[str, str]) -> Iterator[str]:
    record = bundle.record
    checkpoint, method, engine = record.checkpoint, record.method, record.engine
    width = f", width {method.shown_width}" if method.shown_width is not None else ""
    trained = f"; learning rate {engine.learning_rate:.2g}, batches of {engine.batch_size}, "
    trained += (
        f"the weights of epoch {record.epoch} of {engine.epochs}; seed {record.seed if origin is None else origin.seed}"
    )
    yield f"* {method.name}{width}{trained if record.epoch else ''}"  # of what was converted it is not known
    size = f"{bundle.num_bytes / 1e6:.2f} MB"
    yield f"* trained: {record.num_trained:,} parameters, {100 * record.share:.2f} % of the checkpoint's; {size}"
    where = checkpoint.location if checkpoint.source == "hub" else f"{checkpoint.name} ({checkpoint.source})"
    licence = f"its licence: {stated.get('license', 'not stated')}"
    yield f"* checkpoint: {where}, sha256 {record.checkpoint_sha256[:16]}; {licence}"


def _limits(metric: str, origin: Origin | None, stated: Mapping[str, str]) -> Iterator[str]:
    if origin is not None:
        if origin.low <= origin.baseline:
            what = "its baseline" if origin.chance is None else "the checkpoint without any training"
            ours, theirs = _shown(metric, origin.primary), _shown(metric, origin.baseline)
            yield f"Not clearly better than {what} ({ours} against {theirs})."
        rows = f"With {origin.rows['test']:,} test rows"
        yield f"{rows} the score may as well be {' or '.join(_ends(metric, origin))}: less than that is no difference."
        if origin.num_truncated:
            yield f"{origin.num_truncated:,} of the test rows are longer than the model reads, and were read in part."
        yield "Rows of other sources, domains or times than these were not tried."
    yield f"The language of the rows was not looked at; that of the checkpoint: {stated.get('language', 'not stated')}."


def _shown(metric: str, value: float) -> str:
    """A score as it is shown; an error, of which less is better, without the sign that it is compared with."""
    return f"{signed(metric, value):.3f}"


def _ends(metric: str, origin: Origin) -> list[str]:
    return [f"{end:.3f}" for end in sorted(signed(metric, one) for one in (origin.low, origin.high))]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shortened(text: str, length: int) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= length else f"{text[: length - 3]}..."
