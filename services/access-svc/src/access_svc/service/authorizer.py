"""Who holds the key that was sent. Accepted keys are remembered for some seconds."""

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from access_svc.domain.keys import Key, KeyState, hash_of, now, prefix_of, same_hash
from access_svc.errors import KeyEnded, KeyUnknown
from access_svc.store import KeyStore
from assay_chassis.errors import Unavailable
from assay_chassis.identity import Identity, Role

logger = logging.getLogger(__name__)

_MAX_REMEMBERED = 10_000
_USE_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class SettingsKey:
    """The first admin's key, which is set and not kept."""

    key: str
    client: str


@dataclass(frozen=True, slots=True)
class _Accepted:
    identity: Identity
    until: float
    ends_at: datetime | None


class Authorizer:
    """Checks keys against the settings and the store."""

    def __init__(self, *, store: KeyStore, first: SettingsKey, accepted_for_s: float) -> None:
        self._store = store
        self._first = hash_of(first.key)
        self._first_identity = Identity(client=first.client, role=Role.ADMIN)
        self._accepted_for_s = accepted_for_s
        self._accepted: dict[str, _Accepted] = {}

    async def identify(self, sent: str | None) -> Identity:
        """The holder of the key that was sent.

        Raises:
            KeyUnknown: no key, or none of ours.
            KeyEnded: it has expired, was revoked or was replaced.
            Unavailable: the store does not answer.
        """
        if not sent:
            raise KeyUnknown
        sha256 = hash_of(sent)
        if same_hash(sha256, self._first):
            return self._first_identity
        known = self._accepted.get(sha256)
        if known is not None and known.until > time.monotonic() and not _is_over(known.ends_at):
            return known.identity
        return await self._look_up(sent, sha256=sha256)

    def forget(self, key_id: str) -> None:
        """Look the key up again at its next use: it was changed here."""
        for sha256 in [sha256 for sha256, known in self._accepted.items() if known.identity.key_id == key_id]:
            del self._accepted[sha256]

    async def _look_up(self, sent: str, *, sha256: str) -> Identity:
        self._accepted.pop(sha256, None)
        asked_at = time.monotonic()
        prefix = prefix_of(sent)
        key = None if prefix is None else await self._store.find(prefix)
        if key is None:
            raise KeyUnknown
        ends_at = _checked(key, sha256=sha256)
        identity = Identity(client=key.name, role=key.role, key_id=key.id)
        if len(self._accepted) >= _MAX_REMEMBERED:
            self._accepted.clear()
        self._accepted[sha256] = _Accepted(identity, asked_at + self._accepted_for_s, ends_at)
        await self._note_use(key)
        return identity

    async def _note_use(self, key: Key) -> None:
        moment = now()
        if key.last_used_at is not None and moment - key.last_used_at < _USE_NOTED_EVERY:
            return
        try:
            await self._store.used(key, at=moment)
        except Unavailable as error:
            # The key is valid all the same.
            logger.warning("the use of key %s was not noted: %s", key.prefix, error)


def _checked(key: Key, *, sha256: str) -> datetime | None:
    """When this secret of the key ends; raises KeyUnknown, KeyEnded."""
    moment = now()
    replaced = key.replaced
    is_present = same_hash(sha256, key.sha256)
    is_replaced = replaced is not None and same_hash(sha256, replaced.sha256)
    if not is_present and not is_replaced:
        raise KeyUnknown
    if key.revoked_at is not None:
        raise KeyEnded(prefix=key.prefix, name=key.name, ending="was revoked", at=key.revoked_at)
    if key.expires_at is not None and key.state_at(moment) is KeyState.EXPIRED:
        raise KeyEnded(prefix=key.prefix, name=key.name, ending="expired", at=key.expires_at)
    if is_present or replaced is None:
        return key.expires_at
    if replaced.until <= moment:
        raise KeyEnded(prefix=key.prefix, name=key.name, ending="was replaced", at=replaced.until)
    return replaced.until if key.expires_at is None else min(replaced.until, key.expires_at)


def _is_over(ends_at: datetime | None) -> bool:
    return ends_at is not None and ends_at <= now()
