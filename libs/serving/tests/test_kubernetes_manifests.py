"""What the kubernetes launcher creates, held against the official schemas and against what it promises."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cluster.containers import expanded
from cluster.schemas import VERSION, check
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from assay_serving.launchers.kubernetes import manifests
from assay_serving.launchers.kubernetes.manifests import Launch
from assay_serving.launchers.kubernetes.settings import KubernetesSettings
from assay_serving.launchers.server import ServerConventions, ServerPlan
from assay_serving.types import Resources

OLDEST_VERSION = "1.30"  # scheduling gates are stable since
KEY = "the-servers-own-key"
PLAN_SECRET = "the-plans-secret"
DEPLOY = Path(__file__).parents[3] / "deploy" / "kubernetes"

FULL: dict[str, Any] = {
    "image": "vllm/vllm-openai:v1",
    "namespace": "evaluation",
    "owner_pod_name": "adapter-0",
    "owner_pod_uid": "6a1c",
    "owner_namespace": "evaluation",
    "service_account": "model-server",
    "runtime_class": "nvidia",
    "priority_class": "batch",
    "node_selector": {"gpu": "h100"},
    "tolerations": [
        {"key": "nvidia.com/gpu", "effect": "NoSchedule"},
        {"key": "a", "operator": "Equal", "value": "b"},
    ],
    "image_pull_secrets": ["registry"],
    "model_volume": {"host_path": "/srv/models", "mount_path": "/models"},
    "hub_cache": {"claim": "hub-cache", "mount_path": "/cache", "sub_path": "gpu"},
    "hub_token": {"name": "hub", "key": "token"},
    "environment": {"VLLM_NO_USAGE_STATS": "1"},
    "secret_environment": {"PROXY_PASSWORD": {"name": "proxy", "key": "password"}},
    "run_as_user": 1000,
}


def launch(
    *, settings: dict[str, Any] | None = None, conventions: dict[str, Any] | None = None, **plan: Any
) -> Launch:
    return Launch(
        plan=ServerPlan(**({"instance_id": "ab" * 16, "arguments": ("serve", "org/model")} | plan)),
        conventions=ServerConventions(
            **(
                {
                    "program": ("vllm",),
                    "listen_arguments": lambda host, port: ("--host", host, "--port", str(port)),
                    "key_variable": "VLLM_API_KEY",
                    "accelerator_resource": "nvidia.com/gpu",
                    "wants_shared_memory": True,
                }
                | (conventions or {})
            )
        ),
        settings=KubernetesSettings.model_validate({"image": "vllm/vllm-openai:v1"} | (settings or {})),
        adapter="gpu",
        nonce="00ff",
        key=KEY,
        lease_ends=datetime(2030, 1, 1, tzinfo=UTC),
    )


def objects(made: Launch) -> list[dict[str, Any]]:
    return [
        manifests.pod_manifest(made),
        manifests.service_manifest(made, pod_uid="1-2-3"),
        manifests.secret_manifest(made, pod_uid="1-2-3"),
    ]


@pytest.mark.parametrize("version", [OLDEST_VERSION, VERSION])
@pytest.mark.parametrize("settings", [{}, FULL, {"seccomp_unconfined": True}], ids=["least", "full", "rngd"])
def test_every_object_is_valid(version: str, settings: dict[str, Any]) -> None:
    for content in objects(launch(settings=settings, owner="run/7", fencing_token=3, labels={"run": "a b"})):
        kubernetes_validate.validate(content, version, strict=True)
        check(content)


def test_pod() -> None:
    pod = manifests.pod_manifest(launch(settings=FULL, resources=Resources(cpus=2.5, accelerators=2)))
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["resources"]["limits"] == {
        "cpu": "2500m", "memory": str(32 << 30), "nvidia.com/gpu": "2"
    }  # fmt: skip
    assert spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] == 24 * 3600
    assert spec["automountServiceAccountToken"] is False
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
    assert {"name": "HF_HOME", "value": "/cache"} in container["env"]
    assert (
        container["startupProbe"]["httpGet"]["path"]
        == container["readinessProbe"]["httpGet"]["path"]
        == "/health"
    )
    assert "livenessProbe" not in container
    assert container["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["runAsNonRoot"] is True
    assert pod["metadata"]["ownerReferences"][0]["uid"] == "6a1c"
    assert pod["metadata"]["labels"]["assay.dev/instance"] == "ab" * 16


def test_default_and_other_devices() -> None:
    rngd = {"accelerator_resource": "furiosa.ai/rngd"}
    limits = manifests.pod_manifest(launch(conventions=rngd))["spec"]["containers"][0]["resources"]["limits"]
    assert limits["furiosa.ai/rngd"] == "1"
    part = {"accelerator_resource": "furiosa.ai/rngd-4core.24gb"}
    limits = manifests.pod_manifest(launch(conventions=rngd, settings=part))["spec"]["containers"][0][
        "resources"
    ]["limits"]
    assert "furiosa.ai/rngd" not in limits
    assert limits["furiosa.ai/rngd-4core.24gb"] == "1"


def test_no_secret_outside_the_secret() -> None:
    flag = {"key_variable": "", "key_arguments": lambda key: ("--api-key", key)}
    for made in (
        launch(secrets={"HF_TOKEN": PLAN_SECRET}),
        launch(conventions=flag, secrets={"A": PLAN_SECRET}),
    ):
        pod, service, secret = objects(made)
        assert KEY not in yaml.safe_dump([pod, service])
        assert PLAN_SECRET not in yaml.safe_dump([pod, service])
        assert KEY in secret["stringData"].values()
        assert PLAN_SECRET in secret["stringData"].values()
        container = pod["spec"]["containers"][0]
        referred = {
            each["name"]: secret["stringData"][each["valueFrom"]["secretKeyRef"]["key"]]
            for each in container["env"]
            if "valueFrom" in each
        }
        assert KEY in referred.values()
        if made.conventions.key_arguments is not None:
            assert [expanded(text, referred) for text in container["args"]][-2:] == ["--api-key", KEY]


def test_no_variable_is_put_into_what_the_caller_wrote() -> None:
    wild = "$(HOME) and $(VLLM_API_KEY) for $5"
    container = manifests.pod_manifest(launch(arguments=("serve", wild), environment={"A": wild}))["spec"][
        "containers"
    ][0]
    variables = {"HOME": "/", "VLLM_API_KEY": KEY}
    assert expanded(container["args"][1], variables) == wild
    assert (
        expanded(next(each["value"] for each in container["env"] if each["name"] == "A"), variables) == wild
    )


def test_an_owner_in_another_namespace_is_none() -> None:
    other = FULL | {"owner_namespace": "elsewhere"}
    assert "ownerReferences" not in manifests.pod_manifest(launch(settings=other))["metadata"]


def test_owned_objects_name_the_pod() -> None:
    made = launch()
    for content in objects(made)[1:]:
        [owner] = content["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", made.name, "1-2-3")


@pytest.mark.parametrize("owner", ["run-7", "runs/7 of team ä", "x" * 200, "-"])
def test_any_owner_becomes_a_label(owner: str) -> None:
    pod = manifests.pod_manifest(launch(owner=owner))
    check(pod)
    assert pod["metadata"]["annotations"]["assay.dev/owner"] == owner
    assert pod["metadata"]["labels"]["assay.dev/owner"] == manifests.label_value(owner)


@pytest.mark.parametrize("instance_id", ["ab" * 16, "Not a name!", "x" * 90])
def test_any_instance_has_a_valid_name(instance_id: str) -> None:
    for content in objects(launch(instance_id=instance_id)):
        check(content)


@pytest.mark.parametrize("text", ["", "tomorrow", "2030-01-01T00:00:00"])
def test_leases_of_others_are_read_with_care(text: str) -> None:
    end = manifests.lease_end({manifests.LEASE_ANNOTATION: text})
    assert end is None or end.tzinfo is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"imagee": "x"},
        {"model_volume": {"mount_path": "/models"}},
        {"model_volume": {"claim": "a", "host_path": "/b", "mount_path": "/models"}},
        {"owner_pod_uid": "1"},
        {"namespace": "Not A Name"},
        {"termination_grace_s": 0},
    ],
)
def test_settings_that_cannot_be_right(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        KubernetesSettings.model_validate(wrong)


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    class AdapterSettings(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="ASSAY_GPU_", env_nested_delimiter="__")

        kubernetes: KubernetesSettings = KubernetesSettings()

    for name, text in (
        ("IMAGE", "vllm/vllm-openai:v1"),
        ("TOLERATIONS", '[{"key": "nvidia.com/gpu"}]'),
        ("NODE_SELECTOR", '{"gpu": "h100"}'),
        ("MODEL_VOLUME__CLAIM", "models"),
        ("MODEL_VOLUME__MOUNT_PATH", "/models"),
    ):
        monkeypatch.setenv(f"ASSAY_GPU_KUBERNETES__{name}", text)
    found = AdapterSettings().kubernetes
    assert found.tolerations[0].key == "nvidia.com/gpu"
    assert found.node_selector == {"gpu": "h100"}
    assert found.model_volume is not None
    assert found.model_volume.claim == "models"
