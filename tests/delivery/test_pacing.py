"""How well the pace fits what the receiver allows: most of it is used, and nothing is lost."""

import random
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from operator import mul

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.delivery.pacing import Pacer
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from receiver_emulator import Emulator, EmulatorOptions
from support.fakes import FakeClock, InProcessReceiver, machine_of
from support.harness import Harness, environ, outcomes, point, report_of
from support.patience import ends_within
from support.shared_quota import LIMITERS, Limiter


@pytest.mark.slow
@pytest.mark.parametrize(("allowed", "runs"), [(5, 9), (20, 5), (100, 1), (400, 1)])
@pytest.mark.parametrize("make_limiter", LIMITERS.values(), ids=LIMITERS)
def test_as_a_rule_four_fifths_of_an_allowed_rate_are_used_and_nothing_is_lost(
    make_limiter: Callable[[int], Limiter], allowed: int, runs: int
) -> None:
    """Pauses are drawn by chance, so that a run may use less: the middle one of several counts, and none uses less than half."""
    used = sorted(_share_used(make_limiter(allowed), allowed, seed) for seed in range(runs))
    assert used[runs // 2] >= 0.8
    assert used[0] >= 0.5


def _share_used(limiter: Limiter, allowed: int, seed: int) -> float:
    """Which share of the allowed rate an event of some forty seconds uses."""
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    machine = machine_of(clock, partial(random.Random(seed).uniform, 0))
    settings = environ(BATCH_MAX_POINTS="1", CONCURRENCY="1")
    harness = Harness(Application(settings, clock, lambda: receiver, machine=machine), receiver, clock)
    receiver.latency_s = 0.001
    receiver.refuse_if = lambda _: None if limiter(clock.monotonic()) else ReturnCode.TOO_MANY_REQUESTS
    batches = allowed * 40
    report = harness.handle([point(number) for number in range(batches)], time_limit_ms=120_000)
    assert outcomes(report) == {"delivered": batches}
    # Told a few times is learning; told all the time is hammering.
    assert report["requests"]["returnCodes"]["1006"] <= batches / 4
    return batches / clock.monotonic() / allowed


@pytest.mark.slow
def test_most_of_a_real_limit_is_used_with_lanes_side_by_side(
    connect: Callable[..., Application],
) -> None:
    with Emulator(EmulatorOptions(max_requests_per_second=20)) as emulator:
        application = connect(emulator, BATCH_MAX_POINTS="1", CONCURRENCY="4")
        # Four fifths are held above, in virtual time: a busy machine takes its share of the real one.
        with ends_within(200 / (0.5 * 20)):
            report = report_of(application, [point(1, f"m{number}") for number in range(200)])
    assert outcomes(report) == {"delivered": 200}


@pytest.mark.slow
def test_a_set_rate_is_never_exceeded(connect: Callable[..., Application]) -> None:
    with Emulator() as emulator:
        application = connect(emulator, BATCH_MAX_POINTS="1", MAX_RPS="50")
        started = time.monotonic()
        report_of(application, [point(1, f"m{number}") for number in range(50)])
        assert time.monotonic() - started >= 49 / 50


def test_a_rate_limit_that_has_gone_is_searched_anew_and_not_forgotten_at_once() -> None:
    clock = FakeClock()
    pacer = Pacer(machine_of(clock, lambda ceiling: ceiling))

    def requests(seconds: float) -> list[float]:
        """The rates at which requests are accepted, one after the other."""
        rates, end = [], clock.monotonic() + seconds
        while (turn := pacer.reserve(end - clock.monotonic())) is not None:
            clock.sleep(turn.wait_s + 0.001)
            if turn.is_taken:
                pacer.accept()
                rates.append(pacer.rate or 0)
        return rates

    pacer.assume(5.0)
    slow = requests(59)
    assert max(slow) < 10
    fast = requests(30)
    assert max(fast) > 100
    assert all(later <= 1.3 * rate for rate, later in pairwise([*slow, *fast]))


def test_a_slow_instance_that_met_no_limit_for_a_quarter_of_an_hour_searches_from_where_a_new_one_does() -> (
    None
):
    clock = FakeClock()
    pacer = Pacer(machine_of(clock, lambda ceiling: ceiling))
    pacer.assume(1 / 64)
    clock.sleep(899)
    pacer.reserve(60)
    slow = pacer.rate
    clock.sleep(2)
    pacer.reserve(60)
    assert (slow, pacer.rate) == (1 / 64, 0.1)


def test_a_start_after_the_deadline_is_not_reserved() -> None:
    clock = FakeClock()
    pacer = Pacer(machine_of(clock, lambda ceiling: ceiling), max_rate=1)
    assert pacer.reserve(0.5) == (0, True)
    assert pacer.reserve(0.5) is None
    assert pacer.reserve(1.5) == (1, False)


def test_a_distant_moment_is_not_taken_since_a_refusal_may_move_it() -> None:
    clock = FakeClock()
    pacer = Pacer(machine_of(clock, lambda ceiling: ceiling), max_rate=1)
    assert pacer.reserve(9) == (0, True)
    assert [pacer.reserve(9) for _ in range(3)] == [(1, False)] * 3
    clock.sleep(0.5)
    pacer.refuse()
    turn = pacer.reserve(60)
    assert turn is not None
    assert turn.wait_s > 1


def test_the_first_moment_of_an_event_is_drawn() -> None:
    waits = set()
    for part in (0.0, 0.3, 1.0):
        pacer = Pacer(machine_of(FakeClock(), partial(mul, part)), max_rate=0.1)
        pacer.begin(60)
        waits.add(pacer.wait_s())
    assert waits == {0, 3, 10}


def test_the_rate_always_stays_within_its_bounds() -> None:
    chosen = random.Random(5)
    clock = FakeClock()
    pacer = Pacer(machine_of(clock, lambda ceiling: ceiling), max_rate=100)
    for _ in range(5000):
        chosen.choice([pacer.accept, pacer.accept, pacer.refuse])()
        clock.sleep(chosen.expovariate(20))
        assert pacer.rate is not None
        assert 1 / 64 <= pacer.rate <= 100


def test_an_instance_that_sent_nothing_for_a_minute_begins_again_with_one_request() -> None:
    clock = FakeClock()
    pacer = Pacer(machine_of(clock))
    pacer.refuse()
    pacer.is_probing = False
    clock.sleep(60)
    pacer.begin(1.5)
    assert (pacer.rate, pacer.is_probing) == (None, True)
    assert pacer.reserve(1.5) == (0, True)


def test_the_memory_of_an_instance_does_not_grow_with_what_the_destination_accepts() -> None:
    clock = FakeClock()
    pacer = Pacer(machine_of(clock))
    held = []
    tracemalloc.start()
    try:
        for _ in range(2):
            for _ in range(5000):
                pacer.accept()
                clock.sleep(0.1)
            clock.slept.clear()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[1] - held[0] < 10_000
