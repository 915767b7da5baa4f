"""The objects of a cluster: versions, conflicts, history, graceful deletion, finalisers, garbage."""

import asyncio
import base64
import copy
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cluster import schemas
from cluster.schemas import Object, Refused, quantity

KINDS = {"pods": "Pod", "services": "Service", "secrets": "Secret", "events": "Event"}


class ApiError(Exception):
    """An answer that is not a success."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


def gone() -> ApiError:
    return ApiError(410, "Expired", "too old resource version")


@dataclass(frozen=True)
class Change:
    """One entry of the history that watches read."""

    version: int
    kind: str
    type: str
    content: Object


@dataclass(frozen=True)
class Deletion:
    """A Pod for which somebody asked to be deleted, for the first time."""

    name: str
    by: str
    at: datetime
    annotations: dict[str, str]
    only_unchanged: bool  # asked for by who holds no lease, and only if nobody renewed it meanwhile


class Store:
    """All objects of all namespaces."""

    def __init__(self) -> None:
        self.version = 1000
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.history: list[Change] = []
        self.compacted = 0
        self.deletions: list[Deletion] = []
        self.quota: dict[str, float] = {}
        self.changed = asyncio.Event()

    def of_kind(self, kind: str, namespace: str = "") -> list[Object]:
        return [
            content
            for (each, space, _), content in sorted(self.objects.items())
            if each == kind and namespace in ("", space)
        ]

    def get(self, kind: str, namespace: str, name: str) -> Object:
        try:
            return self.objects[kind, namespace, name]
        except KeyError:
            raise ApiError(404, "NotFound", f'{kind} "{name}" not found') from None

    def create(self, kind: str, namespace: str, content: Object) -> Object:
        content = copy.deepcopy(content)
        if content.get("kind") != KINDS[kind] or content.get("apiVersion") != "v1":
            raise ApiError(400, "BadRequest", f"not a {KINDS[kind]}")
        self._check(kind, content)
        metadata = content["metadata"]
        name = metadata["name"]
        if metadata.setdefault("namespace", namespace) != namespace:
            raise ApiError(400, "BadRequest", "the namespace of the object does not match the request")
        if kind == "pods":
            self._check_quota(name, content)
        if (kind, namespace, name) in self.objects:
            raise ApiError(409, "AlreadyExists", f'{kind} "{name}" already exists')
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now_text()}
        if kind == "secrets":
            plain = content.pop("stringData", {})
            content.setdefault("data", {}).update(
                {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
            )
        if kind == "pods":
            gated = bool(content["spec"].get("schedulingGates"))
            content["status"] = {"phase": "Pending", "qosClass": "Guaranteed"}
            if gated:
                set_condition(content, "PodScheduled", "False", "SchedulingGated", "Scheduling is blocked")
        self._put("ADDED", kind, content)
        return content

    def patch(self, kind: str, namespace: str, name: str, patch: Object) -> Object:
        """A merge patch, as a client sends it: identity and most of a Pod's spec cannot be changed."""
        old = self.get(kind, namespace, name)
        wanted = patch.get("metadata", {})
        for key, said in (("uid", "UID"), ("resourceVersion", "resourceVersion")):
            if key in wanted and wanted[key] != old["metadata"][key]:
                raise ApiError(
                    409, "Conflict",
                    f'Operation cannot be fulfilled on {kind} "{name}": Precondition failed: {said} in '
                    f"precondition: {wanted[key]}, {said} in object meta: {old['metadata'][key]}",
                )  # fmt: skip
        new = merged(old, {key: value for key, value in patch.items() if key != "status"})
        if kind == "pods":
            _check_pod_update(old["spec"], new["spec"])
        self._check(kind, new)
        return self.replace(kind, new)

    def replace(self, kind: str, content: Object) -> Object:
        """What the cluster's own components write."""
        key = (kind, content["metadata"]["namespace"], content["metadata"]["name"])
        if content == self.objects[key]:
            return content
        metadata = content["metadata"]
        if (
            metadata.get("deletionTimestamp")
            and not metadata.get("finalizers")
            and self._may_go(kind, content)
        ):
            del self.objects[key]
            self._log("DELETED", kind, content)
        else:
            self._put("MODIFIED", kind, content)
        return content

    def change(self, kind: str, namespace: str, name: str, edit: Callable[[Object], None]) -> Object:
        """Apply `edit` to a copy and store it."""
        content = copy.deepcopy(self.get(kind, namespace, name))
        edit(content)
        return self.replace(kind, content)

    def delete(
        self, kind: str, namespace: str, name: str, *, options: Object | None = None, by: str = "client"
    ) -> Object:
        content = copy.deepcopy(self.get(kind, namespace, name))
        metadata, options = content["metadata"], options or {}
        for key, wanted in options.get("preconditions", {}).items():
            if wanted and wanted != metadata[key]:
                raise ApiError(
                    409, "Conflict",
                    f'Operation cannot be fulfilled on {kind} "{name}": Precondition failed: {key} in '
                    f"precondition: {wanted}, {key} in object meta: {metadata[key]}",
                )  # fmt: skip
        if kind == "pods" and "deletionTimestamp" not in metadata:
            moment = datetime.now(UTC)
            guarded = "resourceVersion" in options.get("preconditions", {})
            self.deletions.append(Deletion(name, by, moment, dict(metadata.get("annotations", {})), guarded))
        grace = options.get("gracePeriodSeconds")
        if kind == "pods" and grace is None:
            grace = content["spec"].get("terminationGracePeriodSeconds", 30)
        if kind == "pods" and not content["spec"].get("nodeName"):
            grace = 0
        grace = min(grace or 0, metadata.get("deletionGracePeriodSeconds", 1 << 30))
        metadata["deletionGracePeriodSeconds"] = grace
        metadata.setdefault("deletionTimestamp", now_text())
        return self.replace(kind, content)

    def history_after(self, version: int) -> list[Change]:
        if version < self.compacted:
            raise gone()
        return [change for change in self.history if change.version > version]

    def compact(self) -> None:
        """Forget the history: who watches from before it is told so."""
        self.version += 1
        self.compacted = self.version
        self.history.clear()

    def collect_garbage(self) -> None:
        """Delete what has owners of which none exists in its namespace."""
        uids = {(space, content["metadata"]["uid"]) for (_, space, _), content in self.objects.items()}
        for (kind, space, name), content in list(self.objects.items()):
            owners = content["metadata"].get("ownerReferences") or []
            if owners and not any((space, owner["uid"]) in uids for owner in owners):
                self.delete(kind, space, name, by="garbage-collector")

    def events_of(self, uid: str) -> Iterator[Object]:
        return (event for event in self.of_kind("events") if event["involvedObject"]["uid"] == uid)

    def _check(self, kind: str, content: Object) -> None:
        try:
            schemas.check({key: value for key, value in content.items() if key != "status"})
        except Refused as error:
            name = content.get("metadata", {}).get("name", "")
            raise ApiError(422, "Invalid", f'{KINDS[kind]} "{name}" is invalid: {error}') from None

    def _check_quota(self, name: str, content: Object) -> None:
        used: Counter[str] = Counter()
        wanted: Counter[str] = Counter()
        for pod in self.of_kind("pods"):
            used.update(_requests(pod))
        wanted.update(_requests(content))
        for resource, limit in self.quota.items():
            if used[resource] + wanted[resource] > limit:
                said = f"requested: {wanted[resource]:g}, used: {used[resource]:g}, limited: {limit:g}"
                raise ApiError(
                    403, "Forbidden", f'pods "{name}" is forbidden: exceeded quota: {resource}, {said}'
                )

    def _may_go(self, kind: str, content: Object) -> bool:
        return kind != "pods" or content["metadata"].get("deletionGracePeriodSeconds") == 0

    def _put(self, event: str, kind: str, content: Object) -> None:
        key = (kind, content["metadata"]["namespace"], content["metadata"]["name"])
        self.objects[key] = content
        self._log(event, kind, content)

    def _log(self, event: str, kind: str, content: Object) -> None:
        self.version += 1
        content["metadata"]["resourceVersion"] = str(self.version)
        self.history.append(Change(self.version, kind, event, json.loads(json.dumps(content))))
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def set_condition(pod: Object, kind: str, status: str, reason: str = "", message: str = "") -> None:
    conditions = pod["status"].setdefault("conditions", [])
    conditions[:] = [each for each in conditions if each["type"] != kind]
    found = {"type": kind, "status": status, "lastTransitionTime": now_text()}
    conditions.append(found | {k: v for k, v in (("reason", reason), ("message", message)) if v})


def now_text() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _requests(pod: Object) -> dict[str, float]:
    requests = pod["spec"]["containers"][0].get("resources", {}).get("requests", {})
    return {"pods": 1.0} | {f"requests.{name}": quantity(text) for name, text in requests.items()}


def _check_pod_update(old: Object, new: Object) -> None:
    def fixed(spec: Object) -> Object:
        rest = {
            k: v
            for k, v in spec.items()
            if k not in ("schedulingGates", "tolerations", "activeDeadlineSeconds")
        }
        rest["containers"] = [{k: v for k, v in each.items() if k != "image"} for each in spec["containers"]]
        return rest

    before = {gate["name"] for gate in old.get("schedulingGates", [])}
    after = {gate["name"] for gate in new.get("schedulingGates", [])}
    if fixed(old) != fixed(new) or not after <= before:
        raise ApiError(422, "Invalid", "spec: Forbidden: pod updates may not change fields other than image")
