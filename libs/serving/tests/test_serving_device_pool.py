import pytest

from assay_serving.device_pool import DevicePool
from assay_serving.errors import InvalidRequest, NoCapacity
from assay_serving.types import Device

CARDS = [Device(id=f"GPU-{number}", product="card") for number in range(3)]


def test_a_card_belongs_to_one_instance_until_it_is_given_back() -> None:
    pool = DevicePool(CARDS)
    assert [each.id for each in pool.next_free(2)] == ["GPU-0", "GPU-1"]
    first = pool.take(2)
    second = pool.take(1)
    assert {each.id for each in (*first, *second)} == {each.id for each in CARDS}
    with pytest.raises(NoCapacity, match="0 of 3 are free") as refused:
        pool.take(1)
    assert refused.value.retryable
    pool.give_back(first)
    pool.give_back(first)
    assert pool.take(2) == first


def test_more_cards_than_there_are_cannot_be_waited_for() -> None:
    with pytest.raises(InvalidRequest, match="this machine has 3"):
        DevicePool(CARDS).next_free(4)
    assert DevicePool([]).take(0) == ()
