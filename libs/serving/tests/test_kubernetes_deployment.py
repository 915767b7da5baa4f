"""deploy/kubernetes: valid, consistent, and in agreement with what the launcher creates and needs."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cluster.launching import CONVENTIONS, plan
from cluster.schemas import VERSION

from assay_serving.launchers.kubernetes.manifests import Launch, next_lease_end, pod_manifest
from assay_serving.launchers.kubernetes.settings import KubernetesSettings
from assay_serving.settings import ModelServerSettings

FOLDER = Path(__file__).parents[3] / "deploy" / "kubernetes"
ADAPTERS = ("gpu", "rngd")


def documents() -> list[dict[str, Any]]:
    return [
        content
        for path in sorted(FOLDER.glob("*.yaml"))
        for content in yaml.safe_load_all(path.read_text())
        if content["kind"] != "Kustomization"
    ]


def the(kind: str, name: str) -> dict[str, Any]:
    [found] = [each for each in documents() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("version", ["1.30", VERSION])
def test_every_document_is_valid(version: str) -> None:
    found = documents()
    for content in found:
        kubernetes_validate.validate(content, version, strict=True)
        assert content["metadata"]["namespace"] == "evaluation"
    kinds = {content["kind"] for content in found}
    assert kinds == {"ServiceAccount", "Role", "RoleBinding", "Deployment", "Service", "NetworkPolicy"}


def test_every_file_is_applied() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(
        path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml"
    )


def test_the_role_reads_no_secret() -> None:
    """That it is enough is shown by the launcher's tests: their API server allows nothing else."""
    for rule in the("Role", "assay-adapter")["rules"]:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        if "secrets" in rule["resources"]:
            assert set(rule["verbs"]) == {"create", "delete"}


@pytest.mark.parametrize("name", ADAPTERS)
def test_variables_of_an_adapter_are_its_settings(name: str) -> None:
    template = the("Deployment", f"assay-adapter-{name}")["spec"]["template"]["spec"]
    [container] = template["containers"]
    prefix = f"ASSAY_{name.upper()}_"
    for each in container["env"]:
        field, _, inner = each["name"].removeprefix(prefix).lower().partition("__")
        assert each["name"].startswith(prefix)
        assert field in ModelServerSettings.model_fields, each
        if inner:
            assert inner.partition("__")[0] in KubernetesSettings.model_fields, each
    assert container["command"][-1] == f"assay_adapter_{name}"
    assert template["serviceAccountName"] == the("RoleBinding", "assay-adapter")["subjects"][0]["name"]


@pytest.mark.parametrize("name", ADAPTERS)
def test_services_and_policies_select_what_they_mean(name: str) -> None:
    adapter = the("Deployment", f"assay-adapter-{name}")["spec"]["template"]["metadata"]["labels"]
    instance = pod_manifest(
        Launch(
            plan=plan(),
            conventions=CONVENTIONS,
            settings=KubernetesSettings(image="vllm:1"),
            adapter=name,
            nonce="",
            key="",
            lease_ends=next_lease_end(1.0),
        )
    )
    labels, ports = instance["metadata"]["labels"], instance["spec"]["containers"][0]["ports"]
    policy = the("NetworkPolicy", "assay-model-servers")["spec"]
    [rule] = policy["ingress"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert rule["from"][0]["podSelector"]["matchLabels"].items() <= adapter.items()
    assert rule["ports"][0]["port"] == ports[0]["name"]
    assert the("Service", f"assay-adapter-{name}")["spec"]["selector"].items() <= adapter.items()
    adapters = the("NetworkPolicy", "assay-adapters")["spec"]["podSelector"]["matchLabels"]
    assert adapters.items() <= adapter.items()
    assert not adapters.items() <= labels.items()


def test_every_setting_is_explained() -> None:
    text = (FOLDER.parents[1] / "docs" / "kubernetes.md").read_text()
    assert not [name for name in KubernetesSettings.model_fields if f"`{name.upper()}`" not in text]
