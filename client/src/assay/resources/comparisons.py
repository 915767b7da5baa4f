"""``/v1/comparisons``."""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from assay.models import Comparison, ComparisonItem
from assay.resources.runs import Runs
from assay.transport import OnBytes, Transport

REPORTS = {
    "html": "report.html",
    "md": "report.md",
    "csv": "items.csv",
    "parquet": "items.parquet",
}
"""Files that a comparison can be written to: the report for people, or the items as a table."""


class Comparisons:
    """Runs compared item by item."""

    def __init__(self, transport: Transport, *, runs: Runs) -> None:
        self._transport = transport
        self._runs = runs

    def create(
        self,
        baseline: str,
        candidates: str | Sequence[str],
        *,
        noise_floor: str | None = None,
        **settings: Any,
    ) -> Comparison:
        """Compare finished runs with a baseline, item by item; the same question gives the same comparison.

        Runs that cannot be compared are compared all the same: their report is not valid, and says why.

        Args:
            baseline: the run to compare with: its name or id, or the id of a scored view.
            candidates: one run, or up to 20.
            noise_floor: second run of the baseline's artifact, to tell changes from noise.
            settings: those of the API: margin, alpha, coverage_floor, cluster_column; ``None`` is left out.
        """
        names = [candidates] if isinstance(candidates, str) else candidates
        body: dict[str, Any] = {
            "baseline_run_id": self._runs.view_id(baseline),
            "candidate_run_ids": [self._runs.view_id(name) for name in names],
            **{name: value for name, value in settings.items() if value is not None},
        }
        if noise_floor is not None:
            body["noise_floor_run_id"] = self._runs.view_id(noise_floor)
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
        candidate: str | None = None,
        metric: str | None = None,
        flip: str | None = None,
        flip_class: str | None = None,
        limit: int | None = None,
    ) -> Iterator[ComparisonItem]:
        """Paired items of one candidate, the first where none is named.

        Args:
            comparison_id: the comparison.
            candidate: id of the candidate run, or scored view.
            metric: which says what an item counts.
            flip: gained, lost, both_right or both_wrong.
            flip_class: error, empty, truncated, format_only, choice_changed, numeric_answer or other.
            limit: at most this many.
        """
        query = {"candidate": candidate, "metric": metric, "flip": flip, "flip_class": flip_class}
        path = f"/v1/comparisons/{comparison_id}/items"
        return self._transport.pages(path, ComparisonItem, query=query, limit=limit)

    def download(
        self,
        comparison_id: str,
        file: BinaryIO,
        *,
        file_format: str = "html",
        candidate: str | None = None,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """Write the report (``html`` or ``md``) or the items (``csv`` or ``parquet``) to ``file``."""
        path = f"/v1/comparisons/{comparison_id}/{REPORTS[file_format]}"
        self._transport.download(path, file=file, query={"candidate": candidate}, on_bytes=on_bytes)
