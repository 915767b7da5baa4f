"""Power that the cluster's exporters tell, over HTTP, as they write it."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from assay_serving.power.exporters import DcgmExporter, FuriosaExporter, ScrapedSource, Workload
from assay_serving.types import Reading, SensorKind

A, B = "GPU-6d1f3c5e-0001", "GPU-6d1f3c5e-0002"
POD = Workload(namespace="assay", pod="vllm-0")


class Exporter:
    """A web server with a page of metrics; ``page`` None is an internal error."""

    def __init__(self) -> None:
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                exporter.scrapes += 1
                exporter.answer.wait()
                with suppress(ConnectionError):  # who asked may have given up
                    self.send_response(200 if exporter.page is not None else 500)
                    self.end_headers()
                    self.wfile.write((exporter.page or "").encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.page: str | None = ""
        self.scrapes = 0
        self.answer = threading.Event()
        self.answer.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/metrics"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.answer.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    server = Exporter()
    yield server
    server.stop()


def dcgm_labels(uuid: str, *, pod: str, container: str = "vllm", more: str = "") -> str:
    return (
        f'gpu="0",UUID="{uuid}",pci_bus_id="00000000:07:00.0",device="nvidia0",'
        f'modelName="NVIDIA H100 80GB HBM3",{more}Hostname="node-7",DCGM_FI_DRIVER_VERSION="570.86.15",'
        f'container="{container}",namespace="{"assay" if pod else ""}",pod="{pod}"'
    )


def dcgm_page(*cards: tuple[str, float, float]) -> str:
    """As dcgm-exporter 4 writes it: labels, watts and millijoules of each card."""
    lines = [
        "# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).",
        "# TYPE DCGM_FI_DEV_SM_CLOCK gauge",
        *(f"DCGM_FI_DEV_SM_CLOCK{{{labels}}} 1980" for labels, _, _ in cards),
        "# HELP DCGM_FI_DEV_POWER_USAGE Power draw (in W).",
        "# TYPE DCGM_FI_DEV_POWER_USAGE gauge",
        *(f"DCGM_FI_DEV_POWER_USAGE{{{labels}}} {watts:f}" for labels, watts, _ in cards),
        "# HELP DCGM_FI_DEV_POWER_USAGE_INSTANT Current power draw (in W).",
        *(f"DCGM_FI_DEV_POWER_USAGE_INSTANT{{{labels}}} 999" for labels, _, _ in cards),
        "# HELP DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION Total energy consumption since boot (in mJ).",
        "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter",
        *(f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{{labels}}} {mj:.0f}" for labels, _, mj in cards),
    ]
    return "\n".join(lines) + "\n"


def furiosa_page(*values: tuple[str, str, float], pod: str = "vllm-0") -> str:
    """As furiosa-metrics-exporter writes it: card, ``label`` and watts."""
    lines = [
        "# HELP furiosa_npu_hw_power The current power of NPU device",
        "# TYPE furiosa_npu_hw_power gauge",
        *(
            f'furiosa_npu_hw_power{{arch="rngd",core="0-7",device="{card}",hostname="node-9",label="{label}",'
            f'namespace="assay",pci_bus_id="0000:2d:00.0",pod="{pod}",container="engine",'
            f'uuid="uuid-{card}"}} {watts}'
            for card, label, watts in values
        ),
        "# HELP furiosa_npu_hw_temperature The current temperature of NPU device\n"
        'furiosa_npu_hw_temperature{device="npu0",label="peak",uuid="uuid-npu0"} 45.9',
    ]
    return "\n".join(lines) + "\n"


def scraped(source: ScrapedSource) -> dict[tuple[str, SensorKind], float | None]:
    return {(one.device_id, one.kind): value_of(one) for one in source.read()}


def value_of(reading: Reading) -> float | None:
    assert reading.scope == "card"
    return reading.watts if reading.joules_total is None else reading.joules_total


def test_the_cards_of_the_pod_are_read_in_watts_and_joules(exporter: Exporter) -> None:
    mine, other = dcgm_labels(A, pod="vllm-0"), dcgm_labels(B, pod="vllm-1")
    exporter.page = dcgm_page((mine, 312.457, 81_000_000), (other, 70.0, 5_000))
    source = DcgmExporter(exporter.url, POD, interval=0)
    assert scraped(source) == {(A, SensorKind.DCGM_ENERGY): 0.0, (A, SensorKind.DCGM_POWER): 312.457}
    exporter.page = dcgm_page((mine, 401.5, 81_400_000), (other, 71.0, 6_000))
    assert scraped(source) == {
        (A, SensorKind.DCGM_ENERGY): pytest.approx(400.0),
        (A, SensorKind.DCGM_POWER): 401.5,
    }
    assert source.sensors == (SensorKind.DCGM_ENERGY, SensorKind.DCGM_POWER)
    assert source.unavailable == ()


def test_cards_by_uuid_need_no_pod(exporter: Exporter) -> None:
    exporter.page = dcgm_page((dcgm_labels(A, pod=""), 60.0, 1_000), (dcgm_labels(B, pod=""), 61.0, 1_000))
    source = DcgmExporter(exporter.url, Workload(uuids=[B]), interval=0)
    assert scraped(source) == {(B, SensorKind.DCGM_ENERGY): 0.0, (B, SensorKind.DCGM_POWER): 61.0}


def test_a_value_that_has_not_changed_is_no_new_reading(exporter: Exporter) -> None:
    labels = dcgm_labels(A, pod="vllm-0")
    exporter.page = dcgm_page((labels, 60.0, 1_000))
    source = DcgmExporter(exporter.url, POD, interval=0)
    assert len(source.read()) == 2
    assert [source.read() for _ in range(3)] == [(), (), ()]
    assert source.sensors, "it is there all the same"
    exporter.page = dcgm_page((labels, 60.0, 91_000))
    assert [one.kind for one in source.read()] == [SensorKind.DCGM_ENERGY]
    assert exporter.scrapes == 5


def test_a_new_time_stamp_makes_an_equal_value_new(exporter: Exporter) -> None:
    page = furiosa_page(("npu0", "rms", 41.5))
    exporter.page = page.replace(" 41.5", " 41.5 1700000000000")
    source = FuriosaExporter(exporter.url, POD, interval=0)
    assert len(source.read()) == 1
    assert source.read() == ()
    exporter.page = page.replace(" 41.5", " 41.5 1700000010000")
    assert len(source.read()) == 1


def test_it_is_scraped_no_more_often_than_asked(exporter: Exporter) -> None:
    exporter.page = dcgm_page((dcgm_labels(A, pod="vllm-0"), 60.0, 1_000))
    source = DcgmExporter(exporter.url, POD, interval=3600)
    assert source.period == 3600
    assert len(source.read()) == 2
    assert source.read() == ()
    assert exporter.scrapes == 1


def test_asking_for_the_sensors_takes_no_reading_away(exporter: Exporter) -> None:
    exporter.page = dcgm_page((dcgm_labels(A, pod="vllm-0"), 60.0, 1_000))
    source = DcgmExporter(exporter.url, POD, interval=0)
    assert source.sensors == (SensorKind.DCGM_ENERGY, SensorKind.DCGM_POWER)
    assert len(source.read()) == 2


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        (
            [dcgm_labels(A, pod="vllm-0"), dcgm_labels(A, pod="other")],
            "shared by pods (assay/other, assay/vllm-0)",
        ),
        (
            [dcgm_labels(A, pod="vllm-0", more='GPU_I_PROFILE="1g.10gb",GPU_I_ID="7",')],
            "cut into slices (MIG)",
        ),
        ([dcgm_labels(A, pod="vllm-1")], "no power of pod assay/vllm-0"),
    ],
)
def test_a_card_that_the_pod_does_not_have_to_itself_is_not_read(
    exporter: Exporter, cards: list[str], said: str
) -> None:
    exporter.page = dcgm_page(*((labels, 60.0, 1_000) for labels in cards))
    source = DcgmExporter(exporter.url, POD, interval=0)
    assert source.read() == ()
    assert source.sensors == ()
    assert said in source.unavailable[0]


def test_two_containers_of_the_pod_have_one_card(exporter: Exporter) -> None:
    cards = [dcgm_labels(A, pod="vllm-0", container=name) for name in ("vllm", "sidecar")]
    exporter.page = dcgm_page(*((labels, 60.0, 1_000) for labels in cards))
    assert len(DcgmExporter(exporter.url, POD, interval=0).read()) == 2
    assert (
        len(DcgmExporter(exporter.url, Workload(namespace="assay", pod="vllm-0", container="vllm")).read())
        == 2
    )


def test_a_value_that_the_card_does_not_give_is_none(exporter: Exporter) -> None:
    # DCGM's "blank" for 64-bit integers and for floating point.
    labels = dcgm_labels(A, pod="vllm-0")
    exporter.page = dcgm_page((labels, 140737488355328.0, 9223372036854775792))
    source = DcgmExporter(exporter.url, POD, interval=0)
    assert source.read() == ()
    assert "no power of" in source.unavailable[0]


@pytest.mark.parametrize("label", ["rms", "PCI Total RMS PWR", ""])
def test_furiosas_power_goes_by_the_metric_whatever_the_label(exporter: Exporter, label: str) -> None:
    exporter.page = furiosa_page(("npu0", label, 41.5), ("npu1", label, 39.0))
    source = FuriosaExporter(exporter.url, POD, interval=0)
    assert scraped(source) == {
        ("uuid-npu0", SensorKind.RNGD_EXPORTER_POWER): 41.5,
        ("uuid-npu1", SensorKind.RNGD_EXPORTER_POWER): 39.0,
    }
    assert source.unavailable == ()


def test_of_several_powers_the_cards_total_is_taken_and_said(exporter: Exporter) -> None:
    values = [("npu0", label, watts) for label, watts in (("peak", 90.0), ("rms", 41.5), ("core RMS", 20.0))]
    exporter.page = furiosa_page(*values)
    source = FuriosaExporter(exporter.url, POD, interval=0)
    assert scraped(source) == {("uuid-npu0", SensorKind.RNGD_EXPORTER_POWER): 41.5}
    assert "labelled 'rms' is read, not 'core RMS', 'peak'" in source.unavailable[0]


def test_powers_that_cannot_be_told_apart_are_not_read(exporter: Exporter) -> None:
    exporter.page = furiosa_page(("npu0", "peak", 90.0), ("npu0", "average", 41.5))
    source = FuriosaExporter(exporter.url, POD, interval=0)
    assert source.read() == ()
    assert "which of 'average', 'peak' is the card's power is not known" in source.unavailable[0]


def test_an_exporter_that_fails_is_told_and_tried_again(exporter: Exporter) -> None:
    exporter.page = None
    source = FuriosaExporter(exporter.url, POD, interval=0)
    assert source.read() == ()
    assert source.unavailable == (f"furiosa-metrics-exporter: {exporter.url}: HTTP 500",)
    exporter.page = "furiosa_npu_hw_power{ 3\n"
    assert source.read() == ()
    assert source.unavailable[0].startswith(f"furiosa-metrics-exporter: {exporter.url}: ")
    exporter.page = furiosa_page(("npu0", "rms", 41.5))
    assert len(source.read()) == 1
    assert source.unavailable == ()


def test_an_exporter_that_hangs_or_is_gone_costs_the_timeout(exporter: Exporter) -> None:
    exporter.answer.clear()
    hanging = DcgmExporter(exporter.url, POD, interval=0, timeout=0.05)
    assert hanging.read() == ()
    assert "timed out" in hanging.unavailable[0]
    exporter.stop()
    assert hanging.read() == ()
    assert "refused" in hanging.unavailable[0]


def test_other_urls_are_refused() -> None:
    with pytest.raises(ValueError, match="http://"):
        DcgmExporter("file:///etc/passwd", POD)
