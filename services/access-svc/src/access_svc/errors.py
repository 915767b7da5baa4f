"""What access-svc refuses."""

from datetime import datetime

from assay_chassis.errors import Conflict, Fault, InvalidRequest, NotFound, Unauthorized

HOW_TO_SEND = "send your API key in the X-API-Key header, or as Authorization: Bearer <key>"


class KeyUnknown(Unauthorized):
    """No key was sent, or one that there is not. The two are told in the same words, against probing."""

    def __init__(self) -> None:
        super().__init__(HOW_TO_SEND)


class KeyEnded(Unauthorized):
    """The key is the right one, and its time is over."""

    slug = "key-ended"
    title = "The API key is no longer valid"

    def __init__(self, *, prefix: str, name: str, ending: str, at: datetime) -> None:
        super().__init__(
            f"the key {prefix} ({name}) {ending} at {at:%Y-%m-%d %H:%M:%S} UTC; ask an admin for another"
        )


class KeyNotFound(NotFound):
    """There is no key of that id."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"there is no key {key_id!r}; GET /v1/access/keys lists those that there are")


class NameTaken(Conflict):
    """A key of that name exists, or existed: the name says in the records who did something."""

    slug = "name-taken"
    title = "The name is taken"

    def __init__(self, name: str) -> None:
        message = f"the name {name!r} belongs to another key or to the platform"
        super().__init__(f"{message}; choose another", faults=[Fault(message=message, field="name")])


class OwnKey(Conflict):
    """An admin wants to revoke the key with which it asks."""

    slug = "own-key"
    title = "This is the key that you are using"

    def __init__(self) -> None:
        super().__init__("a key cannot revoke itself; use another admin's key")


class KeyOver(Conflict):
    """The key has expired or was revoked."""

    slug = "key-over"
    title = "The key is no longer valid"

    def __init__(self, *, name: str, state: str) -> None:
        super().__init__(f"the key {name!r} is {state}; create a new one")


class ExpiresInThePast(InvalidRequest):
    """The key would never be valid."""

    def __init__(self) -> None:
        message = "the time is over already"
        super().__init__(
            f"expires_at: {message}; name one in the future, or leave it out",
            faults=[Fault(message=message, field="expires_at")],
        )
