"""Power of cards on another host, scraped from the cluster's exporters for Prometheus.

An exporter reads its cards at its own pace (dcgm-exporter every 30 s by default) and answers in between with
what it has. A value that has not changed is therefore no new reading: it is left out, so that the number of
readings and their distance say how closely a card was really watched. What is new is stamped when it was
first seen, which is at most `interval` after the exporter got it.
"""

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from assay_serving.power.source import RESTARTED, GrowingCounter, PowerSource
from assay_serving.types import Reading, SensorKind

DCGM_POWER = "DCGM_FI_DEV_POWER_USAGE"
DCGM_ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
FURIOSA_POWER = "furiosa_npu_hw_power"

_MILLI = 1e-3
_MOST_BYTES = 32 * 1024 * 1024
# DCGM writes 2 ** 47 and above where a card does not give a value.
_LEAST_BLANK = 2.0**47
_MIG_LABELS = ("GPU_I_ID", "GPU_I_PROFILE")
# Names of before 2020, which some clusters still set.
_LABELS = {
    "pod": ("pod", "pod_name"),
    "namespace": ("namespace", "pod_namespace"),
    "container": ("container", "container_name"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Whose cards are meant: those that the exporter says a pod holds, or those with these UUIDs.

    With UUIDs the pod is not looked at. An empty `container` is any of the pod's.
    """

    namespace: str = ""
    pod: str = ""
    container: str = ""
    uuids: Collection[str] = ()

    def holds(self, sample: Sample, *, uuid: str) -> bool:
        """Whether the card of this sample is one of them."""
        if self.uuids:
            return uuid in self.uuids
        asked = {"pod": self.pod, "namespace": self.namespace, "container": self.container}
        return bool(self.pod) and all(
            label_of(sample, name) == value for name, value in asked.items() if value
        )

    def __str__(self) -> str:
        return ", ".join(self.uuids) if self.uuids else f"pod {self.namespace}/{self.pod}"


def label_of(sample: Sample, name: str) -> str:
    """The pod, namespace or container that an exporter has put beside a value; empty where it has not."""
    return next((sample.labels[label] for label in _LABELS[name] if sample.labels.get(label)), "")


class ScrapedSource(PowerSource):
    """What the two exporters have in common: scraping, finding the cards, leaving out what is not new."""

    def __init__(self, url: str, workload: Workload, *, interval: float = 1.0, timeout: float = 2.0) -> None:
        """Ask nothing yet.

        Args:
            url: of the exporter's metrics, such as ``http://10.0.0.7:9400/metrics``.
            interval: seconds between scrapes.
            timeout: seconds that one may take.

        Raises:
            ValueError: the URL is not one of HTTP.
        """
        if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
            raise ValueError(f"power exporter {url!r}: must be an http:// or https:// URL")
        self._url = url
        self._workload = workload
        self._interval = interval
        self._timeout = timeout
        # No proxy: an exporter is in the cluster, as the engine is.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._next_scrape = 0.0
        self._seen: dict[tuple[str, str], tuple[float, float | None]] = {}
        self._kinds: tuple[SensorKind, ...] = ()
        self._unavailable: tuple[str, ...] = ()
        self._counters: dict[str, GrowingCounter] = {}

    @property
    @abstractmethod
    def name(self) -> str:
        """The exporter, for people."""

    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, SensorKind]:
        """The metrics that are read, and what they are."""

    @property
    def sensors(self) -> tuple[SensorKind, ...]:
        """What the last scrape had of the workload's cards; scrapes if that has not happened yet."""
        if not self._next_scrape:
            self._scrape()
            self._seen.clear()  # what was only looked at is still new to whoever reads
        return self._kinds

    @property
    def unavailable(self) -> tuple[str, ...]:
        """Why the last scrape brought nothing, or not everything."""
        return self._unavailable

    @property
    def period(self) -> float:
        """The interval of scraping."""
        return self._interval

    def read(self) -> tuple[Reading, ...]:
        """Scrape, unless the last time was less than the interval ago; only values that are new."""
        return self._scrape() if time.monotonic() >= self._next_scrape else ()

    def _scrape(self) -> tuple[Reading, ...]:
        self._next_scrape = time.monotonic() + self._interval / 2
        try:
            samples = list(self._samples(self._fetch()))
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            self._kinds, self._unavailable = (), (f"{self.name}: {self._url}: {reason}",)
            return ()
        remarks: list[str] = []
        cards = self._cards(samples, remarks)
        found = {sample.name for _, sample in cards}
        self._kinds = tuple(kind for name, kind in self.metrics.items() if name in found)
        if not cards and not remarks:
            remarks.append(f"{self.name}: {self._url}: no power of {self._workload}")
        readings = [self._reading(uuid, sample) for uuid, sample in cards if self._is_new(uuid, sample)]
        remarks += [
            f"{self.name}: {uuid}: {RESTARTED}"
            for uuid, counter in self._counters.items()
            if counter.restarts
        ]
        self._unavailable = tuple(remarks)
        return tuple(readings)

    def _fetch(self) -> str:
        try:
            with self._opener.open(self._url, timeout=self._timeout) as answer:
                body: bytes = answer.read(_MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"HTTP {error.code}") from error
        if len(body) > _MOST_BYTES:
            raise ValueError(f"the answer has more than {_MOST_BYTES} bytes")
        return body.decode(errors="replace")

    def _samples(self, text: str) -> Iterable[Sample]:
        # An exporter has hundreds of metrics: all lines but a few are dropped before they are taken apart.
        lines = [line for line in text.splitlines() if line.startswith(tuple(self.metrics))]
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            yield from (
                sample
                for sample in family.samples
                if sample.name in self.metrics and 0 <= sample.value < _LEAST_BLANK
            )

    def _cards(self, samples: list[Sample], remarks: list[str]) -> list[tuple[str, Sample]]:
        """UUID and value of the workload's cards, those left out that it does not have to itself."""
        mine = [(uuid, one) for one in samples if self._workload.holds(one, uuid=(uuid := self.uuid_of(one)))]
        shared: dict[str, str] = {}
        for uuid in dict.fromkeys(uuid for uuid, _ in mine):
            of_card = [one for one in samples if self.uuid_of(one) == uuid]
            pods = {(label_of(one, "namespace"), pod) for one in of_card if (pod := label_of(one, "pod"))}
            if any(one.labels.get(label) for one in of_card for label in _MIG_LABELS):
                shared[uuid] = "it is cut into slices (MIG), so that its energy is not that of one instance"
            elif len(pods) > 1:
                named = ", ".join("/".join(pod) for pod in sorted(pods))
                shared[uuid] = f"it is shared by pods ({named})"
        remarks += [f"{self.name}: {uuid}: {reason}" for uuid, reason in shared.items()]
        return self.chosen([(uuid, one) for uuid, one in mine if uuid not in shared], remarks)

    def _is_new(self, uuid: str, sample: Sample) -> bool:
        known = (sample.value, None if sample.timestamp is None else float(sample.timestamp))
        key = (uuid, sample.name)
        if self._seen.get(key) == known:
            return False
        self._seen[key] = known
        return True

    def _reading(self, uuid: str, sample: Sample) -> Reading:
        kind = self.metrics[sample.name]
        if kind is SensorKind.DCGM_ENERGY:
            counter = self._counters.setdefault(uuid, GrowingCounter())
            joules = counter.advance(sample.value * _MILLI)
            return Reading(kind=kind, device_id=uuid, scope="card", joules_total=joules)
        return Reading(kind=kind, device_id=uuid, scope="card", watts=sample.value)

    @abstractmethod
    def uuid_of(self, sample: Sample) -> str:
        """The card that a value is of."""

    @abstractmethod
    def chosen(self, cards: list[tuple[str, Sample]], remarks: list[str]) -> list[tuple[str, Sample]]:
        """One value per card and metric; `remarks` takes what is said of the others."""


class DcgmExporter(ScrapedSource):
    """NVIDIA's dcgm-exporter: watts, and millijoules since the driver was loaded."""

    @property
    def name(self) -> str:
        """The exporter, for people."""
        return "dcgm-exporter"

    @property
    def metrics(self) -> Mapping[str, SensorKind]:
        """Energy and power."""
        return {DCGM_ENERGY: SensorKind.DCGM_ENERGY, DCGM_POWER: SensorKind.DCGM_POWER}

    def uuid_of(self, sample: Sample) -> str:
        """The card's UUID."""
        return sample.labels.get("UUID") or sample.labels.get("uuid") or ""

    def chosen(self, cards: list[tuple[str, Sample]], remarks: list[str]) -> list[tuple[str, Sample]]:
        """The first value of each metric: a pod with several containers has the card in each of them."""
        first: dict[tuple[str, str], Sample] = {}
        for uuid, sample in cards:
            first.setdefault((uuid, sample.name), sample)
        return [(uuid, sample) for (uuid, _), sample in first.items()]


class FuriosaExporter(ScrapedSource):
    """FuriosaAI's furiosa-metrics-exporter: watts.

    A card has one value or several, told apart by ``label``, whose words changed between releases. The card's
    total as root mean square is taken: ``rms`` or, in older releases, ``PCI Total RMS PWR``.
    """

    @property
    def name(self) -> str:
        """The exporter, for people."""
        return "furiosa-metrics-exporter"

    @property
    def metrics(self) -> Mapping[str, SensorKind]:
        """Power."""
        return {FURIOSA_POWER: SensorKind.RNGD_EXPORTER_POWER}

    def uuid_of(self, sample: Sample) -> str:
        """The card's UUID, or its name where an old release gives none."""
        return sample.labels.get("uuid") or sample.labels.get("device") or ""

    def chosen(self, cards: list[tuple[str, Sample]], remarks: list[str]) -> list[tuple[str, Sample]]:
        """The card's total; a card whose values cannot be told apart is left out."""
        of_card: dict[str, dict[str, Sample]] = {}
        for uuid, sample in cards:
            of_card.setdefault(uuid, {}).setdefault(sample.labels.get("label", ""), sample)
        taken = []
        for uuid, values in of_card.items():
            label = _total_of(values)
            named = ", ".join(repr(value) for value in sorted(values) if value != label)
            if label is None:
                remarks.append(f"{self.name}: {uuid}: which of {named} is the card's power is not known")
                continue
            if named:
                remarks.append(f"{self.name}: {uuid}: the power labelled {label!r} is read, not {named}")
            taken.append((uuid, values[label]))
        return taken


def _total_of(labels: Collection[str]) -> str | None:
    """The label of a card's total power; ``None`` where it cannot be told."""
    if len(labels) == 1:
        return next(iter(labels))
    effective = [label for label in labels if "rms" in label.casefold()]
    total = [label for label in effective if "total" in label.casefold() or label.casefold() == "rms"]
    found = total or effective
    return found[0] if len(found) == 1 else None
