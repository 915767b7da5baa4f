"""Between the domain's objects and the documents that hold them."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from assay_chassis.store import Document
from dataset_svc.domain.datasets import Dataset
from dataset_svc.domain.snapshots import (
    Column,
    HubOrigin,
    Snapshot,
    SnapshotContent,
    SnapshotRole,
    Source,
)


def plain(value: Snapshot | SnapshotContent) -> Document:
    """The fields as they are stored."""
    document = asdict(value)
    document["columns"] = [{**column, "examples": list(column["examples"])} for column in document["columns"]]
    document["role"] = value.role.value
    return document


def _source_of(document: Mapping[str, Any]) -> Source | HubOrigin:
    return Source(**document) if document["kind"] == "jsonl" else HubOrigin(**document)


def snapshot_of(document: Mapping[str, Any]) -> Snapshot:
    """The snapshot of a document of its own, or of the copy inside its dataset."""
    return Snapshot(
        id=document.get("id") or document["_id"],
        dataset_id=document["dataset_id"],
        dataset_name=document["dataset_name"],
        digest=document["digest"],
        rows=document["rows"],
        bytes=document["bytes"],
        split=document["split"],
        columns=tuple(
            Column(**{**column, "examples": tuple(column["examples"])}) for column in document["columns"]
        ),
        source=_source_of(document["source"]),
        created_at=document["created_at"],
        role=SnapshotRole(document.get("role", SnapshotRole.EVALUATION)),
        fewshot_snapshot_id=document.get("fewshot_snapshot_id"),
    )


def dataset_of(document: Mapping[str, Any]) -> Dataset:
    """The dataset of a document."""
    current = document["current_snapshot"]
    dataset = Dataset(
        id=document["_id"],
        name=document["name"],
        version=document["version"],
        description=document["description"],
        created_at=document["created_at"],
        latest_ingest_id=document.get("latest_ingest_id"),
    )
    return replace(dataset, current_snapshot=snapshot_of(current)) if current else dataset
