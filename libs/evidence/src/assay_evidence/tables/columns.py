"""Columns of the two tables, and what is wrong where a table has others."""

import hashlib
from pathlib import Path

import pyarrow

VALUE_PREFIX = "value:"
FILTERED_PREFIX = "filtered:"

SAMPLE_COLUMNS = pyarrow.schema(
    [
        pyarrow.field("index", pyarrow.int64(), nullable=False),
        pyarrow.field("task", pyarrow.string(), nullable=False),
        pyarrow.field("doc_hash", pyarrow.binary(32), nullable=False),
        pyarrow.field("prompt_hash", pyarrow.binary(32), nullable=False),
        pyarrow.field("target_hash", pyarrow.binary(32), nullable=False),
        # Where the whole sample lies in the scored log.
        pyarrow.field("block", pyarrow.int32(), nullable=False),
        pyarrow.field("position", pyarrow.int32(), nullable=False),
        pyarrow.field("failed", pyarrow.bool_(), nullable=False),
        pyarrow.field("target", pyarrow.string(), nullable=False),
        # The first request's text, or the most probable of the given continuations; null where there is none.
        pyarrow.field("response", pyarrow.string()),
        # Length in characters of each token's text of the first request, where the engine tells it.
        pyarrow.field("token_text_lengths", pyarrow.list_(pyarrow.uint32())),
        pyarrow.field("finish_reason", pyarrow.string()),
        # Given continuations to choose from; 0 where the answer is generated.
        pyarrow.field("choices", pyarrow.int32(), nullable=False),
    ]
)

REQUEST_COLUMNS = pyarrow.schema(
    [
        pyarrow.field("index", pyarrow.int64(), nullable=False),  # of the sample
        pyarrow.field("kind", pyarrow.string(), nullable=False),  # generate, loglikelihood, rolling
        pyarrow.field("instance", pyarrow.string()),
        pyarrow.field("answered", pyarrow.bool_(), nullable=False),
        pyarrow.field("reused", pyarrow.bool_(), nullable=False),
        pyarrow.field("retries", pyarrow.int32(), nullable=False),
        pyarrow.field("finish_reason", pyarrow.string()),
        pyarrow.field("prompt_tokens", pyarrow.int32()),
        pyarrow.field("completion_tokens", pyarrow.int32()),
        # Nanoseconds of the adapter's monotonic clock; null where the request has no times.
        pyarrow.field("sent_ns", pyarrow.int64()),
        pyarrow.field("first_token_ns", pyarrow.int64()),
        pyarrow.field("done_ns", pyarrow.int64()),
        pyarrow.field("exact_token_times", pyarrow.bool_(), nullable=False),
        # Arrival of every token, microseconds after sent_ns; tokens of one read have the same value.
        pyarrow.field("token_offsets_us", pyarrow.list_(pyarrow.uint32())),
        pyarrow.field("schedule_delay_s", pyarrow.float64()),
    ]
)

HASHES = ("doc_hash", "prompt_hash", "target_hash")


class MalformedTables(ValueError):
    """A table is not what it must be; the message names table and column."""


def file_digest(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
