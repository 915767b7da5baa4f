"""Energy and power of NVIDIA cards, from the driver's own library (NVML)."""

import contextlib
import importlib
from collections.abc import Sequence
from typing import Any

from assay_serving.power.source import RESTARTED, FoundDevices, GrowingCounter, PowerSource
from assay_serving.types import Device, Reading, SensorKind

_MILLI = 1e-3
_MIG_PREFIX = "MIG-"


def list_devices(library: Any = None) -> FoundDevices:
    """The NVIDIA cards of this host: ``id`` is the UUID, ``driver`` the driver's version.

    Args:
        library: as for `NvmlSource`.
    """
    nvml, reason = _loaded(library)
    if nvml is None:
        return FoundDevices((), (reason,))
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        devices = tuple(
            Device(
                id=_text(nvml.nvmlDeviceGetUUID(handle)),
                product=_text(nvml.nvmlDeviceGetName(handle)),
                memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
                driver=driver,
            )
            for handle in handles
        )
        return FoundDevices(devices, ())
    except nvml.NVMLError as error:
        return FoundDevices((), (f"nvml: {error}",))
    finally:
        _shut_down(nvml)


class _Card:
    """One card that is being read. `has_energy` and `has_power` end when the driver refuses the reading."""

    def __init__(self, uuid: str, handle: Any) -> None:
        self.uuid = uuid
        self.handle = handle
        self.has_energy = True
        self.has_power = True
        self.counter = GrowingCounter()


class NvmlSource(PowerSource):
    """The cards with these UUIDs, or all of this host: the energy counter and, beside it, the power.

    A slice of a card (MIG) has no sensor of its own, and the card's energy is also that of the other slices:
    neither a slice nor a card that is cut into slices is read, and `unavailable` says so.
    """

    def __init__(self, uuids: Sequence[str] | None, *, library: Any = None) -> None:
        """Open nothing yet.

        Args:
            uuids: of the cards; ``None`` for every card of this host.
            library: what offers the functions of ``pynvml``; that package where it is not given.
        """
        self._uuids = uuids
        self._library = library
        self._nvml: Any = None
        self._is_opened = False
        self._cards: list[_Card] = []
        self._unavailable: dict[str, str] = {}

    def _opened(self) -> list[_Card]:
        """The cards; opens the library the first time."""
        if not self._is_opened:
            self._is_opened = True
            self._nvml, reason = _loaded(self._library)
            if self._nvml is None:
                self._unavailable["library"] = reason
            else:
                self._open_cards()
        return self._cards

    def _open_cards(self) -> None:
        try:
            self._open(_uuids_of_host(self._nvml) if self._uuids is None else self._uuids)
        except self._nvml.NVMLError as error:
            self._unavailable["library"] = f"nvml: {error}"
        if not self._cards and not self._unavailable:
            self._unavailable["library"] = "nvml: this host has no card"

    def _open(self, uuids: Sequence[str]) -> None:
        for uuid in uuids:
            reason = self._open_card(uuid)
            if reason:
                self._unavailable[uuid] = f"nvml: {uuid}: {reason}"

    def _open_card(self, uuid: str) -> str:
        """Why this one is not read; empty if it is."""
        if uuid.startswith(_MIG_PREFIX):
            return (
                "a slice of a card has no energy counter of its own, and the card's counts other slices too"
            )
        try:
            handle = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
        except self._nvml.NVMLError as error:
            return f"{error}"
        if self._is_sliced(handle):
            return "the card is cut into slices (MIG), so that its energy is not that of one instance"
        self._cards.append(_Card(uuid, handle))
        return ""

    def _is_sliced(self, handle: Any) -> bool:
        try:
            return bool(self._nvml.nvmlDeviceGetMigMode(handle)[0])
        except self._nvml.NVMLError:
            return False  # cards that cannot be sliced do not know the question

    @property
    def sensors(self) -> tuple[SensorKind, ...]:
        """The kinds of reading that at least one card gives."""
        kinds = []
        if any(card.has_energy for card in self._opened()):
            kinds.append(SensorKind.NVML_ENERGY)
        if any(card.has_power for card in self._opened()):
            kinds.append(SensorKind.NVML_POWER)
        return tuple(kinds)

    @property
    def unavailable(self) -> tuple[str, ...]:
        """Why cards, or one of their two readings, cannot be read."""
        self._opened()
        return tuple(self._unavailable.values())

    def read(self) -> tuple[Reading, ...]:
        """Energy and power of each card. A reading that fails is left out and tried again the next time."""
        readings: list[Reading] = []
        for card in self._opened():
            energy, power = self._energy(card), self._power(card)
            readings += [one for one in (energy, power) if one is not None]
        return tuple(readings)

    def _energy(self, card: _Card) -> Reading | None:
        key = f"{card.uuid} energy"
        try:
            millijoules = self._nvml.nvmlDeviceGetTotalEnergyConsumption(card.handle)
        except self._nvml.NVMLError as error:
            card.has_energy = False
            self._unavailable[key] = f"nvml: {card.uuid}: no energy counter: {error}"
            return None
        card.has_energy = True
        self._unavailable.pop(key, None)
        joules = card.counter.advance(millijoules * _MILLI)
        if card.counter.restarts:
            self._unavailable[f"{card.uuid} restart"] = f"nvml: {card.uuid}: {RESTARTED}"
        return Reading(kind=SensorKind.NVML_ENERGY, device_id=card.uuid, scope="card", joules_total=joules)

    def _power(self, card: _Card) -> Reading | None:
        key = f"{card.uuid} power"
        try:
            milliwatts = self._nvml.nvmlDeviceGetPowerUsage(card.handle)
        except self._nvml.NVMLError as error:
            card.has_power = False
            self._unavailable[key] = f"nvml: {card.uuid}: no power: {error}"
            return None
        card.has_power = True
        self._unavailable.pop(key, None)
        return Reading(
            kind=SensorKind.NVML_POWER, device_id=card.uuid, scope="card", watts=milliwatts * _MILLI
        )

    def close(self) -> None:
        """Give the library back."""
        nvml, self._nvml, self._cards = self._nvml, None, []
        self._is_opened = True
        if nvml is not None:
            _shut_down(nvml)


def _loaded(library: Any) -> tuple[Any, str]:
    """The initialised library, or ``None`` and the reason."""
    try:
        nvml = importlib.import_module("pynvml") if library is None else library
    except ImportError as error:
        return None, f"nvml: the package nvidia-ml-py is not installed ({error})"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return None, f"nvml: {error}"
    return nvml, ""


def _shut_down(nvml: Any) -> None:
    with contextlib.suppress(nvml.NVMLError):  # without the driver there is nothing left to give back
        nvml.nvmlShutdown()


def _uuids_of_host(nvml: Any) -> list[str]:
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    return [_text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
