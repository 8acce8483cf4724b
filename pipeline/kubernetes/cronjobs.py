"""A schedule on Kubernetes, as plain data: a CronJob that submits to a cluster which stands, or a RayCronJob.

Pure functions from the config. Nothing here was applied to a Kubernetes. Both leave the lock of the registry to the
command: a RayCronJob has no rule against overlapping passes, and a CronJob only one against its own.
"""

from collections.abc import Sequence
from typing import Any

from pipeline.config.cron import Cron
from pipeline.config.kubernetes import KubernetesConfig
from pipeline.config.schedule import ScheduleConfig
from pipeline.kubernetes.manifests import (
    DASHBOARD,
    Manifest,
    command_line,
    job_spec,
    kubernetes_object,
    overrides,
    plain_env,
    plain_pod,
    resources_of,
    secret_env,
)

_USER = 1000  # of conf/cluster/Dockerfile
_KEPT = 3  # finished jobs with their logs, of those that went well and of the others


def cron_job(
    config: KubernetesConfig, schedule: ScheduleConfig, name: str, cron: Cron, arguments: Sequence[str]
) -> Manifest:
    """Make the CronJob whose pod submits the command to the standing cluster, follows its log, and ends as it does.

    Args:
        config: Of the cluster.
        schedule: The settings of the schedule.
        name: Its id.
        cron: Its times.
        arguments: The command's own overrides.
    """
    container = {
        "name": "submit",
        "image": config.image,
        "command": ["python", "-m", "jobs", "submit"],
        # $(NAME) would be taken for a variable of the pod.
        "args": [word.replace("$(", "$$(") for word in submission(config, schedule.command, arguments)],
        "env": [
            # KubeRay keeps the cluster's token in a secret of the cluster's name.
            plain_env("RAY_AUTH_MODE", "token"),
            secret_env("RAY_AUTH_TOKEN", config.name, "auth_token"),
        ],
        "resources": resources_of("1", "2Gi"),
    }
    # Not started again by Kubernetes: the next time is the retry.
    pod = plain_pod([container], [], user=_USER) | {"restartPolicy": "Never"}
    spec: dict[str, Any] = {
        "schedule": str(cron),
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": schedule.starting_deadline_s,
        "successfulJobsHistoryLimit": _KEPT,
        "failedJobsHistoryLimit": _KEPT,
        "jobTemplate": {"spec": {"backoffLimit": 0, "template": {"spec": pod}}},
    }
    return kubernetes_object(config, "batch/v1", "CronJob", f"{config.name}-{name}", spec | _zone(schedule))


def submission(config: KubernetesConfig, command: str, arguments: Sequence[str]) -> list[str]:
    """What `submit` is told; the user's own words last, so that they win."""
    own = {
        "command": command,
        "address": f"http://{config.name}-head-svc:{DASHBOARD}",  # the service that KubeRay makes of a cluster
        "environment": "image",
        "ship": "false",
    }
    return [*(f"submit.{key}={value}" for key, value in own.items()), *overrides(config), *arguments]


def ray_cron_job(
    config: KubernetesConfig,
    schedule: ScheduleConfig,
    name: str,
    cron: Cron,
    arguments: Sequence[str],
    ray_version: str,
) -> Manifest:
    """Make the RayCronJob, by which each pass has a cluster of its own; arguments as of `cron_job`."""
    line = command_line(schedule.command, ["cluster=existing", *overrides(config), *arguments])
    spec = {"schedule": str(cron), "jobTemplate": job_spec(config, ray_version, line)}
    return kubernetes_object(config, "ray.io/v1", "RayCronJob", f"{config.name}-{name}", spec | _zone(schedule))


def _zone(schedule: ScheduleConfig) -> dict[str, str]:
    return {"timeZone": schedule.timezone} if schedule.timezone else {}
