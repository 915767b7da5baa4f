"""What the sidebar offers."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NavigationLink:
    """One entry: the text, the name of its route, and its icon."""

    title: str
    route: str
    icon: str


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
    NavigationGroup("System", (NavigationLink("Health", "health", "heart-pulse"),)),
)


def navigation() -> Sequence[NavigationGroup]:
    """The groups of the sidebar from top to bottom."""
    return NAVIGATION
