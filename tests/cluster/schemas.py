"""What an API server refuses: the official schemas, and the rules that they cannot say."""

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema
import referencing
import referencing.jsonschema

Object = dict[str, Any]
VERSION = "1.37"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


class Refused(Exception):
    """An object that an API server would answer with 422."""


@cache
def _validator(kind: str, api_version: str) -> Any:
    """The strict schema of `kubernetes_validate`, read once: it reads its files for every object."""
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{VERSION}.0-local-strict"
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = json.loads((folder / f"{kind.lower()}-{group}.json").read_text())
    definitions = json.loads((folder / "_definitions.json").read_text())
    registry: Any = referencing.Registry()
    for content in (schema, definitions):
        registry = referencing.Resource.from_contents(content) @ registry
    return jsonschema.Draft202012Validator(schema, registry=registry)


def check(content: Object) -> None:
    """Raise `Refused` with the reason where an API server would not take `content`."""
    try:
        _validator(content["kind"], content["apiVersion"]).validate(content)
    except jsonschema.ValidationError as error:
        raise Refused(f"{error.json_path}: {error.message}") from None
    _check_metadata(content)
    if content["kind"] == "Pod":
        _check_pod(content["spec"])
    if content["kind"] == "Service" and not _SERVICE_NAME.fullmatch(content["metadata"]["name"]):
        raise Refused(
            "metadata.name: a DNS-1035 label must consist of lower case alphanumeric characters or '-'"
        )


def _check_metadata(content: Object) -> None:
    metadata = content["metadata"]
    if not _NAME.fullmatch(metadata.get("name", "")):
        raise Refused(
            f"metadata.name: Invalid value: {metadata.get('name')!r}: a lowercase RFC 1123 subdomain"
        )
    for name, value in (metadata.get("labels") or {}).items():
        if not _KEY.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
            raise Refused(f"metadata.labels: Invalid value: {name}={value!r}")
    for name in metadata.get("annotations") or {}:
        if not _KEY.fullmatch(name):
            raise Refused(f"metadata.annotations: Invalid value: {name!r}")
    for owner in metadata.get("ownerReferences") or []:
        if not owner.get("uid"):
            raise Refused("metadata.ownerReferences.uid: Invalid value: must not be empty")


def _check_pod(spec: Object) -> None:
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    for container in spec["containers"]:
        if not container.get("image"):
            raise Refused("spec.containers[0].image: Required value")
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                raise Refused(f"spec.containers[0].volumeMounts.name: Not found: {mount['name']!r}")
        _check_resources(container.get("resources", {}))
        names = [each["name"] for each in container.get("env", [])]
        if any(not re.fullmatch(r"[-._a-zA-Z][-._a-zA-Z0-9]*", name) for name in names):
            raise Refused(f"spec.containers[0].env.name: Invalid value: {names}")
    for toleration in spec.get("tolerations", []):
        if toleration.get("operator") == "Exists" and toleration.get("value"):
            raise Refused(
                "spec.tolerations.operator: Invalid value: value must be empty when `operator` is 'Exists'"
            )
        if "tolerationSeconds" in toleration and toleration.get("effect") != "NoExecute":
            raise Refused(
                "spec.tolerations.effect: effect must be 'NoExecute' when `tolerationSeconds` is set"
            )


def _check_resources(resources: Object) -> None:
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    for name, wanted in requests.items():
        if "/" in name and limits.get(name) != wanted:
            raise Refused(
                f"spec.containers[0].resources.limits: {name}: limit must be set for non overcommitable"
            )
        if name in limits and quantity(wanted) > quantity(limits[name]):
            raise Refused(
                f"spec.containers[0].resources.requests: must be less than or equal to {name} limit"
            )


def quantity(text: str) -> float:
    """A resource quantity as a number."""
    for suffix, factor in (
        ("Ki", 2**10),
        ("Mi", 2**20),
        ("Gi", 2**30),
        ("Ti", 2**40),
        ("m", 1e-3),
        ("k", 1e3),
    ):
        if text.endswith(suffix):
            return float(text[: -len(suffix)]) * factor
    return float(text)
