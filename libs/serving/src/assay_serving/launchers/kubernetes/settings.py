"""Settings of the kubernetes launcher, part of an adapter's settings."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_GIB = 1 << 30

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""Of an object in a cluster."""

OptionalName = Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$")]
"""Of an object in a cluster, or empty."""

MountPath = Annotated[str, Field(pattern=r"^/[^:]*[^:/]$")]
"""Absolute path in a container."""


class Strict(BaseModel):
    """Refuses names that it does not know: a misspelt setting is an error and no silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretReference(Strict):
    """One value in a Secret that somebody else has made; its content is never read here."""

    name: Name
    key: str = Field(min_length=1)


class Toleration(Strict):
    """Lets Pods onto nodes with a taint, as in a Pod's manifest."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class Volume(Strict):
    """Where files come from: a PersistentVolumeClaim, or a directory of the node."""

    claim: OptionalName = ""
    host_path: str = ""
    mount_path: MountPath
    sub_path: str = ""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.claim) == bool(self.host_path):
            raise ValueError("set exactly one of claim and host_path")
        return self


class KubernetesSettings(Strict):
    """How the Pods of an adapter look, and how patient it is with the cluster.

    The adapter's prefix and ``KUBERNETES__`` begin the name of the variable of each
    (``ASSAY_GPU_KUBERNETES__IMAGE``); mappings, lists and nested models are JSON.

    Attributes:
        image: with tag or digest; has to be set before anything can be launched.
        command: replaces the program's name where it is another one in the image.
        namespace: of everything that is created.
        kubeconfig, context: file to reach the cluster by, and the context in it; without a file the service
            account of the adapter's own Pod.
        owner_pod_name, owner_pod_uid, owner_namespace: of the adapter's own Pod, by the downward API; its
            instances then end with it. All three or none.
        service_account, runtime_class, priority_class, node_selector, tolerations, image_pull_policy,
            image_pull_secrets: as in a Pod's manifest. The account's token is never mounted.
        accelerator_resource: replaces the whole device's resource name, for partitions of devices.
        default_accelerators, default_cpus, default_memory_bytes: where the request for an instance says 0.
            Requests equal limits, so that a measured Pod shares no processor and is the last to be evicted.
        model_volume: read-only files that artifacts name as ``file:///...``.
        hub_cache: writable cache of the model hub, shared by Pods; set as HF_HOME.
        hub_token: the hub's token.
        environment: extra variables; not secret.
        secret_environment: variables that come from Secrets.
        shared_memory_bytes: size of /dev/shm for servers that want it; counts as memory of the Pod.
        run_as_user: user id of the process; the image's own where not set.
        seccomp_unconfined: furiosa-llm's device access needs it. The default profile otherwise.
        listen_host: address that the server binds to inside the Pod; ``::`` where the cluster is IPv6 alone.
        active_deadline_s: the cluster ends a Pod after that, whatever happens to the adapter.
        start_timeout_s: a container that is not healthy by then is ended by the kubelet.
        termination_grace_s: between SIGTERM and SIGKILL. Never 0: the cluster would forget the Pod at once,
            also where its node is silent and the process still has the device.
        schedule_patience_s: how long no node may fit, for a cluster that grows its nodes on demand.
        image_patience_s: how long an image may fail to come for reasons that can pass.
        container_patience_s: how long volumes and sandboxes may fail.
        reach_patience_s: how long a Pod that its kubelet finds ready may be out of the adapter's reach.
        node_lost_s: how long a node may be silent until its Pods count as lost.
        api_patience_s: how long the API server may fail before a launch gives up.
        api_timeout_s: of one request to it.
        stop_patience_s: beyond the grace, until a stop leaves the rest to the reaper.
        reap_margin_s: how long another adapter's Pod is watched after its lease has lapsed, before it is
            removed: more than the clocks of two nodes may differ by, and than a holder needs to renew after
            the API server was away.
        log_bytes: of a log that are kept after the end.
    """

    image: str = ""
    command: tuple[str, ...] = ()
    namespace: Name = "default"
    kubeconfig: Path | None = None
    context: str = ""
    owner_pod_name: OptionalName = ""
    owner_pod_uid: str = ""
    owner_namespace: OptionalName = ""
    service_account: OptionalName = ""
    runtime_class: OptionalName = ""
    priority_class: OptionalName = ""
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[Name, ...] = ()
    accelerator_resource: str = ""
    default_accelerators: int = Field(default=1, ge=0)
    default_cpus: float = Field(default=4.0, gt=0)
    default_memory_bytes: int = Field(default=32 * _GIB, gt=0)
    model_volume: Volume | None = None
    hub_cache: Volume | None = None
    hub_token: SecretReference | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    secret_environment: dict[str, SecretReference] = Field(default_factory=dict)
    shared_memory_bytes: int = Field(default=8 * _GIB, gt=0)
    run_as_user: int | None = Field(default=None, ge=0)
    seccomp_unconfined: bool = False
    listen_host: str = "0.0.0.0"
    active_deadline_s: int = Field(default=24 * 3600, gt=0)
    start_timeout_s: int = Field(default=1800, gt=0)
    termination_grace_s: int = Field(default=10, ge=1)
    schedule_patience_s: float = Field(default=120.0, ge=0)
    image_patience_s: float = Field(default=90.0, ge=0)
    container_patience_s: float = Field(default=60.0, ge=0)
    reach_patience_s: float = Field(default=20.0, gt=0)
    node_lost_s: int = Field(default=30, ge=0)
    api_patience_s: float = Field(default=60.0, gt=0)
    api_timeout_s: float = Field(default=10.0, gt=0)
    stop_patience_s: float = Field(default=60.0, gt=0)
    reap_margin_s: float = Field(default=30.0, ge=0)
    log_bytes: int = Field(default=1 << 20, gt=0)

    @model_validator(mode="after")
    def _owner_is_whole(self) -> Self:
        given = (self.owner_pod_name, self.owner_pod_uid, self.owner_namespace)
        if any(given) and not all(given):
            raise ValueError("set all of owner_pod_name, owner_pod_uid and owner_namespace, or none")
        return self
