"""Between the domain's objects and the documents that hold them."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from assay_chassis.store import Document
from dataset_svc.domain.datasets import Dataset
from dataset_svc.domain.snapshots import Column, Snapshot, SnapshotContent, Source


def plain(value: Snapshot | SnapshotContent) -> Document:
    """The fields as they are stored."""
    document = asdict(value)
    document["columns"] = [{**column, "examples": list(column["examples"])} for column in document["columns"]]
    return document


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
        source=Source(**document["source"]),
        created_at=document["created_at"],
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
    )
    return replace(dataset, current_snapshot=snapshot_of(current)) if current else dataset
