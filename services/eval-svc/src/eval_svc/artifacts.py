"""Artifacts: what may be registered, and the secrets of those that are endpoints."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from assay_chassis.errors import Fault
from assay_chassis.identifiers import new_id
from assay_chassis.outbox import EventWriter
from assay_chassis.store import Change, Document, DuplicateKey, Page, by_name
from assay_contracts.eval_events import ArtifactRegistered
from eval_svc.domain import ENDPOINT, ArtifactRegistration, ArtifactSpec, now
from eval_svc.errors import InvalidArtifact, NameTaken, UnknownArtifact
from eval_svc.fleet import ServingFleet
from eval_svc.store import EvalStore


class ArtifactRegistry:
    """Registers artifacts and finds them.

    The key of an endpoint lies in a collection of its own, and only ``endpoint_key`` reads it: no artifact,
    plan, event or log has it.
    """

    def __init__(self, *, store: EvalStore, events: EventWriter, fleet: ServingFleet) -> None:
        self._store = store
        self._events = events
        self._fleet = fleet

    async def register(self, registration: ArtifactRegistration, *, client: str) -> Document:
        """Register an artifact.

        Raises:
            NameTaken: the name is in use.
            BackendNotConfigured, InvalidArtifact: no adapter can serve it as described.
            Unavailable: the adapter does not answer.
        """
        key = registration.endpoint_key
        spec = ArtifactSpec.model_validate(registration.model_dump(exclude={"endpoint_key"}))
        _check_endpoint(spec, has_key=key is not None)
        await self._fleet.check_artifact(spec)
        artifact_id = new_id("art")
        document = {
            "_id": artifact_id,
            "sort_key": artifact_id,
            **spec.model_dump(mode="json"),
            "has_endpoint_key": key is not None,
            "created_at": now(),
            "created_by": client,
        }
        event = ArtifactRegistered(
            artifact_id=artifact_id, name=spec.name, model=spec.model, backend=spec.backend
        )
        if key is not None:
            await self._keep_key(artifact_id, key.get_secret_value(), client=client)
        try:
            return await self._store.artifacts.insert(document, events=self._events(event))
        except DuplicateKey as error:
            await self._store.endpoint_keys.delete(artifact_id)
            existing = await self._store.artifacts.find_one({"name": spec.name})
            known = existing["_id"] if existing else "another artifact"
            message = f"an artifact named {spec.name!r} exists ({known}); choose another name"
            raise NameTaken(message, faults=[Fault(message, field="name")]) from error

    async def find(self, artifact_id: str) -> Document:
        """One artifact.

        Raises:
            UnknownArtifact: there is none of this id.
        """
        found = await self._store.artifacts.get(artifact_id)
        if found is None:
            raise UnknownArtifact(f"there is no artifact {artifact_id!r}")
        return found

    async def page(self, *, name: str | None, search: str | None, cursor: str | None, limit: int) -> Page:
        """Artifacts, newest first; only that of that name, and with ``search`` in their name."""
        query = by_name(name, search=search)
        return await self._store.artifacts.page(query, cursor=cursor, limit=limit)

    async def replace_endpoint_key(self, artifact_id: str, key: str, *, client: str) -> None:
        """Give an endpoint another key; runs that start an instance from now on use it.

        Raises:
            UnknownArtifact: there is none of this id.
            InvalidArtifact: it is no endpoint.
        """
        artifact = await self.find(artifact_id)
        if artifact["format"] != ENDPOINT:
            message = (
                f"artifact {artifact['name']} has format {artifact['format']!r}; only {ENDPOINT!r} has a key"
            )
            raise InvalidArtifact(message, faults=[Fault(message, field="endpoint_key")])
        await self._keep_key(artifact_id, key, client=client)
        await self._store.artifacts.update(artifact_id, Change(set={"has_endpoint_key": True}))

    async def endpoint_key(self, artifact: Mapping[str, Any]) -> str:
        """The key of an artifact (``id`` and ``format`` are read); empty where it has none. Secret."""
        if artifact["format"] != ENDPOINT:
            return ""
        found = await self._store.endpoint_keys.get(artifact["id"])
        return str(found["key"]) if found else ""

    async def _keep_key(self, artifact_id: str, key: str, *, client: str) -> None:
        fields = {"key": key, "set_at": now(), "set_by": client}
        try:
            await self._store.endpoint_keys.insert({"_id": artifact_id, **fields})
        except DuplicateKey:
            await self._store.endpoint_keys.update(artifact_id, Change(set=fields))


def _check_endpoint(spec: ArtifactSpec, *, has_key: bool) -> None:
    """Refuse what an endpoint cannot have, and an endpoint's key with anything else."""
    if spec.format != ENDPOINT:
        if has_key:
            _refuse("endpoint_key", f"only an artifact of format {ENDPOINT!r} has a key")
        return
    try:
        parts = urlsplit(spec.uri)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        _refuse("uri", "the URL of an endpoint is https://host[:port][/path], or the same with http")
    if "@" in parts.netloc or parts.query or parts.fragment:
        _refuse(
            "uri", "an endpoint's URL is shown to everybody: no user, query or fragment; use endpoint_key"
        )
    if spec.sha256 is not None:
        _refuse("sha256", "nobody can check which file an endpoint serves; leave it out")


def _refuse(field: str, message: str) -> None:
    raise InvalidArtifact(f"{field}: {message}", faults=[Fault(message, field=field)])
