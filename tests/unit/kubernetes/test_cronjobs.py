"""A schedule on Kubernetes: the RayCronJob against KubeRay's schema, the CronJob against the fields of batch/v1."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.cron import parse
from pipeline.config.overrides import read_command, read_config
from pipeline.config.schedule import ScheduleConfig
from pipeline.errors import ConfigError
from pipeline.kubernetes.manifests import Manifest, cluster_spec, cron_job, ray_cron_job, submission
from pipeline.steps.ship import rewrite
from tests.unit.kubernetes.rendered import configured, faults
from tests.unit.steps.test_schedule import schedule

GIVEN = ["tasks=[sentiment,ner]", "data.source=hub", "cluster.slots=3"]


def settings(*arguments: str) -> ScheduleConfig:
    own = ["on=kubernetes", "command=sweep", *arguments]
    return read_config("schedule", ScheduleConfig, own)


def cron(*arguments: str) -> Manifest:
    return cron_job(configured("namespace=team"), settings(*arguments), "weekly", parse("0 3 * * SUN"), GIVEN)


def ray(*arguments: str) -> Manifest:
    return ray_cron_job(configured(), settings(*arguments), "weekly", parse("0 3 * * 7"), GIVEN, "2.60.0")


@pytest.mark.parametrize("arguments", [(), ("timezone=Europe/Berlin",)])
def test_the_raycronjob_keeps_kuberays_schema(arguments: tuple[str, ...]) -> None:
    assert faults(ray(*arguments)) == []


@pytest.mark.parametrize(("key", "value"), [("concurrencyPolicy", "Forbid"), ("timezone", "UTC"), ("schedule", 3)])
def test_a_planted_wrong_field_of_the_raycronjob_is_found(key: str, value: object) -> None:
    manifest = ray()
    manifest["spec"][key] = value
    assert len(faults(manifest)) == 1


def test_the_cronjob_has_the_fields_of_batch_v1_and_forbids_overlap() -> None:
    manifest = cron("timezone=Europe/Berlin", "starting_deadline_s=600")
    assert (manifest["apiVersion"], manifest["kind"]) == ("batch/v1", "CronJob")
    assert manifest["metadata"]["name"] == "adapters-weekly"
    assert len(manifest["metadata"]["name"]) <= 52  # Kubernetes puts 11 characters behind it
    assert manifest["metadata"]["namespace"] == "team"
    spec = manifest["spec"]
    assert set(spec) == {
        "schedule", "timeZone", "concurrencyPolicy", "startingDeadlineSeconds", "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit", "jobTemplate",
    }  # fmt: skip
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("0 3 * * 0", "Europe/Berlin", "Forbid")
    assert spec["startingDeadlineSeconds"] == 600
    job = spec["jobTemplate"]["spec"]
    assert job["backoffLimit"] == 0
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-m", "jobs", "submit"]
    reference = {"secretKeyRef": {"name": "adapters", "key": "auth_token"}}  # which KubeRay makes
    assert {"name": "RAY_AUTH_TOKEN", "valueFrom": reference} in container["env"]
    assert "timeZone" not in cron()["spec"]


def test_what_the_cronjob_submits_is_what_submit_takes_and_it_waits_there() -> None:
    args = cron()["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"]
    own, given = read_command("submit", args)
    assert own.address == "http://adapters-head-svc:8265"
    assert (own.command, own.environment, own.ship) == ("sweep", "image", False)
    words, folders, _, runs = rewrite(own, given)
    assert folders == {}
    assert runs == "/data/runs"
    (config,) = read_command("sweep", words)
    assert (config.cluster.name, config.cluster.slots) == ("existing", 3)  # what the user says comes last
    assert config.tracking.uri == "http://adapters-mlflow:5000"


def test_a_dollar_sign_is_not_expanded_by_kubernetes() -> None:
    manifest = cron_job(configured(), settings(), "weekly", parse("0 3 * * 0"), ['tracking.experiment="$(HOME)"'])
    args = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[-1] == 'tracking.experiment="$$(HOME)"'


def test_the_raycronjob_runs_the_command_on_a_cluster_of_its_own() -> None:
    template = ray()["spec"]["jobTemplate"]
    assert template["rayClusterSpec"] == cluster_spec(configured(), "2.60.0")
    assert template["shutdownAfterJobFinishes"] is True
    place, line = template["entrypoint"].split(" && ")
    assert place == "cd /app"
    words = shlex.split(line)
    assert words[:5] == ["exec", "python", "-m", "jobs", "sweep"]
    (config,) = read_command("sweep", words[5:])
    assert (config.cluster.name, config.cluster.slots, config.runs) == ("existing", 3, "/data/runs")
    assert config.tasks == ["sentiment", "ner"]


def run(target: Path, *arguments: str) -> None:
    words = ["schedule.on=kubernetes", "schedule.command=sweep", f'schedule.target="{target}"', *arguments]
    schedule(*words, "tasks=[sentiment]")


def test_the_command_writes_both_and_refuses_what_the_submission_would(tmp_path: Path) -> None:
    target = tmp_path / "k8s"
    run(target, "manifests.name=lab", "data.source=hub")
    found: dict[str, Any] = {file.name: yaml.safe_load(file.read_text("utf-8")) for file in target.iterdir()}
    assert set(found) == {"cronjob.yaml", "raycronjob.yaml"}
    assert {one["metadata"]["name"] for one in found.values()} == {"lab-sentiment"}
    with pytest.raises(ConfigError, match=r"schedule\.target: .*k8s' is there already\. Give another folder"):
        run(target)
    with pytest.raises(ConfigError, match=r"engine\.epoch: is no config key"):
        run(tmp_path / "other", "engine.epoch=3")
    with pytest.raises(ConfigError, match=r"tracking\.uri: .* is a file"):
        run(tmp_path / "other", "tracking.uri=sqlite:///x.db")
    with pytest.raises(ConfigError, match="image: 'x' must be an image with a tag"):
        run(tmp_path / "other", "manifests.image=x")
    assert [path.name for path in tmp_path.iterdir()] == ["k8s"]
    assert submission(configured(), "sweep", [])[0] == "submit.command=sweep"


def test_a_name_that_is_too_long_for_a_cronjob_is_refused_before_it_is_written(tmp_path: Path) -> None:
    words = ["schedule.on=kubernetes", "schedule.id=abcdefghijklmnopqrstuvwx", f"schedule.target={tmp_path}/out"]
    long = f"manifests.name={'a' * 39}"
    with pytest.raises(ConfigError, match=r"ID: 'a{39}-abc.*' is longer than the 52 characters"):
        schedule(*words, "tasks=[sentiment]", "data=hub", long)
    assert not (tmp_path / "out").exists()
