"""Goodput: requests that meet every given bound.

The bounds are on the time to the first token, on the mean inter-token latency of a request, which is the
response's completion minus its first token, divided by its output tokens less one, and on the whole request.
A request with a bound on its tokens but without text does not meet it; one with a single token has no
inter-token latency that could be too long.
"""

from collections.abc import Mapping

import numpy
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, ValidationError

from assay_evidence.runtime.timeline import NANOSECONDS, BoolArray, RequestTimeline

NO_BOUNDS = "no bounds given"


class GoodputBounds(BaseModel):
    """Upper bounds in seconds, of which a request must meet all that are given."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    ttft_s: FiniteFloat | None = Field(default=None, gt=0)
    itl_s: FiniteFloat | None = Field(default=None, gt=0)
    latency_s: FiniteFloat | None = Field(default=None, gt=0)

    @property
    def given(self) -> dict[str, float]:
        """The bounds that there are, by name."""
        return {name: value for name, value in self.model_dump().items() if value is not None}

    @property
    def needs_tokens(self) -> bool:
        """Whether only generating requests can be judged by them."""
        return self.ttft_s is not None or self.itl_s is not None

    def considered(self, timeline: RequestTimeline) -> BoolArray:
        """The requests with a response that can be judged."""
        return timeline.generated if self.needs_tokens else timeline.answered

    def met(self, timeline: RequestTimeline) -> BoolArray:
        """The requests that meet all bounds."""
        latency = (timeline.done_ns - timeline.sent_ns) / NANOSECONDS
        met = self.considered(timeline).copy()
        if self.latency_s is not None:
            met &= latency <= self.latency_s
        if self.needs_tokens:
            met &= timeline.first_token_ns > 0
        if self.ttft_s is not None:
            met &= (timeline.first_token_ns - timeline.sent_ns) / NANOSECONDS <= self.ttft_s
        if self.itl_s is not None:
            after_first = (timeline.done_ns - timeline.first_token_ns) / NANOSECONDS
            gaps = timeline.tokens - 1
            met &= after_first <= numpy.where(gaps > 0, self.itl_s * gaps, numpy.inf)
        return met


def read_bounds(plan: Mapping[str, JsonValue]) -> GoodputBounds | None:
    """The bounds in the options of a plan; ``None`` where it gives none that can be read."""
    options = plan.get("options")
    given = options.get("goodput") if isinstance(options, dict) else None
    try:
        bounds = GoodputBounds.model_validate(given) if given else None
    except ValidationError:
        return None
    return bounds if bounds is not None and bounds.given else None
