"""Requests of synthetic runs with their times, and the power of the instance that served them."""

from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow
from pydantic import JsonValue

from assay_evidence.tables import REQUEST_COLUMNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast a synthetic run is served.

    Attributes:
        first_token_ms: median time to the first token.
        token_ms: mean time between tokens.
        tokens: of each generated response.
        concurrency: requests in flight.
        watts: constant power of the instance; ``None``: no sensor.
    """

    first_token_ms: float = 80.0
    token_ms: float = 15.0
    tokens: int = 12
    concurrency: int = 4
    watts: float | None = None


def synthetic_requests(
    samples: pyarrow.Table, speed: Speed, *, random: numpy.random.Generator, instance: str
) -> tuple[pyarrow.Table, int]:
    """The requests of ``samples``, in their order, and the time in which they were in flight, ns."""
    choices = samples.column("choices").to_numpy()
    rows = numpy.repeat(numpy.arange(len(samples)), numpy.maximum(choices, 1))
    failed = samples.column("failed").to_numpy()[rows]
    is_generated = choices[rows] == 0
    prompt_tokens = 100 + numpy.array([int(text) % 50 for text in samples.column("target").to_pylist()])
    n, tokens = len(rows), numpy.where(is_generated & ~failed, speed.tokens, 0)
    first = random.lognormal(numpy.log(speed.first_token_ms * 1000), 0.2, n).astype(numpy.int64)
    gaps = (
        random.gamma(4.0, speed.token_ms * 1000 / 4.0, (n, max(speed.tokens - 1, 0))).astype(numpy.int64) + 1
    )
    offsets = first[:, None] + numpy.concatenate(
        [numpy.zeros((n, 1), numpy.int64), numpy.cumsum(gaps, axis=1)], axis=1
    )
    busy_us = numpy.where(tokens > 0, offsets[:, -1], first)
    # Every lane of the client sends its next request when the one before is answered.
    sent_us = numpy.zeros(n, numpy.int64)
    for lane in range(speed.concurrency):
        sent_us[lane :: speed.concurrency] = (
            numpy.cumsum(busy_us[lane :: speed.concurrency]) - busy_us[lane :: speed.concurrency]
        )
    sent_ns = 1_000_000_000 + sent_us * 1000
    has_text = tokens > 0
    columns: dict[str, Any] = {
        "index": samples.column("index").to_numpy()[rows],
        "kind": numpy.where(is_generated, "generate", "loglikelihood"),
        "instance": numpy.full(n, instance),
        "answered": ~failed,
        "reused": numpy.zeros(n, bool),
        "retries": numpy.where(failed, 3, 0),
        "finish_reason": samples.column("finish_reason").combine_chunks().take(pyarrow.array(rows)),
        # It follows from the document, so that it is equal in all runs of the same content.
        "prompt_tokens": prompt_tokens[rows],
        "completion_tokens": tokens,
        "sent_ns": sent_ns,
        "first_token_ns": pyarrow.array(sent_ns + first * 1000, mask=~has_text),
        "done_ns": sent_ns + busy_us * 1000,
        "exact_token_times": has_text,
        "token_offsets_us": pyarrow.ListArray.from_arrays(
            pyarrow.array(numpy.concatenate([[0], numpy.cumsum(tokens)]).astype(numpy.int32)),
            pyarrow.array(offsets[has_text].ravel().astype(numpy.uint32)),
        ),
        "schedule_delay_s": numpy.full(n, 0.001),
    }
    arrays = [
        columns[one.name]
        if isinstance(columns[one.name], pyarrow.Array)
        else pyarrow.array(columns[one.name], one.type)
        for one in REQUEST_COLUMNS
    ]
    table = pyarrow.Table.from_arrays(arrays, schema=REQUEST_COLUMNS)
    return table, int((sent_us + busy_us).max(initial=0)) * 1000


def synthetic_telemetry(speed: Speed, *, instance: str, window_ns: int) -> list[dict[str, JsonValue]]:
    """What eval-svc would have recorded: an energy counter over the whole window, or that there is none."""
    if speed.watts is None:
        return [{"instance_id": instance, "power": None, "unavailable": ["no sensor"]}]
    seconds = window_ns / 1e9
    power: dict[str, JsonValue] = {
        "sensor": "synthetic",
        "device_id": "device-0",
        "scope": "card",
        "joules": speed.watts * seconds,
        "seconds": seconds,
        "readings": max(2, int(seconds)),
        "method": "counter",
        "first_mono_ns": 1_000_000_000,
        "last_mono_ns": 1_000_000_000 + window_ns,
        "largest_gap_s": 1.0,
        "sparse_s": 0.0,
        "series": {
            "mono_ns": [1_000_000_000, 1_000_000_000 + window_ns],
            "joules": [0.0, speed.watts * seconds],
        },
    }
    return [{"instance_id": instance, "power": [power], "unavailable": []}]
