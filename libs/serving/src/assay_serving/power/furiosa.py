"""Power of Furiosa RNGD cards, from the driver's own library (``furiosa_smi``); it has no energy counter."""

import importlib
import re
from collections.abc import Sequence
from typing import Any

from assay_serving.power.source import FoundDevices, PowerSource
from assay_serving.types import Device, Reading, SensorKind

_INDEX = re.compile(r"npu:?(\d+)(?::\*)?")
_CORES = re.compile(r"npu:?\d+:.+")


def list_devices(library: Any = None) -> FoundDevices:
    """The RNGD cards of this host: ``id`` is the UUID, ``driver`` the driver's version.

    Args:
        library: as for `FuriosaSource`.
    """
    smi, reason = _loaded(library)
    if smi is None:
        return FoundDevices((), (reason,))
    try:
        found = smi.list_devices()
        driver = _version(smi.driver_info()) if found else ""
        devices = tuple(
            Device(
                id=str(one.uuid()),
                product=str(one.product_name()),
                memory_bytes=int(one.memory_usage().total_bytes()),
                driver=driver,
            )
            for one in found
        )
    except smi.SmiError as error:
        return FoundDevices((), (f"furiosa_smi: {error}",))
    return FoundDevices(devices, () if devices else ("furiosa_smi: this host has no card",))


class FuriosaSource(PowerSource):
    """Power of the cards with these ids, or of all of this host.

    Cores of a card have no sensor of their own, and the card's power is also that of the other cores: they
    are not read, and `unavailable` says so.
    """

    def __init__(self, device_ids: Sequence[str] | None, *, library: Any = None) -> None:
        """Open nothing yet.

        Args:
            device_ids: UUIDs, or ``npu:<number>`` as the engine names them; ``None`` for every card.
            library: what offers the functions of ``furiosa_smi``; that package where it is not given.
        """
        self._device_ids = device_ids
        self._library = library
        self._smi: Any = None
        self._is_opened = False
        self._cards: dict[str, Any] = {}
        self._unavailable: dict[str, str] = {}

    def _opened(self) -> dict[str, Any]:
        """The cards; opens the library the first time."""
        if not self._is_opened:
            self._is_opened = True
            self._smi, reason = _loaded(self._library)
            if self._smi is None:
                self._unavailable["library"] = reason
            else:
                self._open_cards()
        return self._cards

    def _open_cards(self) -> None:
        try:
            self._open(self._device_ids)
        except self._smi.SmiError as error:
            self._unavailable["library"] = f"furiosa_smi: {error}"

    def _open(self, device_ids: Sequence[str] | None) -> None:
        found = list(self._smi.list_devices())
        if not found:
            self._unavailable["library"] = "furiosa_smi: this host has no card"
            return
        by_uuid = {str(one.uuid()): one for one in found}
        by_index = {int(one.dev_node_index()): str(one.uuid()) for one in found}
        for name in by_uuid if device_ids is None else device_ids:
            if name not in by_uuid and _CORES.fullmatch(name) and not _INDEX.fullmatch(name):
                self._unavailable[name] = (
                    f"furiosa_smi: {name}: cores of a card have no sensor of their own, and the card's power "
                    "is also that of its other cores"
                )
                continue
            index = _INDEX.fullmatch(name)
            uuid = by_index.get(int(index[1])) if index and name not in by_uuid else name
            if uuid in by_uuid:
                self._cards[uuid] = by_uuid[uuid]
            else:
                self._unavailable[name] = f"furiosa_smi: {name}: there is no such card here"

    @property
    def sensors(self) -> tuple[SensorKind, ...]:
        """Power, where there is a card."""
        return (SensorKind.RNGD_POWER,) if self._opened() else ()

    @property
    def unavailable(self) -> tuple[str, ...]:
        """Why cards cannot be read."""
        self._opened()
        return tuple(self._unavailable.values())

    def read(self) -> tuple[Reading, ...]:
        """Power of each card in watts. A card that fails is left out and tried again the next time."""
        readings = []
        for uuid, card in self._opened().items():
            try:
                watts = float(card.power_consumption())
            except self._smi.SmiError as error:
                self._unavailable[uuid] = f"furiosa_smi: {uuid}: {error}"
                continue
            self._unavailable.pop(uuid, None)
            readings.append(Reading(kind=SensorKind.RNGD_POWER, device_id=uuid, scope="card", watts=watts))
        return tuple(readings)

    def close(self) -> None:
        """Forget the cards."""
        self._cards, self._is_opened = {}, True


def _loaded(library: Any) -> tuple[Any, str]:
    """The library, or ``None`` and the reason."""
    if library is not None:
        return library, ""
    try:
        return importlib.import_module("furiosa_smi"), ""
    except ImportError as error:
        return None, f"furiosa_smi: the package furiosa-smi is not installed ({error})"


def _version(info: Any) -> str:
    return f"{info.major()}.{info.minor()}.{info.patch()}"
