"""The resources of the API: datasets, methods, backends, artifacts, comparisons. Runs have ``runs.py``.

Every method raises ``AssayError``; see ``AssayClient``.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from assay.errors import RequestRefused
from assay.models import (
    Artifact,
    Backend,
    Comparison,
    ComparisonItem,
    Dataset,
    Method,
    Page,
    RenderedRow,
    Row,
    Snapshot,
    Task,
    Template,
)
from assay.references import only_one, resolve
from assay.transport import OnBytes, Transport


class Datasets:
    """``/v1/datasets`` and ``/v1/snapshots``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, *, version: str = "main", description: str = "") -> Dataset:
        """Register a dataset; it is Empty until ``upload``."""
        body = {"name": name, "version": version, "description": description}
        return self._transport.post("/v1/datasets", Dataset, body=body)

    def list(self, *, name: str | None = None, limit: int | None = None) -> Iterator[Dataset]:
        """Datasets, newest first."""
        return self._transport.pages("/v1/datasets", Dataset, query={"name": name}, limit=limit)

    def get(self, reference: str) -> Dataset:
        """The dataset with that id or name."""
        return resolve(
            reference,
            prefix="ds",
            by_id=lambda id_: self._transport.get(f"/v1/datasets/{id_}", Dataset),
            by_name=lambda name: only_one(
                self.list(name=name), kind="dataset", name=name, listing="assay dataset list"
            ),
        )

    def upload(
        self,
        reference: str,
        path: Path,
        *,
        split: str = "test",
        on_bytes: OnBytes | None = None,
    ) -> Snapshot:
        """Send a JSONL file as the dataset's new current snapshot, without reading it into memory.

        ``on_bytes`` hears how many bytes were sent since it was called last. Raises RequestRefused with a
        fault per wrong line; the dataset keeps what it had.
        """
        dataset = self.get(reference)
        try:
            with path.open("rb") as file:
                return self._transport.upload(
                    f"/v1/datasets/{dataset.id}/data",
                    Snapshot,
                    file=file,
                    size=path.stat().st_size,
                    query={"split": split, "filename": path.name},
                    on_bytes=on_bytes,
                )
        except OSError as error:
            raise RequestRefused(f"{path} cannot be read: {error.strerror}") from error

    def snapshots(self, reference: str) -> Iterator[Snapshot]:
        """The dataset's snapshots, newest first."""
        return self._transport.pages(f"/v1/datasets/{self.get(reference).id}/snapshots", Snapshot)

    def snapshot(self, snapshot_id: str) -> Snapshot:
        """One snapshot."""
        return self._transport.get(f"/v1/snapshots/{snapshot_id}", Snapshot)

    def rows(self, snapshot_id: str, *, offset: int = 0, limit: int = 20) -> Page[Row]:
        """Rows of a snapshot from row ``offset`` on."""
        query = {"offset": offset, "limit": limit}
        return self._transport.get(f"/v1/snapshots/{snapshot_id}/rows", Page[Row], query=query)


class Methods:
    """``/v1/templates``, ``/v1/tasks`` and ``/v1/methods``."""

    def __init__(self, transport: Transport, *, datasets: Datasets) -> None:
        self._transport = transport
        self._datasets = datasets

    def templates(self) -> Iterator[Template]:
        """The templates that a method can be made of."""
        return iter(self._transport.get("/v1/templates", Page[Template]).items)

    def tasks(self, *, query: str | None = None, limit: int = 50) -> Page[Task]:
        """Tasks of lm-eval's index whose name or tags contain ``query``."""
        return self._transport.get("/v1/tasks", Page[Task], query={"query": query, "limit": limit})

    def create(
        self,
        name: str,
        recipe: Mapping[str, Any],
        *,
        description: str = "",
        dataset: str | None = None,
    ) -> Method:
        """Define a method. With ``dataset`` it is also checked that it fits that dataset's columns."""
        body: dict[str, Any] = {"name": name, "recipe": dict(recipe), "description": description}
        if dataset is not None:
            body["dataset_id"] = self._datasets.get(dataset).id
        return self._transport.post("/v1/methods", Method, body=body)

    def create_version(
        self, reference: str, recipe: Mapping[str, Any], *, description: str | None = None
    ) -> Method:
        """Give a method a new version; the old ones stay as they are."""
        body: dict[str, Any] = {"recipe": dict(recipe)}
        if description is not None:
            body["description"] = description
        return self._transport.post(f"/v1/methods/{self.get(reference).id}/versions", Method, body=body)

    def list(self, *, name: str | None = None, limit: int | None = None) -> Iterator[Method]:
        """Methods in their newest version, newest first."""
        return self._transport.pages("/v1/methods", Method, query={"name": name}, limit=limit)

    def get(self, reference: str) -> Method:
        """The method with that id or name, in its newest version."""
        return resolve(
            reference,
            prefix="mth",
            by_id=lambda id_: self._transport.get(f"/v1/methods/{id_}", Method),
            by_name=lambda name: only_one(
                self.list(name=name), kind="method", name=name, listing="assay method list"
            ),
        )

    def preview(
        self,
        recipe: Mapping[str, Any],
        dataset: str,
        *,
        rows: int = 3,
        num_fewshot: int | None = None,
        column_mapping: Mapping[str, str] | None = None,
    ) -> Page[RenderedRow]:
        """The first rows of a dataset as the recipe would ask them."""
        body: dict[str, Any] = {
            "recipe": dict(recipe),
            "dataset_id": self._datasets.get(dataset).id,
            "rows": rows,
            "column_mapping": dict(column_mapping or {}),
        }
        if num_fewshot is not None:
            body["num_fewshot"] = num_fewshot
        return self._transport.post("/v1/methods/preview", Page[RenderedRow], body=body, repeatable=True)


class Backends:
    """``/v1/backends``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Backend]:
        """Every configured serving adapter and what it can do now."""
        return iter(self._transport.get("/v1/backends", Page[Backend]).items)


class Artifacts:
    """``/v1/artifacts``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        *,
        model: str,
        backend: str,
        uri: str,
        artifact_format: str = "gguf",
        sha256: str | None = None,
        revision: str | None = None,
        serving_parameters: Mapping[str, str] | None = None,
        description: str = "",
    ) -> Artifact:
        """Register what is to be evaluated: a model in a form that one backend serves."""
        body = {
            "name": name,
            "model": model,
            "backend": backend,
            "uri": uri,
            "format": artifact_format,
            "serving_parameters": dict(serving_parameters or {}),
            "description": description,
        }
        optional = {"sha256": sha256, "revision": revision}
        body.update({key: value for key, value in optional.items() if value is not None})
        return self._transport.post("/v1/artifacts", Artifact, body=body)

    def list(self, *, name: str | None = None, limit: int | None = None) -> Iterator[Artifact]:
        """Artifacts, newest first."""
        return self._transport.pages("/v1/artifacts", Artifact, query={"name": name}, limit=limit)

    def get(self, reference: str) -> Artifact:
        """The artifact with that id or name."""
        return resolve(
            reference,
            prefix="art",
            by_id=lambda id_: self._transport.get(f"/v1/artifacts/{id_}", Artifact),
            by_name=lambda name: only_one(
                self.list(name=name), kind="artifact", name=name, listing="assay artifact list"
            ),
        )


class Comparisons:
    """``/v1/comparisons``."""

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
