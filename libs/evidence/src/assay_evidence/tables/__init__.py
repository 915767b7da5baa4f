"""The samples and requests of a run as columns: how they are stored, and how comparisons read them.

Two Parquet files per scored view, zstd-compressed, rows in any order (comparisons sort by ``index``):

- *samples*: one row per document, ``SAMPLE_COLUMNS``, and for every numeric key of the harness
  (``exact_match,strict-match``) a float64 column ``value:<key>``, null where the sample's task does not have
  it or the sample failed; for every filter a string column ``filtered:<filter>``, what it made of the
  response.
- *requests*: one row per request, ``REQUEST_COLUMNS``. Times may be subtracted only within one instance.
"""

from assay_evidence.tables.columns import (
    FILTERED_PREFIX,
    REQUEST_COLUMNS,
    SAMPLE_COLUMNS,
    VALUE_PREFIX,
    MalformedTables,
)
from assay_evidence.tables.reader import RunEvidence, SampleValues, read_run
from assay_evidence.tables.writer import EvidenceWriter, RequestRow, SampleRow, TableFiles, requests_table

__all__ = [
    "FILTERED_PREFIX",
    "REQUEST_COLUMNS",
    "SAMPLE_COLUMNS",
    "VALUE_PREFIX",
    "EvidenceWriter",
    "MalformedTables",
    "RequestRow",
    "RunEvidence",
    "SampleRow",
    "SampleValues",
    "TableFiles",
    "read_run",
    "requests_table",
]
