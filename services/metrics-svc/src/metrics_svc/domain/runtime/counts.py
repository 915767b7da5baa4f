"""Counts of a run's requests that need no times."""

from collections import Counter
from dataclasses import dataclass, field

from metrics_svc.domain.samples import RequestRecord


@dataclass(slots=True)
class RequestCounts:
    """Whole numbers over the requests taken in; each is explained in ``RuntimeDetails`` by its name there.

    Attributes:
        answered: requests with a response of their own; ``generated``: those of them that ask for text.
        inexact: generated ones without a time for every token.
        mismatched: ``token_count_mismatches``.
    """

    answered: int = 0
    generated: int = 0
    failed: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    without_text: int = 0
    inexact: int = 0
    mismatched: int = 0
    merged_reads: int = 0
    stamp_sources: Counter[str] = field(default_factory=Counter)

    def add(self, request: RequestRecord) -> None:
        """Count a request."""
        times = request.times
        self.retries += request.retries
        if request.response is None and request.log_probability is None:
            self.failed += 1
            return
        if times is None:
            return  # a response without times was reused: it cost nothing and says nothing of the engine
        self.answered += 1
        self.prompt_tokens += request.prompt_tokens or 0
        self.stamp_sources[times.stamp_source] += 1
        self.merged_reads += times.merged_reads
        if request.kind != "generate":
            return
        self.generated += 1
        self.output_tokens += request.completion_tokens or 0
        self.without_text += not times.first_token_ns
        self.inexact += not times.exact_token_times
        arrived = len(times.token_offsets_us)
        # Without any arrival the serving side does not tell them, which contradicts nothing.
        self.mismatched += arrived > 0 and arrived != (request.completion_tokens or 0)
