"""Which accelerators of this machine are free; each belongs to one instance, whole."""

from collections.abc import Sequence

from assay_serving.errors import InvalidRequest, NoCapacity
from assay_serving.types import Device


class DevicePool:
    """The devices of an adapter, in a fixed order. Used from one event loop."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = tuple(devices)
        self._taken: set[str] = set()

    @property
    def devices(self) -> tuple[Device, ...]:
        """All of them."""
        return self._devices

    def next_free(self, count: int) -> tuple[Device, ...]:
        """The devices that `take` would give now.

        Raises:
            InvalidRequest: this machine has not as many.
            NoCapacity: not as many are free.
        """
        if count > len(self._devices):
            raise InvalidRequest(
                f"{count} accelerators are asked for (resources.accelerators, parallelism), and this machine "
                f"has {len(self._devices)}"
            )
        free = [each for each in self._devices if each.id not in self._taken]
        if count > len(free):
            raise NoCapacity(
                f"{count} accelerators are asked for and {len(free)} of {len(self._devices)} are free"
            )
        return tuple(free[:count])

    def take(self, count: int) -> tuple[Device, ...]:
        """Devices that nobody else gets until they are given back; raises as `next_free` does."""
        devices = self.next_free(count)
        self._taken.update(each.id for each in devices)
        return devices

    def give_back(self, devices: Sequence[Device]) -> None:
        """Free `devices`. Idempotent."""
        self._taken.difference_update(each.id for each in devices)
