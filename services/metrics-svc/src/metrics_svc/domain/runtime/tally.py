"""Collects the requests of a run, block by block, for its runtime metrics."""

from collections.abc import Iterable, Sequence

import pyarrow

from assay_evidence.runtime.goodput import GoodputBounds
from assay_evidence.runtime.measure import TIMING_COLUMNS
from assay_evidence.runtime.telemetry import InstanceTelemetry
from assay_evidence.tables import REQUEST_COLUMNS, requests_table
from metrics_svc.domain.evidence import request_row
from metrics_svc.domain.runtime.counts import RequestCounts
from metrics_svc.domain.runtime.details import RuntimeReport
from metrics_svc.domain.runtime.report import make_report
from metrics_svc.domain.runtime.serving import Serving
from metrics_svc.domain.samples import SampleRecord

_COLUMNS = ["index", *TIMING_COLUMNS, "schedule_delay_s"]
_ORDER = [(name, "ascending") for name in ("instance", "sent_ns", "done_ns", "first_token_ns", "index")]


class RuntimeTally:
    """Collects the times of samples, block by block; the report does not depend on their order."""

    def __init__(self) -> None:
        self._tables: list[pyarrow.Table] = []
        self._counts = RequestCounts()

    def add(self, samples: Iterable[SampleRecord]) -> None:
        """Take in samples, each once.

        Raises:
            MalformedTables: a number is larger than times and counts are.
        """
        requests = [(sample.index, request) for sample in samples for request in sample.requests]
        for _, request in requests:
            self._counts.add(request)
        rows = requests_table((index, request_row(request)) for index, request in requests)
        self._tables.append(rows.select(_COLUMNS))

    def report(
        self,
        telemetry: Sequence[InstanceTelemetry] = (),
        *,
        serving: Serving | None = None,
        bounds: GoodputBounds | None = None,
    ) -> RuntimeReport:
        """The metrics of everything taken in so far.

        Args:
            telemetry: of every serving instance of the run.
            serving: how it was served; ``None`` while the run goes on.
            bounds: for goodput.
        """
        empty = pyarrow.schema([REQUEST_COLUMNS.field(name) for name in _COLUMNS]).empty_table()
        requests = pyarrow.concat_tables([empty, *self._tables]).sort_by(_ORDER)
        return make_report(
            requests,
            self._counts,
            telemetry=telemetry,
            serving=serving,
            bounds=bounds,
        )
