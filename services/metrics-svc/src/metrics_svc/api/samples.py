"""Pages of scored samples, of runs and of scored views."""

from typing import Annotated

from fastapi import Depends, Query

from assay_chassis.web import PageModel
from metrics_svc.api.parameters import Metric
from metrics_svc.service.samples import SampleFilter, SampleItem


class SampleList(PageModel):
    """A page of scored samples."""

    items: list[SampleItem]


def _sample_filter(
    task: Annotated[str | None, Query(description="only samples of this task of a group")] = None,
    metric: Metric = None,
    correct: Annotated[
        bool | None, Query(description="only right, or only wrong samples by `metric`")
    ] = None,
) -> SampleFilter:
    return SampleFilter(task=task, metric=metric, correct=correct)


Wanted = Annotated[SampleFilter, Depends(_sample_filter)]
