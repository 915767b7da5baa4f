"""Sensors of the host: real files and libraries, and the two that need a card, by what they offer."""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, lists

from assay_serving.power import furiosa, nvml
from assay_serving.power.furiosa import FuriosaSource
from assay_serving.power.host import RaplMeter
from assay_serving.power.nvml import NvmlSource
from assay_serving.power.source import GrowingCounter, PowerSource
from assay_serving.types import Device, Reading, SensorKind


class NVMLError(Exception):
    """As pynvml's."""


@dataclass
class Card:
    """What a driver says of one card; an exception stands for a refusal."""

    uuid: str
    millijoules: int | Exception = 5_000_000_000
    milliwatts: int | Exception = 70_000
    mig: int | Exception = field(default_factory=lambda: NVMLError("Not Supported"))


@dataclass
class Driver:
    """The functions of pynvml that are used, over `cards`. Passed as `library`; no driver is here to ask."""

    cards: list[Card]
    opened: int = 0
    NVMLError: type[Exception] = NVMLError

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return self.cards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Card:
        for card in self.cards:
            if card.uuid == uuid:
                return card
        raise NVMLError("Not Found")

    def nvmlDeviceGetUUID(self, card: Card) -> bytes:
        return card.uuid.encode()

    def nvmlDeviceGetName(self, card: Card) -> str:
        return "NVIDIA H100"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.1"

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> Any:
        return type("Memory", (), {"total": 80 * 2**30})

    def nvmlDeviceGetTotalEnergyConsumption(self, card: Card) -> int:
        return given_or_raised(card.millijoules)

    def nvmlDeviceGetPowerUsage(self, card: Card) -> int:
        return given_or_raised(card.milliwatts)

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:
        return [given_or_raised(card.mig), 0]


def given_or_raised(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


def values(readings: tuple[Reading, ...]) -> dict[tuple[str, SensorKind], float | None]:
    return {
        (one.device_id, one.kind): one.watts if one.joules_total is None else one.joules_total
        for one in readings
    }


def test_nvml_reads_the_counter_and_the_power_of_the_named_cards() -> None:
    driver = Driver([Card("GPU-a"), Card("GPU-b", millijoules=7_000, milliwatts=310_500)])
    source = NvmlSource(["GPU-b"], library=driver)
    assert driver.opened == 0, "opened by its first use"
    first = source.read()
    driver.cards[1].millijoules = 9_500
    assert {one.scope for one in first} == {"card"}
    assert values(first) == {("GPU-b", SensorKind.NVML_ENERGY): 0.0, ("GPU-b", SensorKind.NVML_POWER): 310.5}
    assert values(source.read())["GPU-b", SensorKind.NVML_ENERGY] == pytest.approx(2.5)
    assert source.sensors == (SensorKind.NVML_ENERGY, SensorKind.NVML_POWER)
    assert source.unavailable == ()
    source.close()
    source.close()
    assert driver.opened == 0
    assert source.read() == ()


def test_nvml_without_names_reads_every_card() -> None:
    readings = NvmlSource(None, library=Driver([Card("GPU-a"), Card("GPU-b")])).read()
    assert {one.device_id for one in readings} == {"GPU-a", "GPU-b"}
    nothing = NvmlSource(None, library=Driver([]))
    assert (nothing.read(), nothing.unavailable) == ((), ("nvml: this host has no card",))


def test_nvml_does_not_read_slices() -> None:
    driver = Driver([Card("GPU-a", mig=1), Card("GPU-b", mig=0)])
    source = NvmlSource(["MIG-1", "GPU-a", "GPU-b", "GPU-c"], library=driver)
    assert {one.device_id for one in source.read()} == {"GPU-b"}
    slice_, sliced, unknown = source.unavailable
    assert "MIG-1" in slice_
    assert "counts other slices too" in slice_
    assert "GPU-a" in sliced
    assert "MIG" in sliced
    assert unknown == "nvml: GPU-c: Not Found"


def test_nvml_tells_of_a_card_without_a_counter_and_of_one_that_is_lost() -> None:
    driver = Driver([Card("GPU-a", millijoules=NVMLError("Not Supported"))])
    source = NvmlSource(None, library=driver)
    assert [one.kind for one in source.read()] == [SensorKind.NVML_POWER]
    assert source.sensors == (SensorKind.NVML_POWER,)
    assert source.unavailable == ("nvml: GPU-a: no energy counter: Not Supported",)
    driver.cards[0].milliwatts = NVMLError("GPU is lost")
    assert source.read() == ()
    assert source.sensors == ()
    assert "nvml: GPU-a: no power: GPU is lost" in source.unavailable
    driver.cards[0].milliwatts = 60_000
    assert [one.watts for one in source.read()] == [60.0]
    assert source.unavailable == ("nvml: GPU-a: no energy counter: Not Supported",)


def test_a_counter_that_starts_again_goes_on_and_says_so() -> None:
    driver = Driver([Card("GPU-a", millijoules=1_000_000)])
    source = NvmlSource(None, library=driver)
    totals = []
    for millijoules in (1_000_000, 1_400_000, 30_000, 50_000):
        driver.cards[0].millijoules = millijoules
        totals.append(values(source.read())["GPU-a", SensorKind.NVML_ENERGY])
    assert totals == pytest.approx([0.0, 400.0, 430.0, 450.0])
    assert "started again" in source.unavailable[0]


@given(counts=lists(floats(0.0, 1e9), min_size=1, max_size=50))
def test_a_counter_never_falls_and_never_exceeds_what_was_counted(counts: list[float]) -> None:
    counter = GrowingCounter()
    totals = [counter.advance(count) for count in counts]
    assert totals == sorted(totals)
    assert totals[0] == 0.0
    assert totals[-1] <= sum(counts) + 1e-6
    assert counter.restarts == sum(after < before for before, after in pairwise(counts))


def test_devices_of_a_host_with_cards() -> None:
    found = nvml.list_devices(Driver([Card("GPU-a")]))
    assert found.devices == (
        Device(id="GPU-a", product="NVIDIA H100", memory_bytes=80 * 2**30, driver="570.1"),
    )
    assert found.unavailable == ()


def test_nvidias_own_library_says_why_there_is_no_card() -> None:
    """The real package; it finds no driver on a machine without cards."""
    found = nvml.list_devices()
    if found.devices:
        pytest.skip("this machine has NVIDIA cards")
    source = NvmlSource(None)
    assert source.read() == ()
    assert source.sensors == ()
    assert source.unavailable == found.unavailable
    assert found.unavailable[0].startswith("nvml: ")
    source.close()


class SmiError(Exception):
    """As furiosa_smi's."""


@dataclass
class Npu:
    """The methods of furiosa_smi's Device that are used."""

    index: int
    watts: float | Exception = 41.5

    def uuid(self) -> str:
        return f"uuid-{self.index}"

    def dev_node_index(self) -> int:
        return self.index

    def product_name(self) -> str:
        return "RNGD"

    def power_consumption(self) -> float:
        return float(given_or_raised(self.watts))

    def memory_usage(self) -> Any:
        return type("Memory", (), {"total_bytes": staticmethod(lambda: 48 * 2**30)})


@dataclass
class Smi:
    """The functions of furiosa_smi that are used. Passed as `library`; no card is here to ask."""

    cards: list[Npu]
    SmiError: type[Exception] = SmiError

    def list_devices(self) -> list[Npu]:
        return self.cards

    def driver_info(self) -> Any:
        parts = {"major": 2026, "minor": 4, "patch": 1}
        return type("Version", (), {k: staticmethod(lambda v=v: v) for k, v in parts.items()})


@pytest.mark.parametrize("name", ["npu:1", "npu1", "npu:1:*", "uuid-1"])
def test_rngd_cards_go_by_the_engines_names_and_by_uuid(name: str) -> None:
    source = FuriosaSource([name], library=Smi([Npu(0), Npu(1, watts=88.0)]))
    assert values(source.read()) == {("uuid-1", SensorKind.RNGD_POWER): 88.0}
    assert source.sensors == (SensorKind.RNGD_POWER,)
    assert source.unavailable == ()


def test_rngd_cores_and_unknown_cards_are_not_read() -> None:
    source = FuriosaSource(["npu:0:0-3", "npu:7"], library=Smi([Npu(0)]))
    assert source.read() == ()
    cores, unknown = source.unavailable
    assert "npu:0:0-3" in cores
    assert "other cores" in cores
    assert unknown == "furiosa_smi: npu:7: there is no such card here"


def test_an_rngd_card_that_fails_is_left_out_until_it_answers() -> None:
    smi = Smi([Npu(0), Npu(1)])
    source = FuriosaSource(None, library=smi)
    assert len(source.read()) == 2
    smi.cards[1].watts = SmiError("io error")
    assert [one.device_id for one in source.read()] == ["uuid-0"]
    assert source.unavailable == ("furiosa_smi: uuid-1: io error",)
    smi.cards[1].watts = 40.0
    assert len(source.read()) == 2
    assert source.unavailable == ()
    source.close()
    assert source.read() == ()


def test_rngd_devices_of_a_host() -> None:
    found = furiosa.list_devices(Smi([Npu(0)]))
    assert found.devices == (Device(id="uuid-0", product="RNGD", memory_bytes=48 * 2**30, driver="2026.4.1"),)


def test_furiosas_own_library_says_that_there_is_no_card() -> None:
    """The real package; it lists no card on a machine without any."""
    found = furiosa.list_devices()
    if found.devices:
        pytest.skip("this machine has RNGD cards")
    source = FuriosaSource(None)
    assert source.read() == ()
    assert source.unavailable == found.unavailable
    assert found.unavailable[0].startswith("furiosa_smi: ")


def write_zone(root: Path, *, microjoules: int, range_uj: int) -> None:
    zone = root / "intel-rapl:0"
    zone.mkdir(exist_ok=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text(str(range_uj))
    (zone / "energy_uj").write_text(str(microjoules))


@settings(max_examples=20)
@given(steps=lists(integers(0, 99_999), min_size=1, max_size=30), start=integers(0, 99_999))
def test_rapl_counters_add_up_over_their_wraps(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], start: int
) -> None:
    root = tmp_path_factory.mktemp("powercap")
    write_zone(root, microjoules=start, range_uj=100_000)
    meter: PowerSource = RaplMeter(root)
    used = start
    totals = []
    for step in steps:
        used += step
        write_zone(root, microjoules=used % 100_000, range_uj=100_000)
        totals += [one.joules_total for one in meter.read()]
    assert totals[-1] == pytest.approx(sum(steps) / 1e6)
    assert totals == sorted(totals)  # type: ignore[type-var]


def test_a_rapl_counter_of_root_alone_says_so(tmp_path: Path) -> None:
    write_zone(tmp_path, microjoules=1, range_uj=10)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("not a number")
    meter = RaplMeter(tmp_path)
    assert (meter.sensors, meter.read()) == ((), ())
    assert meter.unavailable[0].startswith("rapl: intel-rapl:0: ")


def test_a_rapl_counter_that_fails_for_a_while_misses_nothing(tmp_path: Path) -> None:
    write_zone(tmp_path, microjoules=1_000_000, range_uj=10_000_000)
    meter = RaplMeter(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert (meter.read(), meter.sensors) == ((), ())
    assert "intel-rapl:0" in meter.unavailable[0]
    write_zone(tmp_path, microjoules=4_000_000, range_uj=10_000_000)
    assert [one.joules_total for one in meter.read()] == [pytest.approx(3.0)]
    assert (meter.sensors, meter.unavailable) == ((SensorKind.RAPL_ENERGY,), ())
