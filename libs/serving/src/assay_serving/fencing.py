"""Who may have instances: the holder of the newest lease of an owner, and nobody before it."""

from assay_serving.errors import Fenced

_KEPT_OWNERS = 4096


class Fences:
    """The highest fencing token that each owner has shown.

    Kept for the latest few thousand owners and in memory: after a restart of the adapter the first token
    counts until a higher one comes.
    """

    def __init__(self) -> None:
        self._highest: dict[str, int] = {}

    def pass_through(self, owner: str, token: int) -> None:
        """Let a caller in who asks for an instance; from now on every lower token of `owner` is refused.

        Raises:
            Fenced: a higher token was there before.
        """
        self.check(owner, token)
        if owner:
            self._highest.pop(owner, None)  # the latest owner is the last to be forgotten
            self._highest[owner] = token
            if len(self._highest) > _KEPT_OWNERS:
                del self._highest[next(iter(self._highest))]

    def check(self, owner: str, token: int) -> None:
        """Let a caller in who uses what `owner` has.

        Raises:
            Fenced: a higher token was there before.
        """
        highest = self._highest.get(owner, token) if owner else token
        if token < highest:
            raise Fenced(
                f"owner {owner!r} was taken over under fencing token {highest}; this call has {token}: stop"
            )
