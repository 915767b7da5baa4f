"""``/v1/comparisons``."""

from collections.abc import Iterator

from assay.models import Comparison, ComparisonItem
from assay.transport import Transport


class Comparisons:
    """Runs compared item by item."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, baseline_run_id: str, candidate_run_id: str) -> Comparison:
        """Compare two succeeded runs item by item; the same two runs give the same comparison."""
        body = {"baseline_run_id": baseline_run_id, "candidate_run_id": candidate_run_id}
        return self._transport.post("/v1/comparisons", Comparison, body=body, repeatable=True)

    def list(self, *, limit: int | None = None) -> Iterator[Comparison]:
        """Comparisons, newest first."""
        return self._transport.pages("/v1/comparisons", Comparison, limit=limit)

    def get(self, comparison_id: str) -> Comparison:
        """One comparison."""
        return self._transport.get(f"/v1/comparisons/{comparison_id}", Comparison)

    def items(
        self,
        comparison_id: str,
        *,
        metric: str | None = None,
        flip: str | None = None,
        limit: int | None = None,
    ) -> Iterator[ComparisonItem]:
        """Paired items; ``flip`` is gained, lost, both_right or both_wrong, under ``metric``."""
        return self._transport.pages(
            f"/v1/comparisons/{comparison_id}/items",
            ComparisonItem,
            query={"metric": metric, "flip": flip},
            limit=limit,
        )
