"""The manifests against KubeRay's schemas, where those are, and against one another."""

import importlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve import schema

from jobs.__main__ import main
from pipeline.config.commands import commands_from
from pipeline.config.cron import parse
from pipeline.config.kubernetes import in_bytes
from pipeline.config.overrides import read_command, read_config
from pipeline.config.schedule import ScheduleConfig
from pipeline.errors import ConfigError
from pipeline.kubernetes.files import following, text
from pipeline.kubernetes.manifests import cron_job, entrypoint, ray_cron_job
from pipeline.steps.ship import rewrite
from tests.unit.kubernetes.rendered import ROOT, configured, containers, faults, named, objects, pods, rendered, walk

SECRET_NAMES = re.compile(r"PASSWORD|KEY|TOKEN|SECRET|CREDENTIAL")


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob", "RayService"])
@pytest.mark.parametrize("arguments", [(), ("secrets.huggingface=hf", "volumes.storage_class=fast", "workers.gpus=2")])
def test_the_ray_objects_keep_kuberays_schemas(kind: str, arguments: tuple[str, ...]) -> None:
    assert faults(named(kind, *arguments)) == []


@pytest.mark.parametrize(
    ("kind", "path", "key", "value", "message"),
    [
        ("RayCluster", ("spec",), "enableInTreeAutoscalling", True, "enableInTreeAutoscalling"),
        ("RayCluster", ("spec", "authOptions"), "mode", "tokens", "tokens"),
        ("RayCluster", ("spec", "workerGroupSpecs", 0), "maxReplicas", "4", "'4' is not of type 'integer'"),
        ("RayCluster", ("spec", "headGroupSpec", "template", "spec", "containers", 0), "resource", {}, "resource"),
        ("RayJob", ("spec", "rayClusterSpec", "headGroupSpec"), "rayStartParameters", {}, "rayStartParameters"),
        ("RayJob", ("spec",), "backoffLimits", 1, "backoffLimits"),
    ],
)
def test_a_planted_wrong_field_is_found_by_the_schema(
    kind: str, path: tuple[str | int, ...], key: str, value: object, message: str
) -> None:
    manifest = named(kind)
    node: Any = manifest
    for part in path:
        node = node[part]
    node[key] = value
    (found,) = faults(manifest)
    assert message in found


def test_the_service_has_the_cluster_that_stands_and_names_what_the_package_serves() -> None:
    service = named("RayService", "secrets.service=asked", "workers.gpus_per_trial=0.5")
    assert set(service["spec"]) == {"serveConfigV2", "upgradeStrategy", "rayClusterConfig"}
    cluster = named("RayCluster")
    assert faults({**cluster, "spec": service["spec"]["rayClusterConfig"]}) == []
    told = yaml.safe_load(service["spec"]["serveConfigV2"])
    schema.ServeDeploySchema.model_validate(told)  # the operator hands it to Ray, which ignores other keys
    assert told.keys() <= schema.ServeDeploySchema.model_fields.keys()
    assert told["applications"][0].keys() <= schema.ServeApplicationSchema.model_fields.keys()
    assert told["http_options"] == {"host": "0.0.0.0", "port": 8000}
    (application,) = told["applications"]
    module, _, name = application["import_path"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    (config,) = read_command("serve", application["args"]["words"])
    assert (config.tasks, config.serve.gpus, config.tracking.uri) == (["*"], 0.5, "http://adapters-mlflow:5000")
    for pod in pods([service]):
        (token,) = [entry for entry in pod["containers"][0]["env"] if entry["name"] == "SERVE_TOKEN"]
        assert token["valueFrom"] == {"secretKeyRef": {"name": "asked", "key": "token"}}
        assert not any("runs" in str(part) for part in pod["volumes"])  # two heads would wait for the one volume
    assert not any("SERVE_TOKEN" in str(one) for one in (cluster, named("RayService")))


def test_no_manifest_holds_a_secret_and_each_that_is_named_is_one_that_the_user_makes() -> None:
    own = ("secrets.huggingface=hub", "secrets.service=asked")
    config = configured(*own)
    entries = [entry for one in containers(objects(*own)) for entry in one["env"]]
    secret = [entry for entry in entries if SECRET_NAMES.search(entry["name"])]
    assert {entry["name"] for entry in secret} == {
        "POSTGRES_PASSWORD", "PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN",
        "SERVE_TOKEN",
    }  # fmt: skip
    assert [entry for entry in secret if "value" in entry] == []
    known = "\n".join(following(config, Path("manifests")))
    for entry in secret:
        reference = entry["valueFrom"]["secretKeyRef"]
        assert re.search(rf"secret generic {reference['name']} .*--from-literal={reference['key']}=", known)
    assert "kind: Secret" not in text(objects())
    assert not re.search(r"://[^/\s]*:[^/\s]*@", text(objects()))  # nor a password in an address


def test_every_image_is_pinned_and_mlflow_and_ray_are_those_of_the_constraints() -> None:
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M))
    images = {one["image"] for one in containers(objects())}
    assert images == {
        "adapter-pipeline:0.1.0",
        f"ghcr.io/mlflow/mlflow:v{pins['mlflow']}-full",
        configured().images.postgres,
        configured().images.object_store,
    }
    assert named("RayCluster")["spec"]["rayVersion"] == pins["ray"]


def test_pods_run_as_an_ordinary_user_and_know_no_variables_of_services() -> None:
    assert len(pods(objects())) == 10
    for pod in pods(objects()):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] >= 999
        assert pod["enableServiceLinks"] is False  # MLFLOW_PORT=tcp://... would be read as MLflow's port


def test_the_job_brings_the_cluster_that_stands_too_with_token_and_bounds() -> None:
    arguments = ("workers.min=1", "workers.max=3", "workers.gpus=2", "workers.cpus=8", "workers.memory=32Gi")
    job, cluster = named("RayJob", *arguments)["spec"], named("RayCluster", *arguments)["spec"]
    assert job["rayClusterSpec"] == cluster
    assert (job["shutdownAfterJobFinishes"], job["backoffLimit"]) == (True, 0)
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (group,) = cluster["workerGroupSpecs"]
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (1, 1, 3)
    (worker,) = group["template"]["spec"]["containers"]
    assert worker["resources"]["limits"] == {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2"}
    for one in containers(objects(*arguments)):
        assert one["resources"]["requests"] == one["resources"]["limits"]


def test_shared_memory_has_room_for_rays_object_store() -> None:
    cluster = named("RayCluster")["spec"]
    for group in (cluster["headGroupSpec"], cluster["workerGroupSpecs"][0]):
        pod = group["template"]["spec"]
        (volume,) = [volume for volume in pod["volumes"] if volume.get("emptyDir", {}).get("medium") == "Memory"]
        assert {"name": volume["name"], "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]
        size = in_bytes(volume["emptyDir"]["sizeLimit"])
        assert 0.9 * size < int(group["rayStartParams"]["object-store-memory"]) < size


def test_services_select_their_pods_at_ports_that_are_open() -> None:
    found = objects()
    services = [manifest for manifest in found if manifest["kind"] == "Service"]
    workloads = [manifest for manifest in found if manifest["kind"] in ("Deployment", "StatefulSet")]
    assert len(services) == len(workloads) == 3
    for service in services:
        (workload,) = [
            one for one in workloads if one["spec"]["template"]["metadata"]["labels"] == service["spec"]["selector"]
        ]
        assert workload["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
        assert workload["metadata"]["name"] == service["metadata"]["name"]
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        assert [port["targetPort"] for port in service["spec"]["ports"]] == [
            port["containerPort"] for port in container["ports"]
        ]


def test_addresses_are_those_of_services_and_mlflow_lets_its_own_in() -> None:
    found = objects("name=lab", "namespace=team")
    services = {f"{s['metadata']['name']}:{s['spec']['ports'][0]['port']}" for s in found if s["kind"] == "Service"}
    addresses = set(re.findall(r"(?:https?://|@)([\w.-]+:\d+)", text(found)))
    assert addresses == services == {"lab-mlflow:5000", "lab-postgres:5432", "lab-object-store:8333"}
    (server,) = [one for one in containers(found) if one["name"] == "mlflow"]
    hosts = server["args"][server["args"].index("--allowed-hosts") + 1].split(",")
    assert {"lab-mlflow:5000", "lab-mlflow.team.svc.cluster.local:5000", "localhost:5000"} <= set(hosts)


def test_whatever_is_mounted_is_there_and_everything_is_in_the_namespace() -> None:
    found = objects("namespace=team", "volumes.storage_class=fast")
    assert {manifest["metadata"]["namespace"] for manifest in found} == {"team"}
    assert named("PersistentVolumeClaim")["metadata"]["name"] == "adapters-runs"
    for manifest in found:
        templates = [one["metadata"]["name"] for one in manifest["spec"].get("volumeClaimTemplates", [])]
        for pod in pods([manifest]):
            defined = sorted([*templates, *(volume["name"] for volume in pod["volumes"])])
            assert (
                sorted(mount["name"] for one in pod["containers"] for mount in one.get("volumeMounts", [])) == defined
            )
            claims = [volume["persistentVolumeClaim"] for volume in pod["volumes"] if "emptyDir" not in volume]
            assert claims in ([], [{"claimName": "adapters-runs"}])
    storage = [node for manifest in found for node in walk(manifest) if "accessModes" in node]
    assert [one["storageClassName"] for one in storage] == ["fast"] * 3
    head = named("RayJob")["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert {"name": "runs", "persistentVolumeClaim": {"claimName": "adapters-runs"}} in head["volumes"]


def test_names_and_selectors_are_unique() -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in objects()]
    assert len(names) == len(set(names)) == 16


def test_the_entrypoint_is_a_sweep_that_the_command_takes() -> None:
    line = entrypoint(configured("command=[sweep,'TASKS=sentiment,ner','ARGS=search=optuna runs=/data/mine']"))
    place, line = line.split(" && ")
    assert place == "cd /app"
    words = shlex.split(line)
    assert words[:7] == ["exec", "python", "-m", "jobs", "sweep", "CLUSTER=existing", "TASKS=sentiment,ner"]
    (config,) = read_command("sweep", words[5:])
    assert config.tasks == ["sentiment", "ner"]
    assert config.tracking.uri == "http://adapters-mlflow:5000"
    assert config.runs == "/data/mine"  # what the user says comes last
    cluster = config.cluster
    assert (cluster.name, cluster.slots, cluster.gpus_per_trial, cluster.cpus_per_trial) == ("existing", 8, 0.5, 2)
    assert all((ROOT / "jobs" / f"{command}.py").is_file() for command in commands_from("kubernetes"))


def test_what_the_command_tells_to_submit_is_what_submit_takes_with_its_files_on_the_volume() -> None:
    config = configured("command=[sweep,'TASKS=ner','ARGS=search=optuna']")
    *_, forwarded, token, line, _, _ = following(config, Path("manifests"))
    assert forwarded == "kubectl -n adapters port-forward service/adapters-head-svc 8265 &"
    assert "get secret adapters -o 'jsonpath={.data.auth_token}'" in token
    *words, arguments = shlex.split(line)
    assert words == ["make", "submit", "COMMAND=sweep", "ADDRESS=http://127.0.0.1:8265", "TASKS=ner"]
    given = shlex.split(arguments.removeprefix("ARGS="))
    own, theirs = read_command("submit", [*words[2:], *given])
    assert own.environment == "image"
    rest, _, _, runs = rewrite(own, theirs)
    assert runs == "/data/runs"
    (swept,) = read_command("sweep", rest)
    assert (swept.tracking.uri, swept.search.algorithm) == ("http://adapters-mlflow:5000", "optuna")


@pytest.mark.parametrize(("share", "cpus", "slots"), [(1.0, 1, 3), (0.25, 1, 12), (0.25, 2, 6), (0.5, 4, 3)])
def test_slots_are_those_of_all_workers_that_may_come(share: float, cpus: int, slots: int) -> None:
    config = configured("workers.max=3", f"workers.gpus_per_trial={share}", f"workers.cpus_per_trial={cpus}")
    assert f"cluster.slots={slots} " in entrypoint(config)


def test_yaml_round_trips_without_anchors() -> None:
    for manifests in rendered().values():
        written = text(manifests)
        assert list(yaml.safe_load_all(written)) == manifests == json.loads(json.dumps(manifests))
        assert not re.search(r"[&*]id\d", written)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("image=adapter-pipeline", "image: 'adapter-pipeline' must be an image with a tag that stays what it is"),
        ("image='host:5000/adapter-pipeline'", "image: 'host:5000/adapter-pipeline' must be an image with a tag"),
        ("image='adapter-pipeline:latest'", "Set image as in registry.example.com/name:1.2.3"),
        ("images.mlflow='mlflow:latest-full'", "images.mlflow: 'mlflow:latest-full' must be an image with a tag"),
        ("image='a@sha256:12'", "image: 'a@sha256:12' must be"),
        ("workers.min=5", "workers.min: '5' must be between 0 and 4"),
        ("workers.max=0", "workers.max: '0' must be above 0. Set workers.max to a number above 0"),
        ("workers.gpus_per_trial=2", "workers.gpus_per_trial: '2' is more than a worker has (1)"),
        ("workers.cpus_per_trial=8", "Set workers.cpus_per_trial to 4 or less"),
        ("workers.memory=16G", "workers.memory: '16G' must be a whole number of Mi, Gi or Ti"),
        ("workers.shared_memory=12Gi", "is more than half of workers.memory (16Gi), of which it is a part"),
        ("volumes.runs=lots", "volumes.runs: 'lots' must be a whole number of Mi, Gi or Ti. Set volumes.runs=16Gi"),
        ("name=Adapters", "name: 'Adapters' must be a name of Kubernetes"),
        (f"name={'a' * 40}", "must begin with a letter and have 39 characters at most"),
        ("namespace=a.b", "namespace: 'a.b' must be a name of Kubernetes"),
        ("secrets.postgres=''", "secrets.postgres: must be a name of Kubernetes"),
        ("command=[serve]", "command: 'serve' must begin with sweep or compare or retrain"),
        ("command=[sweep,'TASKS=ner','METHODS=lora']", "command: METHODS: 'lora' is not used by `sweep`"),
        ("command=[sweep]", "command: 'sweep' names no TASKS"),
        ("command=[sweep,'TASKS=ner',x]", "command: 'x' must be a variable of make with its value"),
        ("command=[sweep,'TASKS=ner','CLUSTER=local']", "command: 'CLUSTER=local' is set here"),
        ("backoff_limit=-1", "backoff_limit: '-1' must be between 0 and 100"),
        ("workers.gpu=2", "workers.gpu: is no config key. Did you mean gpus"),
    ],
)
def test_bad_settings_are_refused_with_their_remedy(argument: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(argument)
    assert message in str(caught.value)


@pytest.mark.parametrize("image", ["host:5000/a/b:1.2", "b:v1-full", f"b@sha256:{'0' * 64}", f"b:1@sha256:{'0' * 64}"])
def test_images_that_stay_what_they_are_are_taken(image: str) -> None:
    assert configured(f"image='{image}'").image == image


def run(*words: str) -> int:
    return main(["manifests", *words])


def test_the_command_writes_a_folder_once_and_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "k8s"
    assert run(f"target={target}") == 0
    shown = capsys.readouterr().out
    written = {file.name: file.read_text("utf-8") for file in target.iterdir()}
    assert set(written) == set(rendered())
    for name, content in written.items():
        assert list(yaml.safe_load_all(content)) == rendered()[name]
        assert f"{target / name}" in shown
    assert "kubectl -n adapters create secret generic adapters-postgres --from-literal=password=" in shown

    assert run(f"target={target}", "name=other") == 2
    assert "is there already. Give another folder" in capsys.readouterr().err
    assert {file.name: file.read_text("utf-8") for file in target.iterdir()} == written
    assert run(f"target={tmp_path / 'bad'}", "workers.min=9", "image=x") == 2
    assert "2 things to mend" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert run(f"target={tmp_path / 'file' / 'k8s'}") == 2
    assert "cannot be written" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "k8s"]


def test_the_dockerfile_is_pinned_has_an_ordinary_user_and_ships_what_it_copies() -> None:
    folder = ROOT / "conf" / "cluster"
    lines = (folder / "Dockerfile").read_text("utf-8").splitlines()
    shipped = [
        line[1:] for line in (folder / "Dockerfile.dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"
    ]
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[2:-1]]
    assert sorted(copied) == sorted(shipped)
    assert all((ROOT / name).exists() for name in copied)
    assert [line for line in lines if line.startswith("FROM ")] == ["FROM python:3.11.15-slim-bookworm"]
    assert [line for line in lines if line.startswith("USER ")] == ["USER 1000:1000"]
    assert "WORKDIR /app" in lines
    assert not re.search(r"(?i)password|token|secret", "\n".join(lines))


def test_every_pod_keeps_the_restricted_standard() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards: what `restricted` asks of a pod."""
    config = configured("command=[sweep,'TASKS=ner']")
    settings = read_config("schedule", ScheduleConfig, ["on=kubernetes", "command=sweep"])
    given = (config, settings, "weekly", parse("0 3 * * 0"), ["tasks=[ner]", "data.source=hub"])
    found = [*objects(), cron_job(*given), ray_cron_job(*given, "2.60.0")]
    for pod in pods(found):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
        is_head = pod["containers"][0]["name"] == "ray-head"  # whose autoscaler asks Kubernetes for workers
        assert pod.get("automountServiceAccountToken", True) is is_head
    for one in containers(found):
        assert one["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert named("RayCluster")["spec"]["autoscalerOptions"]["securityContext"]["allowPrivilegeEscalation"] is False
    assert any("enforce=restricted" in line for line in following(config, Path("manifests")))


def test_only_those_reach_a_pod_who_have_to() -> None:
    found = {one["metadata"]["name"]: one["spec"] for one in objects("name=lab") if one["kind"] == "NetworkPolicy"}
    assert set(found) == {f"lab-{name}" for name in ("postgres", "object-store", "mlflow", "ray", "submit", "serve")}
    in_the_namespace, *_ = found["lab-serve"]["ingress"]
    assert in_the_namespace == {"from": [{"podSelector": {}}], "ports": [{"port": 8000}]}
    labels = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in objects("name=lab")
        if one["kind"] in ("Deployment", "StatefulSet")
    }
    for name in ("lab-postgres", "lab-object-store", "lab-mlflow"):
        assert found[name]["podSelector"]["matchLabels"] == labels[name]
    for name, port in (("lab-postgres", 5432), ("lab-object-store", 8333)):
        (rule,) = found[name]["ingress"]
        assert rule == {"from": [{"podSelector": {"matchLabels": labels["lab-mlflow"]}}], "ports": [{"port": port}]}
    (rule,) = found["lab-mlflow"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}]
    submitter = named("RayJob", "name=lab")["spec"]["submitterPodTemplate"]["metadata"]["labels"]
    assert {"podSelector": {"matchLabels": submitter}} in found["lab-ray"]["ingress"][1]["from"]
    assert found["lab-submit"]["ingress"] == []
    assert all(spec["policyTypes"] == ["Ingress"] for spec in found.values())
