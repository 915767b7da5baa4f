"""What the sidebar offers."""

from collections.abc import Sequence
from dataclasses import dataclass

from assay_console.roles import Role


@dataclass(frozen=True, slots=True)
class NavigationLink:
    """One entry: the text, the name of its route, its icon, and the role that has the page."""

    title: str
    route: str
    icon: str
    needs: Role = Role.VIEWER


@dataclass(frozen=True, slots=True)
class NavigationGroup:
    """Entries under one heading, which may be empty."""

    title: str
    links: Sequence[NavigationLink]


NAVIGATION: Sequence[NavigationGroup] = (
    NavigationGroup(
        "Resources",
        (
            NavigationLink("Datasets", "datasets", "database"),
            NavigationLink("Methods", "methods", "file-earmark-code"),
            NavigationLink("Artifacts", "artifacts", "box-seam"),
        ),
    ),
    NavigationGroup(
        "Evaluate",
        (
            NavigationLink("Evaluations", "evaluations", "play-circle"),
            NavigationLink("Comparisons", "comparisons", "columns-gap"),
            NavigationLink("Decisions", "decisions", "clipboard-check"),
            NavigationLink("Policies", "policies", "sliders"),
            NavigationLink("Trends", "trends", "graph-up"),
        ),
    ),
    NavigationGroup(
        "System",
        (
            NavigationLink("Health", "health", "heart-pulse"),
            NavigationLink("Keys", "keys", "key", needs=Role.ADMIN),
        ),
    ),
)


def navigation(role: Role | None) -> Sequence[NavigationGroup]:
    """The groups of the sidebar from top to bottom, with the links of this role; of all roles if none."""
    role = role or Role.VIEWER
    return [
        NavigationGroup(group.title, [link for link in group.links if role.includes(link.needs)])
        for group in NAVIGATION
    ]
