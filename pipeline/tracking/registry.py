"""Registered versions: winners become models, and a rule says which of them is the champion.

Whatever the store refuses is raised as a TrackingError.
"""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.core.engine.bundle import Bundle, BundleRecord, read_bundle
from pipeline.core.engine.events import JobTested
from pipeline.core.engine.trials import Job
from pipeline.errors import ConfigError, PipelineError, TrackingError, fault
from pipeline.files import sync_below
from pipeline.pyfunc import LEDGER
from pipeline.rules.card import model_card, origin_of
from pipeline.rules.versions import Alias, Champion, Files, Past, Registered, Verdict
from pipeline.tracking import promotion
from pipeline.tracking.fields import data_fingerprint
from pipeline.tracking.lookup import bundle_folder
from pipeline.tracking.model import Content
from pipeline.tracking.outage import is_outage, patiently
from pipeline.tracking.signature import exchange_of
from pipeline.tracking.store import Store, every, local_path, store_errors

_ATTEMPT, _HARDER = "attempt", "harder"
_log = logging.getLogger(__name__)


def register(
    store: Store,
    sweep_id: str,
    job: Job,
    winner: JobTested,
    bundle: Bundle,
    run_id: str,
    verdict: Verdict,
    *,
    replaces: int | None,
    stated: Mapping[str, str] = MappingProxyType({}),
) -> Registered:
    """Register a job's winner and give it its alias.

    Done before for the same sweep and job, it only completes what was left undone. While the store is away it is
    tried again for `tracking.patience_s`. A winner that was judged beside a champion which is champion no more does
    not take the place of the next one: it becomes a challenger, and its reason says so.

    Args:
        store, sweep_id, job: The sweep that it won in, and the job that it won.
        winner, bundle: What the job ended with.
        run_id: The job's run.
        verdict: What it is to be called, and why.
        replaces: The champion that it was judged beside.
        stated: What the checkpoint says of itself, for the model card (`pipeline.core.adapters.stated`).
    """
    name, tags = job.registered_name, _tags(sweep_id, job, winner, bundle.record)
    origin = origin_of(job, winner, verdict, replaces)
    content = Content(bundle=bundle, ledger=verdict.ledger, origin=origin, exchange=exchange_of(job, winner))
    # With the version itself, so that whoever finds it knows what is to be done with it.
    judged = {
        promotion.VERDICT: verdict.alias,
        promotion.REASON: verdict.reason,
        promotion.REPLACES: str(replaces or ""),
        "news": verdict.news,
        _ATTEMPT: verdict.attempt,
        _HARDER: str(verdict.harder or ""),
    }

    def step() -> Registered:
        _ensure_name(store.client, job)
        version = _find(store, sweep_id, job)
        return _settled(store, version or _create(store, name, content, run_id, tags, judged, stated))

    with store_errors(store.uri):
        return patiently(step, store.config.patience_s)


def registered_before(store: Store, sweep_id: str, job: Job) -> Registered | None:
    """Fetch what a sweep that was cut off has registered for a job, and complete what was left undone."""

    def step() -> Registered | None:
        version = _find(store, sweep_id, job)
        return None if version is None else _settled(store, version)

    with store_errors(store.uri):
        return patiently(step, store.config.patience_s)


def check_owners(store: Store, wanted: Mapping[str, str]) -> None:
    """Refuse registered names that are another task's already: `sentiment.movies` is a domain's, or a task's own.

    Args:
        store: The tracking store.
        wanted: Registered name -> the task that is to be registered there.

    Raises:
        ConfigError: The versions of another task are registered there.
    """
    with store_errors(store.uri):
        owners = {model.name: model.tags.get("task") for model in every(store.client.search_registered_models)}
    faults = [
        fault("TASKS", task, f"would be registered as {name}, which is the task {owners[name]}'s", "Rename the task")
        for name, task in wanted.items()
        if owners.get(name) not in (None, task)
    ]
    if faults:
        raise ConfigError(faults)


def champion_of(store: Store, name: str, *, settle: bool = True) -> Champion | None:
    """Find the champion of a registered name, if there is one, and fetch its files.

    Args:
        store, name: Where it is registered.
        settle: Complete what a move of its aliases that was cut off left undone. False: nothing is written.
    """

    def step() -> Champion | None:
        if not store.client.search_registered_models(f"name = '{name}'"):
            return None
        if settle:
            promotion.settle(store, name)
        number = store.client.get_registered_model(name).aliases.get("champion")
        if number is None:
            return None
        version = store.client.get_model_version(name, number)
        tags = version.tags
        attempt, test = tags.get(_ATTEMPT, ""), float(tags["test"])
        return Champion(version=int(number), test=test, attempt=attempt, found=_files(store, version))

    with store_errors(store.uri):
        return patiently(step, store.config.patience_s)


def past_of(store: Store, name: str, champion: int) -> list[Past]:
    """Fetch the versions that were rejected since the champion was made, and those that were rolled back."""
    found = []
    with store_errors(store.uri):
        for version in every(store.client.search_model_versions, f"name = '{name}'"):
            withdrawn = promotion.ROLLED_BACK in version.tags
            rejected = version.tags.get(promotion.VERDICT) == "challenger" and int(version.version) > champion
            if withdrawn or rejected:
                replaces = version.tags.get(promotion.REPLACES)
                found.append(
                    Past(
                        version=int(version.version),
                        alias="rolled back" if withdrawn else "challenger",
                        quarantined=promotion.QUARANTINE in version.tags,
                        news=version.tags.get("news", ""),
                        replaces=int(replaces) if replaces else None,
                        reason=version.tags.get(promotion.REASON, ""),
                        attempt=version.tags.get(_ATTEMPT, ""),
                        harder=bool(version.tags.get(_HARDER)),
                        found=_files(store, version),
                    )
                )
    return found


def check_files(store: Store, name: str, number: int) -> None:
    """Refuse a version that cannot be used, by a TrackingError; one that is not there is for others to refuse."""
    with store_errors(store.uri):
        for version in every(store.client.search_model_versions, f"name = '{name}'"):
            if int(version.version) == number:
                read_bundle(bundle_folder(store, version))


def _files(store: Store, version: ModelVersion) -> Files | TrackingError:
    try:
        bundle = bundle_folder(store, version)
    except (PipelineError, MlflowException, OSError) as error:
        if is_outage(error):
            raise
        _log.warning("%s: version %s could not be read: %s", version.name, version.version, error)
        return TrackingError(str(error))
    return Files(bundle=bundle, ledger=bundle.parent / LEDGER)


def _ensure_name(client: MlflowClient, job: Job) -> None:
    try:
        tags = {"task": job.dataset.task, "domain": job.dataset.domain}
        client.create_registered_model(job.registered_name, tags=tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _find(store: Store, sweep_id: str, job: Job) -> ModelVersion | None:
    for version in every(store.client.search_model_versions, f"name = '{job.registered_name}'"):
        if version.tags.get("sweep_id") == sweep_id and version.tags.get("job") == job.name:
            return version
    return None


def _settled(store: Store, version: ModelVersion) -> Registered:
    promotion.settle(store, version.name)
    number = int(version.version)
    tags = store.client.get_model_version(version.name, str(number)).tags
    alias: Alias = tags[promotion.VERDICT]
    first = alias == "champion" and not tags.get(promotion.REPLACES)
    return Registered(name=version.name, version=number, alias=alias, reason=tags[promotion.REASON], first=first)


def _create(
    store: Store,
    name: str,
    content: Content,
    run_id: str,
    tags: dict[str, str],
    judged: dict[str, str],
    stated: Mapping[str, str],
) -> ModelVersion:
    client = store.client
    logged = name.replace(".", "-")  # a logged model's name may have no dot, unlike a registered one's
    model = _find_logged(store, tags) or client.create_logged_model(
        store.experiment_id, name=logged, source_run_id=run_id, tags=tags
    )
    with tempfile.TemporaryDirectory(prefix="model-") as temporary:
        client.log_model_artifacts(model.model_id, str(content.save(Path(temporary), run_id, model.model_id)))
    if (copied := local_path(model.artifact_location)) is not None:  # before a version can name it
        sync_below(copied.parent.parent.parent, copied)
    model = client.finalize_logged_model(model.model_id, "READY")
    outputs = client.get_run(run_id).outputs
    if outputs is None or model.model_id not in [output.model_id for output in outputs.model_outputs]:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    usage = content.usage(store.uri, model.model_id, name)
    return client.create_model_version(
        name,
        # The location and not `models:/<id>`, which MLflow resolves through the process-wide tracking address.
        source=model.artifact_location,
        run_id=run_id,
        model_id=model.model_id,
        tags={**tags, **judged},
        description=model_card(content.bundle, content.origin, stated, usage=usage),
    )


def _find_logged(store: Store, tags: Mapping[str, str]) -> LoggedModel | None:
    """The model of a registration that was cut off, or whose reply was lost."""
    wanted = " AND ".join(f"tags.{name} = '{tags[name]}'" for name in ("sweep_id", "job"))
    return next(every(store.client.search_logged_models, [store.experiment_id], wanted), None)


def _tags(sweep_id: str, job: Job, winner: JobTested, record: BundleRecord) -> dict[str, str]:
    values = {
        "sweep_id": sweep_id,
        "job": job.name,
        "trial": winner.trial.key,
        "metric": job.task.config.primary,
        "validation": winner.validation,
        "test": winner.primary,
        "test_low": winner.low,
        "test_high": winner.high,
        "baseline": winner.baseline,
        "checkpoint": record.checkpoint.name,
        "checkpoint_sha256": record.checkpoint_sha256,
        "method": record.method.name,
        "source": job.dataset.source,
        "data_fingerprint": data_fingerprint(job),
    }
    return {key: str(value) for key, value in values.items()}
