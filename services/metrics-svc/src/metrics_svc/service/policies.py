"""Policies and their versions, which never change."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay_chassis.errors import Fault
from assay_chassis.identifiers import new_id
from assay_chassis.outbox import EventWriter
from assay_chassis.store import Document, DuplicateKey
from assay_contracts.metrics_events import PolicyCreated
from assay_evidence.policy import DEFAULT_POLICY, Policy, PolicySpec, digest_of
from metrics_svc.domain.runs import now
from metrics_svc.errors import UnknownPolicy
from metrics_svc.store import MetricsStore

SEEDED_BY = "assay"
"""Who is named as the creator of the default policy."""
_NAMES_SHOWN = 5
_NAMES_SEARCHED = 1000


@dataclass(frozen=True, slots=True)
class CreatedPolicy:
    """A version of a policy, and whether it is new."""

    policy: Policy
    is_new: bool


@dataclass(frozen=True, slots=True)
class PolicyPage:
    """Part of a list of policies."""

    items: list[Policy]
    next_cursor: str | None


class PolicyService:
    """Keeps policies. Every version is a document of its own, which is written once."""

    def __init__(self, *, store: MetricsStore, events: EventWriter) -> None:
        self._store = store
        self._events = events

    async def seed(self) -> None:
        """Make sure that there is a default policy. A later version of it that somebody made stays."""
        if await self._latest(DEFAULT_POLICY.name) is None:
            await self._insert(DEFAULT_POLICY, version=1, client=SEEDED_BY)

    async def create(self, spec: PolicySpec, *, client: str) -> CreatedPolicy:
        """Keep a policy as the next version of its name; what the latest version says is no new version."""
        digest = digest_of(spec)
        while True:
            latest = await self._latest(spec.name)
            if latest is not None and latest["digest"] == digest:
                return CreatedPolicy(_policy(latest), is_new=False)
            version = 1 if latest is None else latest["version"] + 1
            stored = await self._insert(spec, version=version, client=client)
            if stored is not None:
                return CreatedPolicy(_policy(stored), is_new=True)

    async def _insert(self, spec: PolicySpec, *, version: int, client: str) -> Document | None:
        """The stored version; ``None`` when somebody else was quicker to make one of this number."""
        digest = digest_of(spec)
        document: Document = {
            "_id": new_id("pol"),
            "name": spec.name,
            "version": version,
            "sort_key": f"{spec.name}@{version:08d}",
            "digest": digest,
            "spec": spec.model_dump_json(include=set(PolicySpec.model_fields)),
            "created_at": now(),
            "created_by": client,
        }
        event = PolicyCreated(policy_id=document["_id"], name=spec.name, version=version, digest=digest)
        try:
            return await self._store.policies.insert(document, events=self._events(event))
        except DuplicateKey:
            return None

    async def page(self, *, cursor: str | None, limit: int) -> PolicyPage:
        """Latest versions, by name."""
        page = await self._store.policies.page({"version": 1}, cursor=cursor, limit=limit, descending=False)
        latest = [await self._latest(document["name"]) or document for document in page.items]
        return PolicyPage(items=[_policy(document) for document in latest], next_cursor=page.next_cursor)

    async def versions(self, name: str, *, cursor: str | None, limit: int) -> PolicyPage:
        """All versions of a policy, newest first.

        Raises:
            UnknownPolicy: there is no policy of this name.
        """
        page = await self._store.policies.page({"name": name}, cursor=cursor, limit=limit)
        if not page.items and await self._latest(name) is None:
            raise await self._unknown(name)
        return PolicyPage(items=[_policy(document) for document in page.items], next_cursor=page.next_cursor)

    async def version(self, name: str, number: int, *, field: str | None = None) -> Policy:
        """One version of a policy.

        Args:
            name: of the policy.
            number: from 1.
            field: field of the request that names it.

        Raises:
            UnknownPolicy: there is no such policy, or no such version of it.
        """
        found = await self._store.policies.find_one({"name": name, "version": number})
        if found is not None:
            return _policy(found)
        latest = await self._latest(name)
        if latest is None:
            raise await self._unknown(name, field=field)
        message = f"policy {name!r} has no version {number}; its versions are 1 to {latest['version']}"
        raise UnknownPolicy(message, faults=[Fault(message, field=field)] if field else ())

    async def find(self, reference: str, *, field: str | None = None) -> Policy:
        """The policy that is meant by an identifier, ``name`` (its latest version) or ``name@version``.

        Args:
            reference: which.
            field: field of the request that has the reference.

        Raises:
            UnknownPolicy: there is none; the message has names that look alike.
        """
        name, separator, number = reference.partition("@")
        if separator:
            if not (number.isascii() and number.isdigit()) or int(number) < 1:
                message = f"{reference!r} names no version: write name@1, or the name alone for the latest"
                raise UnknownPolicy(message, faults=[Fault(message, field=field)] if field else ())
            return await self.version(name, int(number), field=field)
        found = await self._store.policies.get(reference) or await self._latest(reference)
        if found is None:
            raise await self._unknown(reference, field=field)
        return _policy(found)

    async def _latest(self, name: str) -> Document | None:
        page = await self._store.policies.page({"name": name}, cursor=None, limit=1)
        return page.items[0] if page.items else None

    async def _unknown(self, name: str, *, field: str | None = None) -> UnknownPolicy:
        first = await self._store.policies.page(
            {"version": 1}, cursor=None, limit=_NAMES_SEARCHED, descending=False
        )
        names = [document["name"] for document in first.items]
        close = difflib.get_close_matches(name, names, n=_NAMES_SHOWN, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {_some(names)}"
        message = f"there is no policy {name!r}; {hint}"
        return UnknownPolicy(message, faults=[Fault(message, field=field)] if field else ())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def _policy(document: Mapping[str, Any]) -> Policy:
    spec = PolicySpec.model_validate_json(document["spec"])
    return Policy(
        **dict(spec),
        id=document["_id"],
        version=document["version"],
        digest=document["digest"],
        created_at=document["created_at"],
        created_by=document["created_by"],
    )
