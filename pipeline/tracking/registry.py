"""Registered versions: winners become models, and a rule says which of them is the champion."""

import json
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
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from pipeline.data.rows import Row
from pipeline.engine.bundle import BundleRecord, read_bundle
from pipeline.engine.events import JobTested
from pipeline.engine.trials import Job
from pipeline.errors import ConfigError, Fault, PipelineError, TrackingError
from pipeline.strict import nearest
from pipeline.tracking.bundle_model import BUNDLE, VALIDATION
from pipeline.tracking.fields import data_fingerprint
from pipeline.tracking.outage import is_outage, patiently
from pipeline.tracking.store import Store, every, store_errors

Alias = Literal["champion", "challenger"]
Rescore = Callable[[Path, Path, Path], tuple[float, float]]
"""(challenger's bundle, champion's bundle, its validation rows as JSON lines) -> primary metric of both."""

_LOADER = "pipeline.tracking.bundle_model"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a new version is called, and why."""

    alias: Alias
    reason: str


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


def judge(challenger: float, champion: float, *, version: int, num_rows: int) -> Verdict:
    """Decide between the new version and the present champion.

    Args:
        challenger: Score of the new version on the champion's validation rows.
        champion: The champion's own score on them.
        version: The champion's.
        num_rows: How many rows there are.
    """
    rows = f"version {version} on its {num_rows} validation rows"
    if challenger > champion:
        return Verdict(alias="champion", reason=f"{challenger:.4f} beats the {champion:.4f} of {rows}")
    return Verdict(alias="challenger", reason=f"{challenger:.4f} does not beat the {champion:.4f} of {rows}")


def register(store: Store, sweep_id: str, job: Job, winner: JobTested, run_id: str, rescore: Rescore) -> Registered:
    """Register a job's winner and give it its alias.

    Done before for the same sweep and job, it only completes what was left undone. While the store is away it is
    tried again for `tracking.patience_s`.

    Args:
        store: The tracking store.
        sweep_id: The sweep that it won in.
        job: The job that it won.
        winner: What the job ended with.
        run_id: The job's run.
        rescore: Scores the new version and the champion side by side; asked only where there is a champion.

    Raises:
        TrackingError: The store refused something.
    """

    def step() -> Registered:
        _ensure_name(store.client, job)
        version = _find(store.client, job.registered_name, sweep_id, job.name)
        if version is None:
            version = _create(store, sweep_id, job, winner, run_id)
        if "verdict" in version.tags:
            verdict = Verdict(alias=version.tags["verdict"], reason=version.tags["reason"])
        else:
            verdict = _judge(store, version, winner.bundle, rescore)
        _apply(store.client, version, verdict)
        return Registered(name=version.name, version=int(version.version), alias=verdict.alias, reason=verdict.reason)

    with store_errors(store.uri):
        return patiently(step, store.config.patience_s)


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

    The rows of its validation split lie beside it, in `validation.jsonl`.

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
        wanted = name.replace("/", ".")
        for model in models:
            # The default domain's job has the task's bare name.
            if wanted in (model.name, f"{model.tags.get('task')}.{model.tags.get('domain')}"):
                return _bundle_folder(store, store.client.get_model_version(model.name, model.aliases[alias]))
    remedy = f"Run `make sweep TASKS={name.replace('.', '/')}` first"
    if models:
        remedy += f". {nearest(wanted, [model.name for model in models])}"
    raise ConfigError(Fault(where="TASK", value=name, rule=f"has no {alias} yet", remedy=remedy))


def _judge(store: Store, version: ModelVersion, bundle: Path, rescore: Rescore) -> Verdict:
    name = version.name
    present = store.client.get_registered_model(name).aliases.get("champion")
    if present is None:
        return Verdict(alias="champion", reason=f"the first of {name}")
    champion = store.client.get_model_version(name, present)
    try:
        old = _bundle_folder(store, champion)
        rows = old.parent / VALIDATION
        new_score, old_score = rescore(bundle, old, rows)
    except (PipelineError, MlflowException, OSError) as error:
        if is_outage(error):
            raise
        # Nothing takes a champion's place that was not compared with it.
        _log.warning("%s: version %s could not be scored again: %s", name, present, error)
        return Verdict(alias="challenger", reason=f"version {present} could not be scored again: {error}")
    num_rows = len(rows.read_text("utf-8").splitlines())
    return judge(new_score, old_score, version=int(present), num_rows=num_rows)


def _apply(client: MlflowClient, version: ModelVersion, verdict: Verdict) -> None:
    name, number = version.name, int(version.version)
    # The verdict before the alias: cut off in between, the alias is set when the sweep is resumed.
    client.set_model_version_tag(name, str(number), "reason", verdict.reason)
    client.set_model_version_tag(name, str(number), "verdict", verdict.alias)
    holder = client.get_registered_model(name).aliases.get(verdict.alias)
    if holder is None or int(holder) < number:
        client.set_registered_model_alias(name, verdict.alias, str(number))


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


def _create(store: Store, sweep_id: str, job: Job, winner: JobTested, run_id: str) -> ModelVersion:
    record = read_bundle(winner.bundle).record
    tags = _tags(sweep_id, job, winner, record)
    client, name = store.client, job.registered_name
    logged = name.replace(".", "-")  # a logged model's name may have no dot, unlike a registered one's
    model = _find_logged(store, tags) or client.create_logged_model(
        store.experiment_id, name=logged, source_run_id=run_id, tags=tags
    )
    with tempfile.TemporaryDirectory(prefix="model-") as temporary:
        folder = Path(temporary)
        data = folder / "data"
        shutil.copytree(winner.bundle, data / BUNDLE)
        _write_rows(data / VALIDATION, job.dataset.validation.rows)
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
        name, source=model.artifact_location, run_id=run_id, model_id=model.model_id, tags=tags
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


def _write_rows(file: Path, rows: Sequence[Row]) -> None:
    # ASCII, so that no character inside a text is taken for the end of a line.
    lines = (json.dumps(dict(row.fields)) + "\n" for row in rows)
    file.write_text("".join(lines), encoding="utf-8")


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
