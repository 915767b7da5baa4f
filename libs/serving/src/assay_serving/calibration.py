"""An adapter measures its own clockwork against an endpoint whose timing is known.

The endpoint is a process of its own on the loopback interface. It writes into every chunk when it sent it and
when the request had come, so that whatever the client's numbers differ by is the client's error. Requests go
by the same `Upstream` and `Arrivals` as those to an engine, on the event loop that serves them.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import orjson

from assay_serving import calibration_endpoint
from assay_serving.arrivals import Arrivals
from assay_serving.errors import EngineError
from assay_serving.types import Calibration, RequestTimes, StampSource
from assay_serving.upstream import ServerEvent, Upstream, UpstreamAddress, UpstreamError

_STREAMS = 8
_CHUNKS = 64
_INTERVAL_SECONDS = 0.005
_PATIENCE_SECONDS = 30.0


@dataclass(slots=True)
class _Stream:
    """One answer: what the endpoint says of it beside what this process measured. Nanoseconds."""

    arrivals: Arrivals = field(default_factory=Arrivals)
    arrived: int = 0
    sent: list[int] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    lags: list[int] = field(default_factory=list)
    times: RequestTimes | None = None

    def add(self, event: ServerEvent) -> None:
        chunk = orjson.loads(event.data)
        self.arrivals.add(event, tokens=1, text_length=1)
        self.arrived = chunk["arrived"]
        self.sent.append(chunk["sent"])
        self.reads.append(event.read_number)
        self.lags.append(event.read_mono_ns - chunk["sent"])

    async def run(self, upstream: Upstream) -> None:
        received = time.monotonic_ns()
        reply = await upstream.exchange("POST", "/", body=b"{}", on_event=self.add)
        if len(self.sent) != _CHUNKS:
            raise UpstreamError(f"{len(self.sent)} chunks of {_CHUNKS} came")
        self.times = self.arrivals.times(reply, completion_tokens=_CHUNKS, received_mono_ns=received)

    def ttft_error(self) -> float:
        """Seconds: measured minus true."""
        assert self.times is not None
        measured = self.times.first_token_mono_ns - self.times.sent_mono_ns
        return (measured - (self.sent[0] - self.arrived)) / 1e9

    def gap_errors(self) -> list[float]:
        """Seconds: measured minus true, for each gap between two chunks."""
        assert self.times is not None
        offsets = self.times.token_offsets_us
        measured = [(after - before) * 1000 for before, after in pairwise(offsets)]
        true = [after - before for before, after in pairwise(self.sent)]
        return [(here - there) / 1e9 for here, there in zip(measured, true, strict=True)]

    def merged_gaps(self) -> int:
        """Gaps of which both ends came in one read."""
        return sum(before == after for before, after in pairwise(self.reads))


async def calibrate(*, other_instances: int) -> Calibration:
    """Ask the endpoint of known timing over several streams at once; takes about half a second.

    `event_loop_lag` is from a chunk's sending to the end of the read that took it: the delay that times taken
    in user space have. Nothing stays behind, also when it fails or is cancelled.

    Raises:
        EngineError: the endpoint could not be started or asked.
    """
    began = time.monotonic_ns()
    streams = [_Stream() for _ in range(_STREAMS)]
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS), _endpoint() as port:
            upstream = Upstream(UpstreamAddress(port=port), keep_alive=True)
            try:
                await asyncio.gather(*[stream.run(upstream) for stream in streams])
            finally:
                upstream.close()
    except (OSError, ValueError, UpstreamError, TimeoutError) as error:
        raise EngineError(f"the calibration endpoint does not work: {error!r}", retryable=True) from error
    sources = {stream.times.stamp_source for stream in streams if stream.times is not None}
    ttft = [stream.ttft_error() for stream in streams]
    gaps = [error for stream in streams for error in stream.gap_errors()]
    lags = [lag / 1e9 for stream in streams for lag in stream.lags]
    return Calibration(
        mono_ns=began,
        streams=_STREAMS,
        chunks=len(lags),
        ttft_error_p50=_quantile(ttft, 0.5),
        ttft_error_p99=_quantile([abs(error) for error in ttft], 0.99),
        itl_error_p50=_quantile(gaps, 0.5),
        itl_error_p99=_quantile([abs(error) for error in gaps], 0.99),
        merged_gap_share=sum(stream.merged_gaps() for stream in streams) / len(gaps),
        event_loop_lag_p50=_quantile(lags, 0.5),
        event_loop_lag_p99=_quantile(lags, 0.99),
        stamp_source=StampSource.KERNEL if sources == {StampSource.KERNEL} else StampSource.USER_SPACE,
        other_instances=other_instances,
    )


@asynccontextmanager
async def _endpoint() -> AsyncIterator[int]:
    """The endpoint's port; its process ends with the block, or with this process."""
    script = str(calibration_endpoint.__file__)
    command = [sys.executable, "-I", "-S", script, str(_CHUNKS), str(_INTERVAL_SECONDS)]
    process = subprocess.Popen(  # noqa: ASYNC220 - it returns within a millisecond or two
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield int(await asyncio.to_thread(process.stdout.readline))
    finally:
        process.kill()
        process.communicate()


def _quantile(values: Sequence[float], share: float) -> float:
    """A value of `values` that about `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
