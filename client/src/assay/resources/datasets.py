"""``/v1/datasets`` and ``/v1/snapshots``: named rows and what they are made of."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from assay.errors import RequestRefused
from assay.models import (
    Dataset,
    Ingest,
    Page,
    Row,
    Snapshot,
    SnapshotDifference,
    SnapshotStatistics,
)
from assay.resources.named import NamedResources
from assay.transport import OnBytes, Transport


class Datasets(NamedResources[Dataset]):
    """Datasets and their snapshots."""

    path = "/v1/datasets"
    prefix = "ds"
    kind = "dataset"
    listing = "assay dataset list"

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, Dataset)

    def create(self, name: str, *, version: str = "main", description: str = "") -> Dataset:
        """Register a dataset; it is Empty until ``upload``, or an ingest."""
        body = {"name": name, "version": version, "description": description}
        return self._transport.post("/v1/datasets", Dataset, body=body)

    def delete(self, reference: str) -> None:
        """Delete a dataset with its snapshots. Raises Conflict, naming the runs, where runs refer to it."""
        self._transport.delete(f"/v1/datasets/{self.get(reference).id}")

    def upload(
        self,
        reference: str,
        path: Path,
        *,
        split: str = "test",
        on_bytes: OnBytes | None = None,
    ) -> Snapshot:
        """Send a JSONL file as the dataset's new current snapshot, without reading it into memory.

        The file may be compressed: its name then ends in ``.gz`` or ``.zst``. ``on_bytes`` hears how many
        bytes were sent since it was called last. Raises RequestRefused with a fault per wrong line; the
        dataset keeps what it had.
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

    def snapshots(self, reference: str, *, limit: int | None = None) -> Iterator[Snapshot]:
        """The dataset's snapshots, newest first."""
        return self._transport.pages(
            f"/v1/datasets/{self.get(reference).id}/snapshots", Snapshot, limit=limit
        )

    def snapshot(self, snapshot_id: str) -> Snapshot:
        """One snapshot."""
        return self._transport.get(f"/v1/snapshots/{snapshot_id}", Snapshot)

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete a snapshot. Raises Conflict, naming the runs, where runs refer to it."""
        self._transport.delete(f"/v1/snapshots/{snapshot_id}")

    def rows(self, snapshot_id: str, *, offset: int = 0, limit: int = 20) -> Page[Row]:
        """Rows of a snapshot from row ``offset`` on."""
        query = {"offset": offset, "limit": limit}
        return self._transport.get(f"/v1/snapshots/{snapshot_id}/rows", Page[Row], query=query)

    def statistics(self, snapshot_id: str) -> SnapshotStatistics:
        """Rows, bytes, nulls, lengths and duplicates of a snapshot."""
        return self._transport.get(f"/v1/snapshots/{snapshot_id}/statistics", SnapshotStatistics)

    def difference(
        self,
        snapshot_id: str,
        *,
        against: str,
        key: str | None = None,
        change: str | None = None,
        offset: int = 0,
        limit: int = 20,
    ) -> SnapshotDifference:
        """What ``snapshot_id`` has that the snapshot ``against`` has not, and the other way round.

        Args:
            snapshot_id: the newer snapshot.
            against: the older one.
            key: column that says which rows belong together; without it there are no changed rows.
            change: only rows that were ``added``, ``removed`` or ``changed``.
            offset, limit: which of the rows.
        """
        query = {"against": against, "key": key, "change": change, "offset": offset, "limit": limit}
        return self._transport.get(f"/v1/snapshots/{snapshot_id}/diff", SnapshotDifference, query=query)

    def download(
        self, snapshot_id: str, file: BinaryIO, *, file_format: str = "jsonl", on_bytes: OnBytes | None = None
    ) -> None:
        """Write the rows of a snapshot to ``file`` as ``jsonl`` or ``parquet``."""
        self._transport.download(
            f"/v1/snapshots/{snapshot_id}/content.{file_format}", file=file, on_bytes=on_bytes
        )

    def ids(self, **references: str | None) -> dict[str, str]:
        """Fields of a request that name datasets, with names replaced by ids; without those not given."""
        return {
            field: self.get(reference).id for field, reference in references.items() if reference is not None
        }

    def member_ids(self, **members: Mapping[str, str] | None) -> dict[str, dict[str, str]]:
        """The same for fields that name a dataset for each member of a group."""
        return {field: self.ids(**datasets) for field, datasets in members.items() if datasets}


class Ingests:
    """Jobs that bring data of the Hugging Face Hub into a dataset."""

    def __init__(self, transport: Transport, *, datasets: Datasets) -> None:
        self._transport = transport
        self._datasets = datasets

    def start(
        self,
        dataset: str,
        repo_id: str,
        *,
        split: str,
        subset: str | None = None,
        revision: str = "main",
        fewshot_split: str | None = None,
    ) -> Ingest:
        """Queue the import of a split; it becomes the dataset's current snapshot when it has succeeded.

        Args:
            dataset: name or id of the dataset.
            repo_id: repository on the Hub, such as ``openai/gsm8k``.
            split: split to evaluate on.
            subset: configuration of the data; its only or default one if ``None``.
            revision: branch, tag or commit.
            fewshot_split: split of the same repository for few-shot examples.
        """
        source: dict[str, Any] = {
            "kind": "huggingface",
            "repo_id": repo_id,
            "subset": subset,
            "split": split,
            "revision": revision,
            "fewshot_split": fewshot_split,
        }
        path = f"/v1/datasets/{self._datasets.get(dataset).id}/ingests"
        return self._transport.post(path, Ingest, body={"source": source})

    def get(self, ingest_id: str) -> Ingest:
        """One of them, as it is now."""
        return self._transport.get(f"/v1/ingests/{ingest_id}", Ingest)

    def list(self, dataset: str, *, limit: int | None = None) -> Iterator[Ingest]:
        """Those of a dataset, newest first."""
        path = f"/v1/datasets/{self._datasets.get(dataset).id}/ingests"
        return self._transport.pages(path, Ingest, limit=limit)

    def cancel(self, ingest_id: str) -> Ingest:
        """End one that is not over; the dataset keeps what it had."""
        return self._transport.post(f"/v1/ingests/{ingest_id}/cancel", Ingest)
