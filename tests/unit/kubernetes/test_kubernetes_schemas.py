"""The objects of Kubernetes' own kinds against its published schemas, which kubernetes-validate carries (70 MB)."""

import pytest

from pipeline.kubernetes.manifests import Manifest
from tests.unit.kubernetes.rendered import objects
from tests.unit.kubernetes.test_cronjobs import cron

validator = pytest.importorskip("kubernetes_validate", reason="needs `pip install kubernetes-validate`")
VERSIONS = ["1.30", "1.37"]
MORE = ("secrets.huggingface=hf", "volumes.storage_class=fast", "workers.gpus=2")


def own(*arguments: str) -> list[Manifest]:
    """The objects whose kinds are not KubeRay's."""
    return [manifest for manifest in objects(*arguments) if not manifest["apiVersion"].startswith("ray.io/")]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("arguments", [(), MORE])
def test_mlflow_and_its_stores_keep_kubernetes_schemas(version: str, arguments: tuple[str, ...]) -> None:
    found = own(*arguments)
    assert {manifest["kind"] for manifest in found} == {
        "Service", "StatefulSet", "Deployment", "PersistentVolumeClaim", "NetworkPolicy",
    }  # fmt: skip
    for manifest in found:
        validator.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("arguments", [(), ("timezone=Europe/Berlin", "starting_deadline_s=600")])
def test_the_cronjob_keeps_kubernetes_schema(version: str, arguments: tuple[str, ...]) -> None:
    validator.validate(cron(*arguments), version, strict=True)


def test_a_planted_wrong_field_is_found() -> None:
    manifest = cron()
    manifest["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(validator.ValidationError, match="concurencyPolicy"):
        validator.validate(manifest, VERSIONS[-1], strict=True)
