"""What admins do with keys. Every change is an event: who did what to which key."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from access_svc.domain.keys import Key, KeyState, Replaced, new_secret, now
from access_svc.errors import ExpiresInThePast, KeyOver, NameTaken, OwnKey
from access_svc.service.authorizer import Authorizer, SettingsKey
from access_svc.store import KeyPage, KeyStore
from assay_chassis.identifiers import new_id
from assay_chassis.identity import Identity, Role
from assay_contracts.access_events import KeyCreated, KeyRevoked, KeyRotated
from assay_contracts.envelope import Event

_SERVICE_SUFFIX = "-svc"
"""How the clients are named that are services of ours."""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key with its secret, which nobody can read again."""

    key: Key
    secret: str


class KeyService:
    """Creates, lists, rotates and revokes keys."""

    def __init__(self, *, store: KeyStore, authorizer: Authorizer, first: SettingsKey) -> None:
        self._store = store
        self._authorizer = authorizer
        self._first = first

    async def create(self, *, name: str, role: Role, expires_at: datetime | None, by: Identity) -> IssuedKey:
        """A new key; raises NameTaken, ExpiresInThePast."""
        moment = now()
        if name == self._first.client or name.endswith(_SERVICE_SUFFIX):
            raise NameTaken(name)
        if expires_at is not None and expires_at <= moment:
            raise ExpiresInThePast
        draft = Key(
            id=new_id("key"),
            name=name,
            role=role,
            prefix="",
            sha256="",
            created_by=by.client,
            created_at=moment,
            expires_at=expires_at,
        )

        def event(key: Key) -> Event:
            return KeyCreated(
                key_id=key.id,
                name=name,
                prefix=key.prefix,
                by=by.client,
                role=role.value,
                expires_at=expires_at,
            )

        key, secret = await self._store.add(draft, event=event)
        return IssuedKey(key, secret)

    async def page(self, *, cursor: str | None, limit: int) -> KeyPage:
        """All keys there are or were, newest first."""
        return await self._store.page(cursor=cursor, limit=limit)

    async def rotate(self, key_id: str, *, grace: timedelta, by: Identity) -> IssuedKey:
        """Give the key a new secret; the present one is accepted for the grace, the one before not any more.

        Raises KeyNotFound; KeyOver where the key has expired or was revoked.
        """
        present = await self._store.get(key_id)
        secret = new_secret(present.prefix)

        def decide(key: Key) -> tuple[Key, Event]:
            if key.state is not KeyState.ACTIVE:
                raise KeyOver(name=key.name, state=key.state)
            moment = now()
            until = moment + grace
            rotated = replace(
                key,
                sha256=secret.sha256,
                rotated_at=moment,
                replaced=Replaced(sha256=key.sha256, until=until),
            )
            return rotated, KeyRotated(
                key_id=key.id, name=key.name, prefix=key.prefix, by=by.client, old_secret_until=until
            )

        key = await self._store.change(key_id, decide)
        self._authorizer.forget(key_id)
        return IssuedKey(key, secret.text)

    async def revoke(self, key_id: str, *, by: Identity) -> Key:
        """Revoke the key for good; again changes nothing. Raises KeyNotFound, OwnKey."""
        if key_id == by.key_id:
            raise OwnKey

        def decide(key: Key) -> tuple[Key, Event] | None:
            if key.revoked_at is not None:
                return None
            event = KeyRevoked(key_id=key.id, name=key.name, prefix=key.prefix, by=by.client)
            return replace(key, revoked_at=now()), event

        key = await self._store.change(key_id, decide)
        self._authorizer.forget(key_id)
        return key

    async def held_by(self, identity: Identity) -> Key | None:
        """The key that the caller uses; ``None`` for that of the settings, and for a service."""
        return None if identity.key_id is None else await self._store.get(identity.key_id)
