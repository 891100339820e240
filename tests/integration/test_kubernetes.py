"""docs/kubernetes: of Kubernetes' own schemas, without privileges, with settings that there are."""

import copy
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.core.settings import Settings
from service.jobs import repository as jobs
from tests.helpers.service import ROOT, Service, environment

FOLDER = ROOT / "docs" / "kubernetes"
VERSION = "1.33"
NAMED = sorted(path.name for path in FOLDER.glob("*.yaml"))


def documents(name: str) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all((FOLDER / name).read_text()) if found]


def templates(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Templates of pods, by what they are of."""
    spec = document.get("spec", {})
    if document["kind"] == "RayCluster":
        groups = {group["groupName"]: group["template"] for group in spec["workerGroupSpecs"]}
        return {"head": spec["headGroupSpec"]["template"], **groups}
    return {document["kind"]: spec["template"]} if "template" in spec else {}


def as_resource(template: dict[str, Any]) -> dict[str, Any]:
    """KubeRay's own kind is in no schema of Kubernetes; its templates are ordinary ones."""
    return {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "of-ray"}, "template": template}


def test_all_of_them_are_here() -> None:
    assert NAMED == ["api.yaml", "base.yaml", "migrate.yaml", "raycluster.yaml", "worker.yaml"]


@pytest.mark.parametrize("name", NAMED)
def test_they_are_of_the_schemas(name: str) -> None:
    for document in documents(name):
        checked = [as_resource(template) for template in templates(document).values()]
        for resource in checked if document["kind"] == "RayCluster" else [document]:
            kubernetes_validate.validate(resource, VERSION, strict=True)
            worse = copy.deepcopy(resource)
            worse["metadata"]["labels"] = ["not", "a", "map"]
            with pytest.raises(kubernetes_validate.ValidationError):
                kubernetes_validate.validate(worse, VERSION, strict=True)


@pytest.mark.parametrize("name", NAMED)
def test_pods_have_no_privileges_and_bounds(name: str) -> None:
    for document in documents(name):
        for part, template in templates(document).items():
            pod = template["spec"]
            assert pod["automountServiceAccountToken"] is False
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in pod["containers"]:
                security = container["securityContext"]
                assert security["readOnlyRootFilesystem"] is True
                assert security["allowPrivilegeEscalation"] is False
                assert security["capabilities"] == {"drop": ["ALL"]}
                assert {"cpu", "memory"} <= set(container["resources"]["requests"])
                assert "memory" in container["resources"]["limits"]
                assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/data", "/tmp"}  # noqa: S108
                if part != "Job":
                    assert "livenessProbe" in container


def names_of_settings(group: Any = Settings, prefix: str = "ZOOSCOUT_") -> set[str]:
    found = set()
    for name, field in group.model_fields.items():
        nested = getattr(field.annotation, "model_fields", None)
        found |= names_of_settings(field.annotation, f"{prefix}{name.upper()}__") if nested else {prefix + name.upper()}
    return found


def test_they_name_settings_that_there_are() -> None:
    text = "".join((FOLDER / name).read_text() for name in NAMED)
    used = {word.strip("\"'{},:") for word in text.split() if word.startswith("ZOOSCOUT_")}
    assert used
    assert used <= names_of_settings()


def test_what_they_refer_to_is_among_them() -> None:
    made = {(document["kind"], document["metadata"]["name"]) for name in NAMED for document in documents(name)}
    for name in NAMED:
        for document in documents(name):
            for template in templates(document).values():
                for container in template["spec"]["containers"]:
                    for source in container.get("envFrom", []):
                        ((kind, referred),) = source.items()
                        assert ({"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind], referred["name"]) in made
                for volume in template["spec"]["volumes"]:
                    if "persistentVolumeClaim" in volume:
                        assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in made


def test_the_worker_s_probe_tells_a_worker_of_this_host(service: Service, tmp_path: Path) -> None:
    def probe() -> int:
        words = [sys.executable, "-m", "service.worker.seen"]
        return subprocess.run(words, env=environment(service.settings), check=False).returncode

    with service.database.write() as session:
        jobs.worker_seen(session, "elsewhere:1:x", device="cpu")
    assert probe() == 1
    with service.database.write() as session:
        jobs.worker_seen(session, f"{socket.gethostname()}:1:x", device="cpu")
    assert probe() == 0
