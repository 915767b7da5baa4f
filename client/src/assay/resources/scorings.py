"""``/v1/scorings``: finished runs, scored another way without asking the model again."""

from collections.abc import Iterator, Mapping
from typing import Any

from assay.models import ScoredSample, ScoredView
from assay.transport import Transport


class Scorings:
    """Scored views of runs."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, run_id: str, scoring: Mapping[str, Any], *, name: str | None = None) -> ScoredView:
        """Score the samples of a finished run with other filters, or as questions and answers.

        The same scoring of the same run is the same view. ``scoring`` has ``filters`` (each a name and
        steps) or ``question_answer``, as the API takes them.
        """
        body: dict[str, Any] = {"run_id": run_id, "scoring": dict(scoring)}
        if name is not None:
            body["name"] = name
        return self._transport.post("/v1/scorings", ScoredView, body=body, repeatable=True)

    def list(self, run_id: str, *, limit: int | None = None) -> Iterator[ScoredView]:
        """The scored views of a run, newest first."""
        return self._transport.pages("/v1/scorings", ScoredView, query={"run_id": run_id}, limit=limit)

    def get(self, scoring_id: str) -> ScoredView:
        """One scored view."""
        return self._transport.get(f"/v1/scorings/{scoring_id}", ScoredView)

    def samples(
        self,
        scoring_id: str,
        *,
        metric: str | None = None,
        outcome: str | None = None,
        index: int | None = None,
        search: str | None = None,
        limit: int | None = None,
    ) -> Iterator[ScoredSample]:
        """The samples with their values in this view; see ``Runs.scored_samples`` for what narrows them."""
        query = {"metric": metric, "outcome": outcome, "index": index, "search": search}
        return self._transport.pages(
            f"/v1/scorings/{scoring_id}/samples", ScoredSample, query=query, limit=limit
        )
