"""Registered versions: winners become models, and a rule says which of them is the champion."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import mlflow.artifacts
import mlflow.pyfunc
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from pipeline.config.strict import nearest
from pipeline.core.data.ledger import Ledger, write_ledger
from pipeline.core.engine.bundle import BundleRecord, read_bundle
from pipeline.core.engine.events import JobTested
from pipeline.core.engine.trials import Job
from pipeline.errors import ConfigError, Fault, PipelineError, TrackingError
from pipeline.tracking import promotion
from pipeline.tracking.bundle_model import BUNDLE, LEDGER
from pipeline.tracking.fields import data_fingerprint
from pipeline.tracking.outage import is_outage, patiently
from pipeline.tracking.store import Store, every, store_errors

Alias = Literal["champion", "challenger"]

_LOADER = "pipeline.tracking.bundle_model"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Champion:
    """The version that a new one is judged against."""

    version: int
    bundle: Path
    ledger: Path
    """Folder of what it has seen, for `read_ledger`."""
    test: float
    """Its score on its own test rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a new version is called, why, and what it has seen."""

    alias: Alias
    reason: str
    ledger: Ledger
    news: str = ""
    """Names the new rows that it was trained for."""


Judge = Callable[[Champion | None, str | None], Verdict]
"""(present champion, why it could not be read) -> verdict on the new version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    """A winner in the registry."""

    name: str
    version: int
    alias: Alias
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """A registered version that an alias points to."""

    name: str
    version: int
    alias: str
    job: str
    metric: str
    validation: float
    test: float
    low: float
    high: float
    """95 % interval of `test`."""
    baseline: float
    checkpoint: str
    checkpoint_sha256: str
    method: str
    source: str
    """Of the data."""
    created: datetime
    sweep_id: str
    run_id: str
    """Of the job that it won."""
    reason: str
    """Why it has its alias."""


def register(store: Store, sweep_id: str, job: Job, winner: JobTested, run_id: str, judge: Judge) -> Registered:
    """Register a job's winner and give it its alias.

    Done before for the same sweep and job, it only completes what was left undone. While the store is away it is
    tried again for `tracking.patience_s`.

    Args:
        store: The tracking store.
        sweep_id: The sweep that it won in.
        job: The job that it won.
        winner: What the job ended with.
        run_id: The job's run.
        judge: Compares it with the champion.

    Raises:
        TrackingError: The store refused something.
    """

    def step() -> Registered:
        name = job.registered_name
        _ensure_name(store.client, job)
        promotion.settle(store, name)
        version = _find(store.client, name, sweep_id, job.name)
        if version is None:
            replaces = store.client.get_registered_model(name).aliases.get("champion")
            present, missing = _champion(store, name, replaces)
            verdict = judge(present, missing)
            version = _create(store, sweep_id, job, winner, run_id, verdict, replaces or "")
        promotion.settle(store, name)
        tags = store.client.get_model_version(name, version.version).tags
        return Registered(name=name, version=int(version.version), alias=tags["verdict"], reason=tags["reason"])

    with store_errors(store.uri):
        return patiently(step, store.config.patience_s)


def registered_as(store: Store, name: str) -> str:
    """Find the registered name of a task or job that a user names.

    Raises:
        ConfigError: There is no such name.
    """
    with store_errors(store.uri):
        models = list(every(store.client.search_registered_models))
    return str(_named(name, models).name)


def champion_of(store: Store, name: str) -> Champion | None:
    """Fetch the champion of a registered name, if there is one.

    Raises:
        TrackingError: It cannot be read.
    """
    with store_errors(store.uri):
        if not store.client.search_registered_models(f"name = '{name}'"):
            return None
        promotion.settle(store, name)
        present = store.client.get_registered_model(name).aliases.get("champion")
        return None if present is None else _fetched(store, name, present)


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """A version that is not champion, and what a new pass has to know of it."""

    version: int
    alias: str
    """`challenger`, or `rolled back`."""
    quarantined: bool
    """Whether the rows that were new to it are left out."""
    news: str
    replaces: int | None
    """The champion that it was judged against."""
    reason: str
    ledger: Path


def past_of(store: Store, name: str, champion: int) -> list[Past]:
    """Fetch the versions that were rejected since the champion was made, and those that were rolled back.

    Raises:
        TrackingError: They cannot be read.
    """
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
                        ledger=_bundle_folder(store, version).parent / LEDGER,
                    )
                )
    return found


def champions(store: Store) -> list[Version]:
    """List the versions that are champion or challenger, by name; champions first.

    Raises:
        TrackingError: The store refused something.
    """
    found = []
    with store_errors(store.uri):
        for model in every(store.client.search_registered_models, order_by=["name"]):
            for alias in ("champion", "challenger"):
                if alias in model.aliases:
                    version = store.client.get_model_version(model.name, model.aliases[alias])
                    if "sweep_id" in version.tags:  # else somebody else's model
                        found.append(_describe(version, alias))
    return found


def fetch(store: Store, name: str, alias: str = "champion") -> Path:
    """Locate the bundle of a registered version; from a server it is downloaded to a temporary folder.

    What it has seen lies beside it, in `ledger`.

    Args:
        store: The tracking store.
        name: Registered name (`sentiment`, `sentiment.movies`) or job (`sentiment/films`).
        alias: Which version.

    Raises:
        ConfigError: There is no such name, or it has no such alias.
        TrackingError: The artifacts are not where the registry says.
    """
    with store_errors(store.uri):
        models = [m for m in every(store.client.search_registered_models) if alias in m.aliases]
        model = _named(name, models, alias)
        return _bundle_folder(store, store.client.get_model_version(model.name, model.aliases[alias]))


def _named(name: str, models: Sequence[RegisteredModel], alias: str = "champion") -> RegisteredModel:
    wanted = name.replace("/", ".")
    for model in models:
        # The default domain's job has the task's bare name.
        if wanted in (model.name, f"{model.tags.get('task')}.{model.tags.get('domain')}"):
            return model
    remedy = f"Run `make sweep TASKS={name.replace('.', '/')}` first"
    if models:
        remedy += f". {nearest(wanted, [model.name for model in models])}"
    raise ConfigError(Fault(where="TASK", value=name, rule=f"has no {alias} yet", remedy=remedy))


def _champion(store: Store, name: str, present: str | None) -> tuple[Champion | None, str | None]:
    """The present champion, or why it cannot be read: nothing takes its place that was not compared with it."""
    if present is None:
        return None, None
    try:
        return _fetched(store, name, present), None
    except (PipelineError, MlflowException, OSError) as error:
        if is_outage(error):
            raise
        _log.warning("%s: version %s could not be read: %s", name, present, error)
        return None, f"version {present} could not be scored again: {error}"


def _fetched(store: Store, name: str, number: str) -> Champion:
    version = store.client.get_model_version(name, number)
    bundle = _bundle_folder(store, version)
    return Champion(version=int(number), bundle=bundle, ledger=bundle.parent / LEDGER, test=float(version.tags["test"]))


def _ensure_name(client: MlflowClient, job: Job) -> None:
    try:
        tags = {"task": job.dataset.task, "domain": job.dataset.domain}
        client.create_registered_model(job.registered_name, tags=tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _find(client: MlflowClient, name: str, sweep_id: str, job: str) -> ModelVersion | None:
    for version in every(client.search_model_versions, f"name = '{name}'"):
        if version.tags.get("sweep_id") == sweep_id and version.tags.get("job") == job:
            return version
    return None


def _create(
    store: Store, sweep_id: str, job: Job, winner: JobTested, run_id: str, verdict: Verdict, replaces: str
) -> ModelVersion:
    record = read_bundle(winner.bundle).record
    tags = _tags(sweep_id, job, winner, record)
    # With the version itself, so that whoever finds it knows what is to be done with it.
    judged = {
        promotion.VERDICT: verdict.alias,
        promotion.REASON: verdict.reason,
        promotion.REPLACES: replaces,
        "news": verdict.news,
    }
    client, name = store.client, job.registered_name
    logged = name.replace(".", "-")  # a logged model's name may have no dot, unlike a registered one's
    model = _find_logged(store, tags) or client.create_logged_model(
        store.experiment_id, name=logged, source_run_id=run_id, tags=tags
    )
    with tempfile.TemporaryDirectory(prefix="model-") as temporary:
        folder = Path(temporary)
        data = folder / "data"
        shutil.copytree(winner.bundle, data / BUNDLE)
        write_ledger(data / LEDGER, verdict.ledger)
        # Given, since MLflow would load the model in another process to find out.
        requirements = [f"{package}=={version}" for package, version in record.versions.items()]
        mlflow.pyfunc.save_model(
            folder / "model",
            loader_module=_LOADER,
            data_path=str(data),
            pip_requirements=requirements,
            mlflow_model=Model(run_id=run_id, model_id=model.model_id),
        )
        client.log_model_artifacts(model.model_id, str(folder / "model"))
    model = client.finalize_logged_model(model.model_id, "READY")
    outputs = client.get_run(run_id).outputs
    if outputs is None or model.model_id not in [output.model_id for output in outputs.model_outputs]:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    # The location and not `models:/<id>`, which MLflow resolves through the process-wide tracking address.
    return client.create_model_version(
        name, source=model.artifact_location, run_id=run_id, model_id=model.model_id, tags={**tags, **judged}
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


def _bundle_folder(store: Store, version: ModelVersion) -> Path:
    source = str(version.source)
    model = Path(source if store.is_local else _download(store, source))
    flavor = Model.load(str(model)).flavors[mlflow.pyfunc.FLAVOR_NAME]
    folder = model / str(flavor[mlflow.pyfunc.DATA]) / BUNDLE
    if not folder.is_dir():
        raise TrackingError(f"{version.name} version {version.version}: there is no bundle at {folder}")
    return folder


def _download(store: Store, source: str) -> str:
    return str(mlflow.artifacts.download_artifacts(artifact_uri=source, tracking_uri=store.uri))


def _describe(version: ModelVersion, alias: str) -> Version:
    tags: Mapping[str, Any] = version.tags
    return Version(
        name=version.name,
        version=int(version.version),
        alias=alias,
        job=tags["job"],
        metric=tags["metric"],
        validation=float(tags["validation"]),
        test=float(tags["test"]),
        low=float(tags["test_low"]),
        high=float(tags["test_high"]),
        baseline=float(tags["baseline"]),
        checkpoint=tags["checkpoint"],
        checkpoint_sha256=tags["checkpoint_sha256"],
        method=tags["method"],
        source=tags["source"],
        created=datetime.fromtimestamp(version.creation_timestamp / 1000, tz=UTC),
        sweep_id=tags["sweep_id"],
        run_id=version.run_id,
        reason=tags.get("reason", ""),
    )
