"""``/v1/plan/power`` and ``/v1/trends``."""

from collections.abc import Iterator, Sequence
from typing import Any

from assay.models import PowerPlan, TrendPoint
from assay.resources.datasets import Datasets
from assay.resources.methods import Methods
from assay.transport import Transport


class Planning:
    """What a number of samples can show."""

    def __init__(self, transport: Transport, *, methods: Methods) -> None:
        self._transport = transport
        self._methods = methods

    def power(
        self,
        *,
        samples: int | None = None,
        margins: Sequence[float] = (),
        churn: float | None = None,
        method: str | None = None,
        alpha: float | None = None,
        power: float | None = None,
    ) -> PowerPlan:
        """What ``samples`` can show, and how many a margin needs.

        Args:
            samples: number of samples, where one is planned.
            margins: largest tolerated losses, such as 0.02.
            churn: share of the answers that change; observed or assumed where it is not given.
            method: name or id of the method whose newest comparison tells the churn.
            alpha: one-sided error.
            power: with which a difference is to be shown.
        """
        values: dict[str, Any] = {
            "samples": samples,
            "margins": list(margins) or None,
            "churn": churn,
            "method_id": None if method is None else self._methods.get(method).id,
            "alpha": alpha,
            "power": power,
        }
        body = {name: value for name, value in values.items() if value is not None}
        return self._transport.post("/v1/plan/power", PowerPlan, body=body, repeatable=True)


class Trends:
    """Metrics of one method over time."""

    def __init__(self, transport: Transport, *, methods: Methods, datasets: Datasets) -> None:
        self._transport = transport
        self._methods = methods
        self._datasets = datasets

    def list(
        self,
        method: str,
        *,
        metric: str | None = None,
        dataset: str | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
    ) -> Iterator[TrendPoint]:
        """The finished runs of a method with their value of a metric, oldest first.

        ``since`` and ``until`` are RFC 3339 times, or dates.
        """
        query = {
            "method_id": self._methods.get(method).id,
            "metric": metric,
            "dataset_id": None if dataset is None else self._datasets.get(dataset).id,
            "since": since,
            "until": until,
        }
        return self._transport.pages("/v1/trends", TrendPoint, query=query, limit=limit)
