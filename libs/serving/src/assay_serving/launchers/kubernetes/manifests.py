"""The objects of one model server as manifests: a Pod, and a Service and a Secret that the Pod owns.

The Pod is created first, held back by a scheduling gate; the others name it as their owner, then the gate is
opened. So whatever is left by an adapter that dies in between hangs on one object, the cluster's own garbage
collector removes the rest with it, and nothing waits for a finaliser whose owner is gone.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from assay_serving.launchers.kubernetes.settings import KubernetesSettings, Volume
from assay_serving.launchers.server import ServerConventions, ServerPlan

CONTAINER = "server"
GATE = "assay.dev/complete"
INSTANCE_LABEL = "assay.dev/instance"
ADAPTER_LABEL = "assay.dev/adapter"
OWNER_LABEL = "assay.dev/owner"
TOKEN_LABEL = "assay.dev/fencing-token"
LEASE_ANNOTATION = "assay.dev/lease-expires-at"
LAUNCH_ANNOTATION = "assay.dev/launch"
OWNER_ANNOTATION = "assay.dev/owner"
LABEL_ANNOTATION_PREFIX = "label.assay.dev/"

_KEY_VARIABLE = "ASSAY_SERVER_KEY"
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_NAME_PART = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
_PROBE_SECONDS = 5

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One launch of a plan: what its objects are made of.

    Attributes:
        adapter: the adapter's name; its label.
        nonce: random; by it a launch knows its own Pod again after a request that was not answered.
        key: the server's API key; in the Secret alone.
        lease_ends: until when nobody else may remove it.
    """

    plan: ServerPlan
    conventions: ServerConventions
    settings: KubernetesSettings
    adapter: str
    nonce: str
    key: str
    lease_ends: datetime

    @property
    def name(self) -> str:
        """Of the Pod, the Service and the Secret."""
        instance = self.plan.instance_id
        part = (
            instance if _NAME_PART.fullmatch(instance) else hashlib.sha256(instance.encode()).hexdigest()[:32]
        )
        return f"assay-{self.adapter}-{part}"

    @property
    def accelerators(self) -> int:
        """Devices that the Pod asks for."""
        if not self.accelerator_resource:
            return 0
        return self.plan.resources.accelerators or self.settings.default_accelerators

    @property
    def accelerator_resource(self) -> str:
        """The name of a device in the cluster; empty where the server needs none."""
        return self.settings.accelerator_resource or self.conventions.accelerator_resource


def label_value(text: str) -> str:
    """`text` as a label's value; where it cannot be one, the beginning of its sha256."""
    return (
        text if not text or _LABEL_VALUE.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()[:40]
    )


def adapter_selector(adapter: str) -> str:
    """Selects all Pods of an adapter and its replicas."""
    return f"app.kubernetes.io/managed-by=assay,{ADAPTER_LABEL}={adapter}"


def lease_text(moment: datetime) -> str:
    """A lease's end as the annotation has it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def lease_end(annotations: Mapping[str, str] | None) -> datetime | None:
    """The lease's end that an annotation names; None where there is none that can be read."""
    try:
        moment = datetime.fromisoformat((annotations or {})[LEASE_ANNOTATION])
    except (KeyError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def next_lease_end(lease: float) -> datetime:
    """What to write for a lease that is renewed now: half as long again, so that not each renewal writes."""
    return datetime.now(UTC) + timedelta(seconds=1.5 * lease)


def pod_manifest(launch: Launch) -> Object:
    """The Pod, held back by its gate."""
    settings = launch.settings
    metadata = _metadata(launch)
    metadata["annotations"] = _annotations(launch)
    if settings.owner_pod_uid and settings.owner_namespace == settings.namespace:
        # An owner in another namespace counts as gone, and the Pod would be removed at once.
        metadata["ownerReferences"] = [_owner(settings.owner_pod_name, settings.owner_pod_uid)]
    spec: Object = {
        "restartPolicy": "Never",
        "schedulingGates": [{"name": GATE}],
        "activeDeadlineSeconds": settings.active_deadline_s,
        "terminationGracePeriodSeconds": settings.termination_grace_s,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "serviceAccountName": settings.service_account,
        "runtimeClassName": settings.runtime_class,
        "priorityClassName": settings.priority_class,
        "nodeSelector": dict(settings.node_selector),
        "tolerations": _tolerations(settings),
        "imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets],
        "containers": [_container(launch)],
        "volumes": _volumes(launch),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _without_empty(spec)}


def service_manifest(launch: Launch, *, pod_uid: str) -> Object:
    """A headless Service: the instance's name for people and policies, without a proxy in the path."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**_metadata(launch), "ownerReferences": [_owner(launch.name, pod_uid)]},
        "spec": {
            "clusterIP": "None",
            "selector": {INSTANCE_LABEL: label_value(launch.plan.instance_id)},
            "ports": [{"name": "http", "port": launch.conventions.container_port, "targetPort": "http"}],
        },
    }


def secret_manifest(launch: Launch, *, pod_uid: str) -> Object:
    """The server's key and the plan's secrets; the Pod names them by reference only."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**_metadata(launch), "ownerReferences": [_owner(launch.name, pod_uid)]},
        "type": "Opaque",
        "immutable": True,
        "stringData": {**launch.plan.secrets, key_variable(launch.conventions): launch.key},
    }


def key_variable(conventions: ServerConventions) -> str:
    """The container's variable with the key; one of ours where the server takes it on the command line."""
    return conventions.key_variable or _KEY_VARIABLE


def open_gate() -> Object:
    """The patch that lets the scheduler have the Pod."""
    return {"spec": {"schedulingGates": None}}


def _metadata(launch: Launch) -> Object:
    plan = launch.plan
    labels = {
        "app.kubernetes.io/name": "assay-model-server",
        "app.kubernetes.io/component": "model-server",
        "app.kubernetes.io/part-of": "assay",
        "app.kubernetes.io/managed-by": "assay",
        ADAPTER_LABEL: launch.adapter,
        INSTANCE_LABEL: label_value(plan.instance_id),
        TOKEN_LABEL: str(plan.fencing_token),
    }
    if plan.owner:
        labels[OWNER_LABEL] = label_value(plan.owner)
    return {"name": launch.name, "namespace": launch.settings.namespace, "labels": labels}


def _annotations(launch: Launch) -> dict[str, str]:
    plan = launch.plan
    found = {LEASE_ANNOTATION: lease_text(launch.lease_ends), LAUNCH_ANNOTATION: launch.nonce}
    if plan.owner:
        found[OWNER_ANNOTATION] = plan.owner
    for name, text in plan.labels.items():
        if _LABEL_VALUE.fullmatch(name):  # the same rule as for the name of an annotation
            found[LABEL_ANNOTATION_PREFIX + name] = text
    return found


def _owner(name: str, uid: str) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}


def _container(launch: Launch) -> Object:
    settings, conventions, plan = launch.settings, launch.conventions, launch.plan
    arguments = [_literal(text) for text in plan.arguments]
    arguments += conventions.listen_arguments(settings.listen_host, conventions.container_port)
    if conventions.key_arguments is not None:
        arguments += conventions.key_arguments(f"$({_KEY_VARIABLE})")  # the kubelet puts the value in
    resources = _resources(launch)
    probe = {"httpGet": {"path": conventions.health_path, "port": "http"}, "timeoutSeconds": 5}
    return {
        "name": CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": [_literal(text) for text in settings.command or conventions.program],
        "args": arguments,
        "env": _environment(launch),
        "ports": [{"name": "http", "containerPort": conventions.container_port}],
        "resources": {"requests": resources, "limits": dict(resources)},
        "startupProbe": {
            **probe,
            "periodSeconds": _PROBE_SECONDS,
            "failureThreshold": max(1, round(settings.start_timeout_s / _PROBE_SECONDS)),
        },
        # No liveness probe: a server that is busy being measured must not be ended for a slow answer.
        "readinessProbe": {**probe, "periodSeconds": 2 * _PROBE_SECONDS},
        # The status then carries the last lines of a container that failed, also after a restart.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": _security(settings),
        "volumeMounts": _mounts(launch),
    }


def _resources(launch: Launch) -> dict[str, str]:
    wanted, settings = launch.plan.resources, launch.settings
    found = {
        "cpu": f"{round((wanted.cpus or settings.default_cpus) * 1000)}m",
        "memory": str(wanted.memory_bytes or settings.default_memory_bytes),
    }
    if launch.accelerators:
        found[launch.accelerator_resource] = str(launch.accelerators)
    return found


def _environment(launch: Launch) -> list[Object]:
    settings, conventions = launch.settings, launch.conventions
    plain = {**settings.environment, **launch.plan.environment}
    if settings.hub_cache is not None:
        plain.setdefault("HF_HOME", settings.hub_cache.mount_path)
    references = {name: (each.name, each.key) for name, each in settings.secret_environment.items()}
    if settings.hub_token is not None:
        references["HF_TOKEN"] = (settings.hub_token.name, settings.hub_token.key)
    own = [*launch.plan.secrets]
    if conventions.key_variable or conventions.key_arguments is not None:
        own.append(key_variable(conventions))
    references |= {name: (launch.name, name) for name in own}
    found: list[Object] = [
        {"name": name, "value": _literal(text)}
        for name, text in sorted(plain.items())
        if name not in references
    ]
    found += [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for name, (secret, key) in sorted(references.items())
    ]
    return found


def _security(settings: KubernetesSettings) -> Object:
    found: Object = {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "Unconfined" if settings.seccomp_unconfined else "RuntimeDefault"},
    }
    if settings.run_as_user is not None:
        found["runAsUser"] = settings.run_as_user
        found["runAsNonRoot"] = settings.run_as_user != 0
    return found


def _tolerations(settings: KubernetesSettings) -> list[Object]:
    found = [_without_empty(each.model_dump()) for each in settings.tolerations]
    for taint in ("not-ready", "unreachable"):  # a silent node's Pods are given up sooner than by default
        found.append(
            {
                "key": f"node.kubernetes.io/{taint}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": settings.node_lost_s,
            }
        )
    return found


def _volumes(launch: Launch) -> list[Object]:
    settings = launch.settings
    found: list[Object] = []
    if settings.model_volume is not None:
        found.append(_volume("models", settings.model_volume, read_only=True))
    if settings.hub_cache is not None:
        found.append(_volume("hub-cache", settings.hub_cache, read_only=False))
    if launch.conventions.wants_shared_memory:
        memory = {"medium": "Memory", "sizeLimit": str(settings.shared_memory_bytes)}
        found.append({"name": "shared-memory", "emptyDir": memory})
    return found


def _volume(name: str, volume: Volume, *, read_only: bool) -> Object:
    if volume.claim:
        return {"name": name, "persistentVolumeClaim": {"claimName": volume.claim, "readOnly": read_only}}
    kind = "Directory" if read_only else "DirectoryOrCreate"
    return {"name": name, "hostPath": {"path": volume.host_path, "type": kind}}


def _mounts(launch: Launch) -> list[Object]:
    settings = launch.settings
    found: list[Object] = []
    for name, volume in (("models", settings.model_volume), ("hub-cache", settings.hub_cache)):
        if volume is not None:
            mount: Object = {"name": name, "mountPath": volume.mount_path, "readOnly": name == "models"}
            if volume.sub_path:
                mount["subPath"] = volume.sub_path
            found.append(mount)
    if launch.conventions.wants_shared_memory:
        found.append({"name": "shared-memory", "mountPath": "/dev/shm"})
    return found


def _literal(text: str) -> str:
    """`text` such that the kubelet puts no variable into it."""
    return text.replace("$(", "$$(")


def _without_empty(fields: Object) -> Object:
    return {name: value for name, value in fields.items() if value not in ("", [], {}, None)}
