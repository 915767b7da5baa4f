"""``/v1/policies`` and ``/v1/decisions``."""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from assay.errors import RequestRefused
from assay.models import Decision, Policy
from assay.resources.runs import Runs
from assay.transport import OnBytes, Transport


class Policies:
    """Versioned rules of what must be shown before a candidate may replace its baseline."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, policy: Mapping[str, Any]) -> Policy:
        """Store a policy; where its name exists, as its next version.

        Equal content to the newest version gives that version. Raises RequestRefused with a fault per field.
        """
        return self._transport.post("/v1/policies", Policy, body=policy, repeatable=True)

    def list(self, *, limit: int | None = None) -> Iterator[Policy]:
        """The newest version of every policy."""
        return self._transport.pages("/v1/policies", Policy, limit=limit)

    def versions(self, name: str, *, limit: int | None = None) -> Iterator[Policy]:
        """Every version of a policy, newest first."""
        return self._transport.pages(f"/v1/policies/{name}/versions", Policy, limit=limit)

    def get(self, reference: str) -> Policy:
        """A policy by ``name`` (its newest version), ``name@version`` or id."""
        name, separator, version = reference.partition("@")
        if not separator:
            return self._transport.get(f"/v1/policies/{name}", Policy)
        if not name or not version.isdecimal():
            raise RequestRefused(
                f"{reference!r} is no policy: write a name, or NAME@VERSION such as default@1"
            )
        return self._transport.get(f"/v1/policies/{name}/versions/{version}", Policy)


class Decisions:
    """Comparisons judged by a policy."""

    def __init__(self, transport: Transport, *, runs: Runs) -> None:
        self._transport = transport
        self._runs = runs

    def create(
        self,
        baseline: str,
        candidate: str,
        *,
        policy: str = "default",
        noise_floor: str | None = None,
        cluster_column: str | None = None,
    ) -> Decision:
        """Decide whether the candidate may replace the baseline; the same question gives the same decision.

        Args:
            baseline: run of what is replaced: its name or id, or the id of a scored view.
            candidate: run of what would replace it.
            policy: ``name``, ``name@version`` or id.
            noise_floor: second run of the baseline's artifact.
            cluster_column: column of the dataset whose equal values belong together.
        """
        body: dict[str, Any] = {
            "baseline_run_id": self._runs.view_id(baseline),
            "candidate_run_id": self._runs.view_id(candidate),
            "policy": policy,
        }
        if noise_floor is not None:
            body["noise_floor_run_id"] = self._runs.view_id(noise_floor)
        if cluster_column is not None:
            body["cluster_column"] = cluster_column
        return self._transport.post("/v1/decisions", Decision, body=body, repeatable=True)

    def list(
        self, *, candidate: str | None = None, verdict: str | None = None, limit: int | None = None
    ) -> Iterator[Decision]:
        """Decisions, newest first; only of that candidate run, only with that verdict."""
        candidate_id = None if candidate is None else self._runs.view_id(candidate)
        query = {"candidate_run_id": candidate_id, "verdict": verdict}
        return self._transport.pages("/v1/decisions", Decision, query=query, limit=limit)

    def get(self, decision_id: str) -> Decision:
        """One decision."""
        return self._transport.get(f"/v1/decisions/{decision_id}", Decision)

    def report(
        self,
        decision_id: str,
        file: BinaryIO,
        *,
        file_format: str = "html",
        on_bytes: OnBytes | None = None,
    ) -> None:
        """Write the report, ``html`` or ``md``, to ``file``."""
        path = f"/v1/decisions/{decision_id}/report.{file_format}"
        self._transport.download(path, file=file, on_bytes=on_bytes)

    def bundle(self, decision_id: str, file: BinaryIO, *, on_bytes: OnBytes | None = None) -> None:
        """Write the evidence bundle, a zip file that proves the verdict without the platform."""
        self._transport.download(f"/v1/decisions/{decision_id}/bundle", file=file, on_bytes=on_bytes)
