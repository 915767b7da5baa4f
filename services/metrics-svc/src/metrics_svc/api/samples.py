"""Pages of scored samples, of runs and of scored views."""

from typing import Annotated

from fastapi import Depends, Query
from pydantic import Field

from assay_chassis.errors import Fault
from assay_chassis.web import PageModel
from metrics_svc.api.parameters import Metric
from metrics_svc.errors import InvalidFilter
from metrics_svc.service.samples import MOST_EXAMINED, Outcome, SampleFilter, SampleItem, SamplePage

FILTERED_PAGES = (
    f"A filtered page looks at {MOST_EXAMINED:,} samples at most. It may so have fewer than `limit`, even "
    "none, and still a `next_cursor`, which goes on from there."
)


class SampleList(PageModel):
    """A page of scored samples."""

    items: list[SampleItem]
    examined: int = Field(description=f"samples that were looked at for this page. {FILTERED_PAGES}")


def sample_list(page: SamplePage) -> SampleList:
    """The page as it is answered."""
    return SampleList(items=page.items, examined=page.examined, next_cursor=page.next_cursor)


def _sample_filter(
    task: Annotated[str | None, Query(description="only samples of this task of a group")] = None,
    metric: Metric = None,
    outcome: Annotated[
        Outcome | None,
        Query(
            description="only right or only wrong samples by `metric`, or only those without a response. "
            + FILTERED_PAGES
        ),
    ] = None,
    correct: Annotated[
        bool | None,
        Query(description="`true` is `outcome=right`, `false` is `outcome=wrong`", deprecated=True),
    ] = None,
    index: Annotated[int | None, Query(ge=0, description="only the sample of this evaluation row")] = None,
    search: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="only samples with this text in prompt, target or response, in upper or lower case. "
            + FILTERED_PAGES,
        ),
    ] = None,
) -> SampleFilter:
    if correct is not None:
        if outcome is not None:
            message = "give outcome or correct, not both"
            raise InvalidFilter(message, faults=[Fault(message, field="correct")])
        outcome = Outcome.RIGHT if correct else Outcome.WRONG
    return SampleFilter(task=task, metric=metric, outcome=outcome, index=index, search=search)


Wanted = Annotated[SampleFilter, Depends(_sample_filter)]
