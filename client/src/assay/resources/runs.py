"""``/v1/evaluations`` and ``/v1/metrics``: runs, their samples and their metrics."""

import uuid
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from assay.models import Plan, Run, RunMetrics, Sample, ScoredSample
from assay.resources.artifacts import Artifacts
from assay.resources.datasets import Datasets
from assay.resources.methods import Methods
from assay.resources.named import NamedResources, is_id
from assay.transport import OnBytes, Transport

SCORING_PREFIX = "scr"


class Runs(NamedResources[Run]):
    """Evaluation runs."""

    path = "/v1/evaluations"
    prefix = "run"
    kind = "run"
    listing = "assay run list"

    def __init__(
        self, transport: Transport, *, datasets: Datasets, methods: Methods, artifacts: Artifacts
    ) -> None:
        super().__init__(transport, Run)
        self._datasets = datasets
        self._methods = methods
        self._artifacts = artifacts

    def request(
        self,
        *,
        artifact: str,
        method: str,
        dataset: str | None = None,
        name: str | None = None,
        method_version: int | None = None,
        fewshot_dataset: str | None = None,
        member_datasets: Mapping[str, str] | None = None,
        member_fewshot_datasets: Mapping[str, str] | None = None,
        column_mapping: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The body that ``plan`` and ``start`` send, with names replaced by ids.

        ``dataset`` may be left out for a group whose members all have datasets of their own in
        ``member_datasets``. ``column_mapping`` goes from a column that the method reads to the dataset's
        column. ``options`` are those of the API: limit, batch_size, concurrency, num_fewshot,
        generation_kwargs, system_instruction, apply_chat_template, fewshot_as_multiturn, seeds, repeats,
        bootstrap_iterations, reuse_responses, on_failure, max_retries, serving, goodput, early_stop
        (whose baseline_run_id may be a name).
        """
        chosen = dict(options or {})
        if chosen.get("early_stop"):
            early_stop = dict(chosen["early_stop"])
            early_stop["baseline_run_id"] = self.view_id(early_stop["baseline_run_id"])
            chosen["early_stop"] = early_stop
        body: dict[str, Any] = {
            "artifact_id": self._artifacts.get(artifact).id,
            **self._datasets.ids(dataset_id=dataset, fewshot_dataset_id=fewshot_dataset),
            "method_id": self._methods.get(method).id,
            "column_mapping": dict(column_mapping or {}),
            "options": chosen,
        }
        body |= self._datasets.member_ids(
            member_datasets=member_datasets, member_fewshot_datasets=member_fewshot_datasets
        )
        optional = {"name": name, "method_version": method_version}
        body.update({key: value for key, value in optional.items() if value is not None})
        return body

    def view_id(self, reference: str) -> str:
        """The id of a run by its id or name; the id of a scored view of a run is taken as it is."""
        if is_id(reference, prefix=self.prefix) or is_id(reference, prefix=SCORING_PREFIX):
            return reference
        return self.get(reference).id

    def plan(self, **request: Any) -> Plan:
        """What a run would be, after all checks; takes what ``request`` takes and starts nothing."""
        body = self.request(**request)
        return self._transport.post("/v1/evaluations/plan", Plan, body=body, repeatable=True)

    def start(self, *, idempotency_key: str | None = None, **request: Any) -> Run:
        """Check, freeze the plan and queue the run; takes what ``request`` takes.

        A second call with the same ``idempotency_key`` gives the same run. Without one, a new key is made
        for this call, so that its own repetitions cannot start a second run.
        """
        body = self.request(**request)
        key = idempotency_key or uuid.uuid4().hex
        return self._transport.post("/v1/evaluations", Run, body=body, idempotency_key=key)

    def list(
        self,
        *,
        name: str | None = None,
        search: str | None = None,
        state: str | None = None,
        dataset: str | None = None,
        artifact: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Run]:
        """Runs, newest first.

        Only those of that name, with ``search`` in their name, in that state, on that dataset and of that
        artifact.
        """
        query = {
            "name": name,
            "search": search,
            "state": state,
            "dataset_id": None if dataset is None else self._datasets.get(dataset).id,
            "artifact_id": None if artifact is None else self._artifacts.get(artifact).id,
        }
        return self._pages(query, limit=limit)

    def cancel(self, reference: str) -> Run:
        """End a run; its finished samples stay."""
        return self._transport.post(f"/v1/evaluations/{self.get(reference).id}/cancel", Run)

    def resume(self, reference: str) -> Run:
        """Queue a failed or cancelled run again; its finished samples are not asked a second time."""
        return self._transport.post(f"/v1/evaluations/{self.get(reference).id}/resume", Run)

    def samples(self, run_id: str, *, limit: int | None = None) -> Iterator[Sample]:
        """What was asked and answered, in the order in which the samples finished."""
        return self._transport.pages(f"/v1/evaluations/{run_id}/samples", Sample, limit=limit)

    def logs(self, run_id: str, file: BinaryIO, *, instance_id: str | None = None) -> None:
        """Write what the run's serving engines have logged to ``file``; with ``instance_id`` one of them."""
        path = f"{self.path}/{run_id}/logs"
        self._transport.download(path, file=file, query={"instance_id": instance_id})

    def metrics(self, run_id: str) -> RunMetrics:
        """The run's metrics, so far or final."""
        return self._transport.get(f"/v1/metrics/runs/{run_id}", RunMetrics)

    def scored_samples(
        self,
        run_id: str,
        *,
        metric: str | None = None,
        outcome: str | None = None,
        index: int | None = None,
        search: str | None = None,
        limit: int | None = None,
    ) -> Iterator[ScoredSample]:
        """Samples with their values, in the order in which they finished.

        Args:
            run_id: the run.
            metric: only samples with this metric.
            outcome: only those that are ``right`` or ``wrong`` by ``metric``, or that ``failed``.
            index: only the sample of this evaluation row.
            search: only those with this text in prompt, target or response, in upper or lower case.
            limit: at most this many.
        """
        query = {"metric": metric, "outcome": outcome, "index": index, "search": search}
        return self._transport.pages(
            f"/v1/metrics/runs/{run_id}/samples", ScoredSample, query=query, limit=limit
        )

    def export(
        self,
        run_id: str,
        file: BinaryIO,
        *,
        export: str = "samples.csv",
        task: str | None = None,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """Write scores and samples of a finished run to ``file``, in a form that other tools read.

        Args:
            run_id: the run.
            file: where to.
            export: ``samples.csv`` or ``samples.parquet``; or in lm-eval's own form ``lm-eval/results.json``,
                ``lm-eval/samples.jsonl``, or ``lm-eval.zip`` with all its files.
            task: of a group: the member whose samples are meant.
            on_bytes: hears how many bytes arrived since it was called last.
        """
        path = f"/v1/metrics/runs/{run_id}/{export}"
        self._transport.download(path, file=file, query={"task": task}, on_bytes=on_bytes)
