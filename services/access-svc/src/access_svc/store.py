"""What access-svc keeps: keys, each one document with the hash of its secret."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from access_svc.domain.keys import Key, Replaced, new_prefix, new_secret
from access_svc.errors import KeyNotFound, NameTaken
from assay_chassis.errors import Unavailable
from assay_chassis.identity import Role
from assay_chassis.infrastructure import Infrastructure
from assay_chassis.outbox import EventWriter
from assay_chassis.store import Change, Collection, Document, DuplicateKey, Index
from assay_contracts.envelope import Event

_INDEXES = (Index(("prefix",), unique=True), Index(("name",), unique=True), Index(("sort_key",)))
_PREFIX_TRIES = 5


@dataclass(frozen=True, slots=True)
class KeyPage:
    """A page of keys, newest first; ``next_cursor`` is ``None`` on the last one."""

    items: list[Key]
    next_cursor: str | None


class KeyStore:
    """Keys in this service's database."""

    def __init__(self, *, keys: Collection, events: EventWriter) -> None:
        self._keys = keys
        self._events = events

    async def add(self, draft: Key, *, event: Callable[[Key], Event]) -> tuple[Key, str]:
        """Keep a new key under a prefix and a secret that are chosen here.

        Returns:
            The key, and its secret, which is not kept.

        Raises:
            NameTaken: there is, or was, a key of that name.
        """
        for _ in range(_PREFIX_TRIES):
            prefix = new_prefix()
            secret = new_secret(prefix)
            key = replace(draft, prefix=prefix, sha256=secret.sha256)
            try:
                await self._keys.insert(_document(key), events=self._events(event(key)))
            except DuplicateKey:
                if await self._keys.find_one({"name": key.name}) is not None:
                    raise NameTaken(key.name) from None
                continue
            return key, secret.text
        raise Unavailable("no free prefix was found for the key; try again")

    async def find(self, prefix: str) -> Key | None:
        """The key of that public beginning."""
        document = await self._keys.find_one({"prefix": prefix})
        return None if document is None else _key(document)

    async def get(self, key_id: str) -> Key:
        """A key; raises KeyNotFound."""
        document = await self._keys.get(key_id)
        if document is None:
            raise KeyNotFound(key_id)
        return _key(document)

    async def page(self, *, cursor: str | None, limit: int) -> KeyPage:
        """All keys there are or were, newest first."""
        page = await self._keys.page({}, cursor=cursor, limit=limit)
        return KeyPage([_key(document) for document in page.items], page.next_cursor)

    async def change(self, key_id: str, decide: Callable[[Key], tuple[Key, Event] | None]) -> Key:
        """Change a key as ``decide`` says, with the event that tells of it; ``None`` leaves it.

        ``decide`` may be asked again when somebody got in between, and may raise. Raises KeyNotFound.
        """

        def decided(document: Document) -> Change | None:
            decision = decide(_key(document))
            if decision is None:
                return None
            key, event = decision
            return Change(set=_changing(key), events=self._events(event))

        document = await self._keys.modify(key_id, decided)
        if document is None:
            raise KeyNotFound(key_id)
        return _key(document)

    async def used(self, key: Key, *, at: datetime) -> None:
        """Note when a key was used, unless another instance has just done so."""
        change = Change(set={"last_used_at": at}, bump=False)
        await self._keys.update(key.id, change, guard={"last_used_at": key.last_used_at})


async def open_key_store(infrastructure: Infrastructure) -> KeyStore:
    """The store on this service's database, its indexes created."""
    keys = await infrastructure.store.collection("keys", _INDEXES)
    return KeyStore(keys=keys, events=infrastructure.events)


def _document(key: Key) -> Document:
    return {
        "_id": key.id,
        "sort_key": key.id,
        "name": key.name,
        "role": key.role.value,
        "prefix": key.prefix,
        "created_by": key.created_by,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        **_changing(key),
    }


def _changing(key: Key) -> Document:
    return {
        "sha256": key.sha256,
        "revoked_at": key.revoked_at,
        "rotated_at": key.rotated_at,
        "replaced": key.replaced and {"sha256": key.replaced.sha256, "until": key.replaced.until},
    }


def _key(document: Mapping[str, Any]) -> Key:
    replaced = document["replaced"]
    return Key(
        id=document["_id"],
        name=document["name"],
        role=Role(document["role"]),
        prefix=document["prefix"],
        sha256=document["sha256"],
        created_by=document["created_by"],
        created_at=document["created_at"],
        expires_at=document["expires_at"],
        revoked_at=document["revoked_at"],
        rotated_at=document["rotated_at"],
        last_used_at=document["last_used_at"],
        replaced=replaced and Replaced(sha256=replaced["sha256"], until=replaced["until"]),
    )
