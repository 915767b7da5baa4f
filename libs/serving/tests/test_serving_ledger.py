import random

import pytest

from assay_serving.errors import Fenced
from assay_serving.fencing import Fences
from assay_serving.ledger import Ledger, Phase


class Clock:
    """A clock that only goes when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_every_second_is_in_one_phase() -> None:
    generator = random.Random(1)
    for _ in range(200):
        clock = Clock()
        ledger = Ledger(clock=clock)
        paused = 0.0
        expected = dict.fromkeys(Phase, 0.0)
        phase = Phase.SCHEDULE
        for _ in range(generator.randrange(12)):
            step = generator.random()
            if generator.random() < 0.2:
                with ledger.paused():
                    clock.now += step
                paused += step
                continue
            clock.now += step
            expected[phase] += step
            phase = generator.choice(list(Phase))
            ledger.enter(phase)
        wall = clock.now - 100.0
        ledger.close()
        clock.now += 5.0  # after the end no time passes for it
        times = ledger.times()
        for name, seconds in expected.items():
            assert getattr(times, name) == pytest.approx(seconds)
        spent = sum(getattr(times, name) for name in Phase)
        assert spent + paused == pytest.approx(wall)
        assert times.cold_start == pytest.approx(times.schedule + times.pull + times.load + times.ready)


def test_a_place_is_occupied_from_its_taking_to_the_end() -> None:
    clock = Clock()
    ledger = Ledger(clock=clock)
    clock.now += 2.0
    assert ledger.times().occupied == 0.0
    ledger.take_place()
    clock.now += 3.0
    ledger.take_place()
    assert ledger.times().occupied == pytest.approx(3.0), "so far"
    ledger.enter(Phase.DRAIN)
    clock.now += 1.0
    ledger.close()
    clock.now += 9.0
    assert ledger.times().occupied == pytest.approx(4.0)
    assert ledger.times().drain == pytest.approx(1.0)


def test_an_end_within_a_pause_is_not_undone() -> None:
    clock = Clock()
    ledger = Ledger(clock=clock)
    with ledger.paused():
        clock.now += 1.0
        ledger.enter(Phase.DRAIN)
        clock.now += 2.0
    clock.now += 4.0
    ledger.close()
    assert (ledger.times().schedule, ledger.times().drain) == (0.0, pytest.approx(6.0))


def test_only_the_highest_token_of_an_owner_counts() -> None:
    fences = Fences()
    fences.pass_through("run", 3)
    fences.pass_through("run", 3)
    fences.check("run", 4)
    fences.pass_through("other", 1)
    fences.pass_through("", 9)
    fences.pass_through("", 1)
    fences.pass_through("run", 5)
    for token in (0, 3, 4):
        with pytest.raises(Fenced, match="fencing token 5"):
            fences.pass_through("run", token)
    fences.check("other", 1)


def test_owners_are_forgotten_the_oldest_first() -> None:
    fences = Fences()
    for number in range(5000):
        fences.pass_through("kept", 7)
        fences.pass_through(f"run {number}", 2)
    fences.pass_through("run 0", 1)
    for owner in ("kept", "run 4999"):
        with pytest.raises(Fenced):
            fences.pass_through(owner, 1)
