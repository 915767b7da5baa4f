"""How many samples a margin needs, and what a number of samples can show, before they are paid for."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from assay_evidence.report import QualityComparison
from assay_evidence.statistics.power import MOST, detectable_difference, samples_needed
from metrics_svc.service.comparisons import Comparison, ComparisonService

ASSUMED_CHURN = 0.06
"""Share of items that change between two builds of one model, where nothing better is known."""
_COMPARISONS_SEARCHED = 20


class Margin(BaseModel):
    """A margin and the pairs that show non-inferiority at it; ``None``: no number of samples does."""

    margin: float
    samples: int | None


class PowerQuestion(BaseModel):
    """What is to be planned; everything may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int | None = Field(
        default=None, ge=1, le=100_000_000, description="of a run; gives the difference that it can show"
    )
    margins: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        default=[0.01, 0.02, 0.03],
        min_length=1,
        max_length=50,
        description="losses of an accuracy that are tolerated; each gives the samples it needs",
    )
    churn: float | None = Field(
        default=None, ge=0, le=1, description="share of items whose result changes between the runs"
    )
    method_id: str | None = Field(
        default=None, min_length=1, description="take the churn of its newest valid comparison"
    )
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="one-sided error")
    power: float = Field(default=0.8, ge=0.5, lt=1)


class PowerPlan(BaseModel):
    """What samples can show.

    Attributes:
        churn_source: ``given`` in the question, ``observed`` in the comparison ``observed_in``, or
            ``assumed``.
        detectable_difference: smallest loss that ``samples`` show with ``power``; ``None`` where none.
    """

    churn: float
    churn_source: Literal["given", "observed", "assumed"]
    observed_in: str | None
    samples: int | None
    detectable_difference: float | None
    needed: list[Margin]
    alpha: float
    power: float
    note: str


class _Churn(NamedTuple):
    value: float
    source: Literal["given", "observed", "assumed"]
    observed_in: str | None
    note: str


class PlannerService:
    """Answers what samples can show."""

    def __init__(self, *, comparisons: ComparisonService) -> None:
        self._comparisons = comparisons

    async def plan(self, question: PowerQuestion) -> PowerPlan:
        """Answer a question about samples."""
        churn = await self._churn(question)
        shown = None
        if question.samples is not None:
            shown = detectable_difference(
                n=question.samples, churn=churn.value, alpha=question.alpha, power=question.power
            )
        return PowerPlan(
            churn=churn.value,
            churn_source=churn.source,
            observed_in=churn.observed_in,
            samples=question.samples,
            detectable_difference=shown if shown is not None and shown < 1 else None,
            needed=[_needed(margin, question, churn=churn.value) for margin in question.margins],
            alpha=question.alpha,
            power=question.power,
            note=f"of an accuracy, if the candidate is as good as the baseline; {churn.note}",
        )

    async def _churn(self, question: PowerQuestion) -> _Churn:
        if question.churn is not None:
            return _Churn(question.churn, "given", None, "the churn is the one that was given")
        if question.method_id is not None and (found := await self._observed(question.method_id)):
            return found
        missing = "" if question.method_id is None else ", because no valid comparison of the method is known"
        return _Churn(ASSUMED_CHURN, "assumed", None, f"a churn of {ASSUMED_CHURN:.0%} is assumed{missing}")

    async def _observed(self, method_id: str) -> _Churn | None:
        """Of the first metric of the newest valid comparison."""
        page = await self._comparisons.page(method_id=method_id, cursor=None, limit=_COMPARISONS_SEARCHED)
        for comparison in page.items:
            compared = _first_quality(comparison)
            if compared is None:
                continue
            seen = f"{compared.changed} of {compared.n} items of {compared.metric} changed in {comparison.id}"
            if compared.changed:
                return _Churn(compared.changed_rate, "observed", comparison.id, seen)
            # Nothing changed: that bounds the churn, and says not that it is 0.
            note = f"{seen}, so the churn is at most {compared.changed_rate_upper:.2%} (one-sided 95 %)"
            return _Churn(compared.changed_rate_upper, "observed", comparison.id, note)
        return None


def _first_quality(comparison: Comparison) -> QualityComparison | None:
    valid: Sequence[QualityComparison] = next(
        (one.quality for one in comparison.candidates if one.valid and one.quality), []
    )
    return next((one for one in valid if one.kind == "binary" and one.n), None)


def _needed(margin: float, question: PowerQuestion, *, churn: float) -> Margin:
    samples = samples_needed(margin=margin, churn=churn, alpha=question.alpha, power=question.power)
    return Margin(margin=margin, samples=samples if samples < MOST else None)
