"""What Kubernetes is asked for, as plain data: a Ray cluster and a job of KubeRay, and MLflow with what it needs.

Pure functions from the config. A secret is named, never held. Nothing here was applied to a Kubernetes: the Ray
objects are checked against KubeRay's schemas, and the rest follows the documents of each image.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.kubernetes import HeadConfig, KubernetesConfig, WorkersConfig, in_bytes
from pipeline.config.sweep import ClusterConfig
from pipeline.rules.slots import num_slots

Manifest = dict[str, Any]
"""An object of Kubernetes."""

RUNS = "/data/runs"
"""Folder of the sweeps' own files on the head."""
PASSWORD, ACCESS_KEY, SECRET_KEY, TOKEN = "password", "access-key", "secret-key", "token"
"""Keys in the secrets, as `SecretsConfig` tells of them."""
APP = "/app"
"""The checkout in the image, as conf/cluster/Dockerfile has it."""
DASHBOARD = 8265
"""The head's port that takes jobs."""
_USER = 1000  # of conf/cluster/Dockerfile, and of the object store's image
_POSTGRES_USER = 999  # of PostgreSQL's image for Debian
_BUCKET = "mlflow"
_PORTS = {"mlflow": 5000, "postgres": 5432, "object-store": 8333}
_STOP_S = 60  # for a sweep's snapshots and last records after Ctrl-C; Ray's own default is 3
_KEPT_S = 300  # a finished job's cluster, so that its logs can be looked at

# A bucket is made before the server starts; again at each start, since the volume may be a new one.
_MAKE_BUCKET = f"""\
import os, boto3
from botocore.config import Config
from botocore.exceptions import ClientError

by_path = Config(s3={{"addressing_style": "path"}})
store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"], config=by_path)
try:
    store.head_bucket(Bucket="{_BUCKET}")
except ClientError:
    store.create_bucket(Bucket="{_BUCKET}")
"""


def render(config: KubernetesConfig, ray_version: str) -> dict[str, list[Manifest]]:
    """Say what is asked for, by the file that it goes into.

    Args:
        config: The settings.
        ray_version: Of the image: KubeRay wants to know it for token authentication.

    Returns:
        File name -> objects; what a file needs is in those before it.
    """
    return {
        "postgres.yaml": postgres(config),
        "object-store.yaml": object_store(config),
        "mlflow.yaml": mlflow(config),
        # In a file of its own: `kubectl delete -f cluster.yaml` must not take the sweeps' files along.
        "runs.yaml": [_claim(config, f"{config.name}-runs", config.volumes.runs)],
        "job.yaml": [ray_job(config, ray_version)],
        "cluster.yaml": [ray_cluster(config, ray_version)],
    }


def ray_cluster(config: KubernetesConfig, ray_version: str) -> Manifest:
    """Make the cluster that stays, for `make submit`."""
    return kubernetes_object(config, "ray.io/v1", "RayCluster", config.name, cluster_spec(config, ray_version))


def ray_job(config: KubernetesConfig, ray_version: str) -> Manifest:
    """Make the job: the command on a cluster of its own, which goes when it has ended."""
    spec = job_spec(config, ray_version, entrypoint(config))
    return kubernetes_object(config, "ray.io/v1", "RayJob", f"{config.name}-{config.command[0]}", spec)


def job_spec(config: KubernetesConfig, ray_version: str, line: str) -> Manifest:
    """Describe a job that runs a line of the head's shell on a cluster of its own."""
    return {
        "entrypoint": line,
        "backoffLimit": config.backoff_limit,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _KEPT_S,
        "rayClusterSpec": cluster_spec(config, ray_version),
    }


def entrypoint(config: KubernetesConfig) -> str:
    """Write the line that the head's shell runs."""
    variables, own = _given(config)
    return command_line(config.command[0], ["CLUSTER=existing", *variables, *overrides(config), *own])


def command_line(command: str, words: Sequence[str]) -> str:
    """Write a line of the head's shell that runs a command of the checkout in the image."""
    return f"cd {APP} && exec {shlex.join(['python', '-m', 'jobs', command, *words])}"


def submit_line(config: KubernetesConfig) -> str:
    """Write the line that has the same run on the cluster that stands, where its dashboard's port is forwarded to."""
    variables, own = _given(config)
    to = [f"COMMAND={config.command[0]}", f"ADDRESS=http://127.0.0.1:{DASHBOARD}"]
    args = ["submit.environment=image", *overrides(config), *own]
    return shlex.join(["make", "submit", *to, *variables, f"ARGS={shlex.join(args)}"])


def _given(config: KubernetesConfig) -> tuple[list[str], list[str]]:
    """The variables of the command, and the settings of its ARGS, which come last, so that they win."""
    words = config.command[1:]
    own = [one for word in words if word.startswith("ARGS=") for one in shlex.split(word.removeprefix("ARGS="))]
    return [word for word in words if not word.startswith("ARGS=")], own


def overrides(config: KubernetesConfig) -> list[str]:
    """What a command is told of the cluster and of MLflow."""
    workers = config.workers
    trial = ClusterConfig(gpus_per_trial=workers.gpus_per_trial, cpus_per_trial=workers.cpus_per_trial)
    # Of all workers: those that are there when the sweep begins may be none.
    slots = num_slots(trial, [{"CPU": workers.cpus, "GPU": workers.gpus}] * workers.max)
    return [
        f"tracking.uri=http://{config.name}-mlflow:{_PORTS['mlflow']}",
        f"runs={RUNS}",
        f"cluster.slots={slots}",
        f"cluster.gpus_per_trial={workers.gpus_per_trial:g}",
        f"cluster.cpus_per_trial={workers.cpus_per_trial}",
    ]


def cluster_spec(config: KubernetesConfig, ray_version: str) -> Manifest:
    """Describe a Ray cluster, the standing one or a job's."""
    workers = config.workers
    return {
        "rayVersion": ray_version,
        # KubeRay makes a secret of the cluster's name with a random token, and hands it to all pods.
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"idleTimeoutSeconds": workers.idle_timeout_s},
        "headGroupSpec": {
            "rayStartParams": _start(config.head) | {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
            "template": {"spec": _head_pod(config)},
        },
        "workerGroupSpecs": [
            {
                "groupName": "gpu",
                "replicas": workers.min,
                "minReplicas": workers.min,
                "maxReplicas": workers.max,
                "rayStartParams": _start(workers),
                "template": {"spec": _worker_pod(config)},
            }
        ],
    }


def postgres(config: KubernetesConfig) -> list[Manifest]:
    """Make MLflow's database."""
    password = secret_env("POSTGRES_PASSWORD", config.secrets.postgres, PASSWORD)
    container = {
        "name": "postgres",
        "image": config.images.postgres,
        "env": [
            plain_env("POSTGRES_USER", "mlflow"),
            plain_env("POSTGRES_DB", "mlflow"),
            password,
            plain_env("PGDATA", "/var/lib/postgresql/data/pgdata"),  # a volume's root holds lost+found
        ],
        "resources": resources_of("1", "1Gi"),
        "readinessProbe": _probe({"exec": {"command": ["pg_isready", "-U", "mlflow", "-d", "mlflow"]}}),
        "volumeMounts": [_mount("data", "/var/lib/postgresql/data")],
    }
    return _stateful(config, "postgres", container, config.volumes.postgres, user=_POSTGRES_USER)


def object_store(config: KubernetesConfig) -> list[Manifest]:
    """Make the store of MLflow's artifacts: SeaweedFS in one pod."""
    port = _PORTS["object-store"]
    container = {
        "name": "object-store",
        "image": config.images.object_store,
        # Not by the image's entry point, which would reserve a GB for each of a bucket's volumes. Its parts speak to
        # one another without a password, so that they do so inside the pod; S3, which wants the keys, is for others.
        "command": ["/usr/bin/weed", "server", "-dir=/data", "-volume.max=0", "-master.volumeSizeLimitMB=1024"],
        "args": [
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-s3", f"-s3.port={port}"),
            *("-s3.ip.bind=0.0.0.0", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        ],
        "env": _store_keys(config),
        "resources": resources_of("1", "2Gi"),
        "readinessProbe": _probe({"tcpSocket": {"port": port}}),
        "volumeMounts": [_mount("data", "/data")],
    }
    return _stateful(config, "object-store", container, config.volumes.artifacts, user=_USER)


def mlflow(config: KubernetesConfig) -> list[Manifest]:
    """Make the tracking server, through which artifacts go too: the Ray nodes have no key of the store."""
    service, port = f"{config.name}-mlflow", _PORTS["mlflow"]
    names = [service, f"{service}.{config.namespace}", f"{service}.{config.namespace}.svc"]
    # MLflow answers 403 to any other Host header; localhost is `kubectl port-forward`.
    hosts = [f"{host}:{port}" for host in (*names, f"{names[-1]}.cluster.local", "localhost", "127.0.0.1")]
    env = [
        # For libpq, which takes it where the address has none: in the address, which `ps` shows, a password would
        # have to be escaped.
        secret_env("PGPASSWORD", config.secrets.postgres, PASSWORD),
        *_store_keys(config),
        plain_env("AWS_DEFAULT_REGION", "us-east-1"),
        # Checksums that Amazon's store alone is sure to know.
        plain_env("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required"),
        plain_env("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required"),
        plain_env("MLFLOW_S3_ENDPOINT_URL", f"http://{config.name}-object-store:{_PORTS['object-store']}"),
        plain_env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false"),
        plain_env("MLFLOW_DISABLE_TELEMETRY", "true"),
        plain_env("HOME", "/tmp"),  # the user has none in the image
    ]
    shared = {"image": config.images.mlflow, "env": env, "resources": resources_of("1", "2Gi")}
    server = {
        "name": "mlflow",
        **shared,
        "command": ["mlflow", "server"],
        "args": [
            *("--host", "0.0.0.0", "--port", str(port), "--workers", "2", "--allowed-hosts", ",".join(hosts)),
            *(
                "--backend-store-uri",
                f"postgresql+psycopg2://mlflow@{config.name}-postgres:{_PORTS['postgres']}/mlflow",
            ),
            *("--serve-artifacts", "--artifacts-destination", f"s3://{_BUCKET}/artifacts"),
        ],
        "ports": [{"containerPort": port}],
        # Not ready for as long as it waits for the database and makes its tables.
        "readinessProbe": _probe({"httpGet": {"path": "/health", "port": port}}),
    }
    bucket = {"name": "bucket", **shared, "command": ["python", "-c", _MAKE_BUCKET]}
    pod = plain_pod([server], [], user=_USER) | {"initContainers": [bucket]}
    labels = _labels(config, "mlflow")
    spec = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},  # two versions must not change the tables side by side
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return [_service(config, "mlflow"), kubernetes_object(config, "apps/v1", "Deployment", service, spec)]


def _head_pod(config: KubernetesConfig) -> Manifest:
    # Ray's jobs stop their command as Ctrl-C does, and wait for its snapshots.
    stop = [plain_env("RAY_JOB_STOP_SIGNAL", "SIGINT"), plain_env("RAY_JOB_STOP_WAIT_TIME_S", str(_STOP_S))]
    container = _ray_container(config, config.head, "ray-head", {}, stop)
    container["ports"] = [
        {"name": "gcs-server", "containerPort": 6379},
        {"name": "dashboard", "containerPort": DASHBOARD},
        {"name": "client", "containerPort": 10001},
    ]
    container["volumeMounts"].append(_mount("runs", "/data"))
    runs = {"name": "runs", "persistentVolumeClaim": {"claimName": f"{config.name}-runs"}}
    return plain_pod([container], [_shared_memory(config.head), runs], user=_USER)


def _worker_pod(config: KubernetesConfig) -> Manifest:
    gpus = {"nvidia.com/gpu": config.workers.gpus}
    container = _ray_container(config, config.workers, "ray-worker", gpus, [])
    pod = plain_pod([container], [_shared_memory(config.workers)], user=_USER)
    # The mark that GPU nodes commonly have, so that nothing else lands on them.
    return pod | {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]}


def _ray_container(
    config: KubernetesConfig,
    node: HeadConfig | WorkersConfig,
    name: str,
    devices: Mapping[str, int],
    env: Sequence[Manifest],
) -> Manifest:
    token = config.secrets.huggingface
    return {
        "name": name,
        "image": config.image,
        "env": [*env, *([secret_env("HF_TOKEN", token, TOKEN)] if token else [])],
        "resources": resources_of(str(node.cpus), node.memory, devices),  # what KubeRay tells Ray of
        "volumeMounts": [_mount("shared-memory", "/dev/shm")],
    }


def _start(node: HeadConfig | WorkersConfig) -> dict[str, str]:
    # Ray would move to the disk if /dev/shm had less than this.
    return {"object-store-memory": str(in_bytes(node.shared_memory) * 95 // 100)}


def _shared_memory(node: HeadConfig | WorkersConfig) -> Manifest:
    return {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": node.shared_memory}}


def _stateful(config: KubernetesConfig, part: str, container: Manifest, size: str, *, user: int) -> list[Manifest]:
    """Make a StatefulSet of one pod with a volume, and its Service."""
    labels = _labels(config, part)
    container["ports"] = [{"containerPort": _PORTS[part]}]
    spec = {
        "replicas": 1,
        "serviceName": f"{config.name}-{part}",
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": plain_pod([container], [], user=user)},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": _claimed(config, size)}],
    }
    return [_service(config, part), kubernetes_object(config, "apps/v1", "StatefulSet", f"{config.name}-{part}", spec)]


def plain_pod(containers: Sequence[Manifest], volumes: Sequence[Manifest], *, user: int) -> Manifest:
    return {
        # Without the variables that Kubernetes makes of services: one called mlflow would set MLFLOW_PORT.
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": user, "runAsGroup": user, "fsGroup": user},
        "containers": list(containers),
        "volumes": list(volumes),
    }


def _service(config: KubernetesConfig, part: str) -> Manifest:
    spec = {"selector": _labels(config, part), "ports": [{"port": _PORTS[part], "targetPort": _PORTS[part]}]}
    return kubernetes_object(config, "v1", "Service", f"{config.name}-{part}", spec)


def _claim(config: KubernetesConfig, name: str, size: str) -> Manifest:
    return kubernetes_object(config, "v1", "PersistentVolumeClaim", name, _claimed(config, size))


def _claimed(config: KubernetesConfig, size: str) -> Manifest:
    spec: Manifest = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return spec | ({"storageClassName": config.volumes.storage_class} if config.volumes.storage_class else {})


def kubernetes_object(config: KubernetesConfig, version: str, kind: str, name: str, spec: Manifest) -> Manifest:
    labels = {"app.kubernetes.io/part-of": config.name}
    metadata = {"name": name, "namespace": config.namespace, "labels": labels}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _labels(config: KubernetesConfig, part: str) -> dict[str, str]:
    return {"app.kubernetes.io/instance": config.name, "app.kubernetes.io/name": part}


def _store_keys(config: KubernetesConfig) -> list[Manifest]:
    secret = config.secrets.object_store
    return [
        secret_env("AWS_ACCESS_KEY_ID", secret, ACCESS_KEY),
        secret_env("AWS_SECRET_ACCESS_KEY", secret, SECRET_KEY),
    ]


def secret_env(name: str, secret: str, key: str) -> Manifest:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def plain_env(name: str, value: str) -> Manifest:
    return {"name": name, "value": value}


def resources_of(cpus: str, memory: str, devices: Mapping[str, int] | None = None) -> Manifest:
    amounts = {"cpu": cpus, "memory": memory, **{name: str(count) for name, count in (devices or {}).items()}}
    return {"requests": dict(amounts), "limits": dict(amounts)}


def _probe(check: Manifest) -> Manifest:
    return {**check, "periodSeconds": 5, "timeoutSeconds": 5}


def _mount(name: str, path: str) -> Manifest:
    return {"name": name, "mountPath": path}
