"""What a client measured beside what was true."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from truth.server import TrueRequest

Milliseconds = npt.NDArray[np.float64]
_NUMBER = re.compile(r"\[request (\d+)\]")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a client says of one request; seconds do not matter, differences of nanoseconds do."""

    number: int
    first_token: int
    gaps: npt.NDArray[np.int64]
    stamp_source: str = ""


@dataclass(slots=True)
class Errors:
    """Errors of many requests, measured minus true, in milliseconds.

    `first` is against the moment when the server had read the request, `first_taken` against the moment when
    its kernel had it. `lateness` is how much later than planned the server sent, which is no error of the
    client.
    """

    first: list[float] = field(default_factory=list)
    first_taken: list[float] = field(default_factory=list)
    gaps: list[Milliseconds] = field(default_factory=list)
    lateness: list[Milliseconds] = field(default_factory=list)
    merged: int = 0
    by_kernel: int = 0
    begin: int = 0
    end: int = 0
    unmatched: int = 0

    def add(self, measured: Measured, true: TrueRequest) -> None:
        """Compare one request; of a different number of chunks it counts as not matched."""
        if len(measured.gaps) != len(true.sent) - 1:
            self.unmatched += 1
            return
        self.first.append((measured.first_token - int(true.sent[0] - true.read)) / 1e6)
        self.first_taken.append((measured.first_token - int(true.sent[0] - (true.taken or true.read))) / 1e6)
        self.gaps.append((measured.gaps - np.diff(true.sent)) / 1e6)
        self.lateness.append((true.sent - true.planned) / 1e6)
        self.merged += int(np.count_nonzero(measured.gaps == 0))
        self.by_kernel += measured.stamp_source == "kernel"
        self.begin = min(self.begin or true.read, true.read)
        self.end = max(self.end, int(true.sent[-1]))

    def row(self) -> dict[str, float]:
        """The figures of the table; milliseconds, shares and chunks per second."""
        first = np.abs(self.first)
        gaps = np.abs(np.concatenate(self.gaps))
        late = np.concatenate(self.lateness)
        return {
            "requests": len(self.first),
            "unmatched": self.unmatched,
            "rate": len(late) / (self.end - self.begin) * 1e9,
            "first p50": float(np.quantile(first, 0.5)),
            "first p99": float(np.quantile(first, 0.99)),
            "first max": float(first.max()),
            "taken p50": float(np.quantile(np.abs(self.first_taken), 0.5)),
            "taken p99": float(np.quantile(np.abs(self.first_taken), 0.99)),
            "gap p50": float(np.quantile(gaps, 0.5)),
            "gap p99": float(np.quantile(gaps, 0.99)),
            "gap max": float(gaps.max()),
            "merged": self.merged / len(gaps),
            "kernel": self.by_kernel / len(self.first),
            "late p50": float(np.quantile(late, 0.5)),
            "late p99": float(np.quantile(late, 0.99)),
            "chunks": len(late),
        }


def number_of(prompt: str) -> int:
    """The number in the prompt's last "[request N]", by which the server logs it."""
    return int(_NUMBER.findall(prompt)[-1])


def of_samples(
    samples: Iterable[Mapping[str, Any]], errors: Errors, log: Mapping[int, list[TrueRequest]]
) -> None:
    """Compare the requests in a run's sample log; asked twice (a retry), one cannot be matched."""
    for sample in samples:
        for request in sample["requests"]:
            times = request["times"]
            number = number_of(request["prompt"])
            true = log.get(number, [])
            if len(true) != 1 or not times["exact_token_times"]:
                errors.unmatched += 1
                continue
            measured = Measured(
                number,
                times["first_token_ns"] - times["sent_ns"],
                np.asarray(np.diff(times["token_offsets_us"]), dtype=np.int64) * 1000,
                times["stamp_source"],
            )
            errors.add(measured, true[0])
