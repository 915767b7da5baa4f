"""What a role may do, as far as pages offer it. The API decides with every call what is done."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """The roles of API keys, from the least to the most."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Whether this role may do whatever the other one may."""
        roles = tuple(Role)
        return roles.index(self) >= roles.index(other)


@dataclass(frozen=True, slots=True)
class May:
    """What templates offer; nothing where nobody is signed in.

    Attributes:
        edit: whatever creates or changes something, and the way to its form.
        administer: API keys.
    """

    edit: bool = False
    administer: bool = False

    @classmethod
    def of(cls, role: Role | None) -> "May":
        """What somebody with the role is offered."""
        if role is None:
            return cls()
        return cls(edit=role.includes(Role.EDITOR), administer=role.includes(Role.ADMIN))

    def ask_to(self, do_it: str) -> str:
        """The advice where a page offers no way to do it: ``ask_to("create one")``."""
        return f"Ask somebody with the role {Role.EDITOR} to {do_it}."


class NotOffered(Exception):
    """A page that only another role has, opened by its address."""

    def __init__(self, needed: Role) -> None:
        super().__init__(f"This needs the role {needed}.")
        self.needed = needed
