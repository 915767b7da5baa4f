"""Which documents form a cluster: equal values of a column of the baseline's rows."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from assay_chassis.errors import Fault, NotFound, Unavailable
from assay_chassis.service_client import DigestMismatch
from assay_harness.errors import HarnessError, HarnessFailed, HarnessProcessDied
from assay_harness.spec import JsonlQuestionAnswer
from metrics_svc.domain.plans import HarnessInputs, read_plan
from metrics_svc.errors import RunNotFinal, UnknownColumn, Unscorable
from metrics_svc.service.evidence import FinalRun
from metrics_svc.service.harness import HarnessOpener
from metrics_svc.store import MetricsStore

FIELD = "cluster_column"


class ClusterService:
    """Reads clusters off the rows of runs, and keeps those that comparisons were made with.

    Args:
        store: has the files.
        harness: opens the rows as the task sees them.
    """

    def __init__(self, *, store: MetricsStore, harness: HarnessOpener) -> None:
        self._store = store
        self._harness = harness

    async def labels(self, baseline: FinalRun, *, column: str) -> dict[int, str]:
        """The cluster of every document of a run, by its index.

        A document without a value is a cluster of its own.

        Raises:
            UnknownColumn: the rows have no such column; the message has those they have.
            RunNotFinal: the rows of the run cannot be read again.
            Unavailable: the rows or the harness cannot be had now.
        """
        try:
            inputs = read_plan(baseline.run).harness
            if isinstance(inputs.recipe, JsonlQuestionAnswer) and inputs.evaluation is not None:
                # Its documents keep only what the prompt needs; they are the rows, one by one.
                path = await self._harness.download(inputs.evaluation)
                return await asyncio.to_thread(_labels_of_rows, path, column)
            return await self._labels_of_documents(inputs, column)
        except (HarnessProcessDied, HarnessFailed) as error:
            raise Unavailable(f"the harness does not open: {error}") from error
        except (HarnessError, Unscorable, NotFound, DigestMismatch) as error:
            message = f"the rows of run {baseline.facts.run_id} cannot be read again: {error}"
            raise RunNotFinal(message, faults=[Fault(message, field=FIELD)]) from error

    async def _labels_of_documents(self, inputs: HarnessInputs, column: str) -> dict[int, str]:
        labels: dict[int, str] = {}
        async with self._harness.open(inputs) as harness:
            async for documents in harness.documents():
                for document in documents:
                    if column not in document.doc:
                        raise _unknown(
                            column, document.doc, of=f" of {document.task}" if document.task else ""
                        )
                    labels[document.index] = _label(document.doc[column], index=document.index)
        return labels

    async def keep(self, labels: Mapping[int, str], directory: Path) -> str:
        """Keep labels; the sha256 under which they lie. ``directory`` is for a temporary file."""
        table = pyarrow.table(
            {
                "index": pyarrow.array(labels.keys(), pyarrow.int64()),
                "label": pyarrow.array(labels.values(), pyarrow.string()),
            }
        )
        path = directory / "clusters.parquet"
        pyarrow.parquet.write_table(table, path, compression="zstd")
        return await self._store.files.put(path)

    async def read(self, digest: str, directory: Path) -> dict[int, str]:
        """Labels that were kept."""
        path = await self._store.files.fetch(digest, directory)
        table = pyarrow.parquet.read_table(path)
        return dict(zip(table.column("index").to_pylist(), table.column("label").to_pylist(), strict=True))


def _labels_of_rows(path: Path, column: str) -> dict[int, str]:
    names = pyarrow.parquet.read_schema(path).names
    if column not in names:
        raise _unknown(column, names)
    values = pyarrow.parquet.read_table(path, columns=[column]).column(0).to_pylist()
    return {index: _label(value, index=index) for index, value in enumerate(values)}


def _unknown(column: str, names: Iterable[str], *, of: str = "") -> UnknownColumn:
    message = f"the rows{of} have no column {column!r}; there are: {', '.join(sorted(names))}"
    return UnknownColumn(message, faults=[Fault(message, field=FIELD)])


def _label(value: Any, *, index: int) -> str:
    if value is None:
        return f"document {index}"
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
