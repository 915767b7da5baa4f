"""The RNGD cards of this machine, and how furiosa-llm names them."""

import importlib
from collections.abc import Sequence
from typing import Any

from assay_serving.errors import StartFailed
from assay_serving.types import Device


def engine_names(devices: Sequence[Device], *, library: Any = None) -> tuple[str, ...]:
    """Names of whole cards for ``--devices``: ``npu:`` and the number of the card's device node.

    Args:
        devices: cards, by their UUIDs.
        library: what offers the functions of ``furiosa_smi``; that package where it is not given.

    Raises:
        StartFailed: a card is not there any more.
    """
    if not devices:
        return ()
    smi = importlib.import_module("furiosa_smi") if library is None else library
    try:
        numbers = {str(card.uuid()): int(card.dev_node_index()) for card in smi.list_devices()}
        return tuple(f"npu:{numbers[each.id]}" for each in devices)
    except (KeyError, smi.SmiError) as error:
        raise StartFailed(f"the cards of this machine have changed ({error}); restart the adapter") from error
