"""How well the pace fits what the receiver allows: most of it is used, and nothing is lost."""

import random
import time
from collections import deque
from collections.abc import Callable

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.delivery.pacing import Pacer
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from receiver_emulator import Emulator, EmulatorOptions
from support.fakes import FakeClock, machine_of
from support.harness import make_harness, outcomes, point, report_of
from support.patience import ends_within

Limiter = Callable[[float], bool]


def fixed_window(allowed: int) -> Limiter:
    """So many in each second of the clock."""
    counts: dict[int, int] = {}

    def take(now: float) -> bool:
        counts[int(now)] = counts.get(int(now), 0) + 1
        return counts[int(now)] <= allowed

    return take


def sliding_window(allowed: int) -> Limiter:
    """So many in any second; what is refused does not count."""
    taken: deque[float] = deque()

    def take(now: float) -> bool:
        while taken and taken[0] <= now - 1:
            taken.popleft()
        if len(taken) >= allowed:
            return False
        taken.append(now)
        return True

    return take


def token_bucket(allowed: int) -> Limiter:
    """So many a second on average, a tenth of a second's worth at once."""
    state = [max(1.0, allowed / 10), 0.0]

    def take(now: float) -> bool:
        state[0] = min(max(1.0, allowed / 10), state[0] + (now - state[1]) * allowed)
        state[1] = now
        if state[0] < 1:
            return False
        state[0] -= 1
        return True

    return take


LIMITERS = {"fixed window": fixed_window, "sliding window": sliding_window, "token bucket": token_bucket}


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [5, 20, 100, 400])
@pytest.mark.parametrize("make_limiter", LIMITERS.values(), ids=LIMITERS)
def test_at_least_four_fifths_of_an_allowed_rate_are_used_and_nothing_is_lost(
    make_limiter: Callable[[int], Limiter], allowed: int
) -> None:
    harness = make_harness(BATCH_MAX_POINTS="1", CONCURRENCY="1")
    limiter = make_limiter(allowed)
    harness.receiver.latency_s = 0.001
    harness.receiver.refuse_if = lambda _: (
        None if limiter(harness.clock.monotonic()) else ReturnCode.TOO_MANY_REQUESTS
    )
    batches = allowed * 30
    report = harness.handle([point(number) for number in range(batches)], time_limit_ms=60_000)
    assert outcomes(report) == {"delivered": batches}
    assert batches / harness.clock.monotonic() >= 0.8 * allowed
    # Told a few times is learning; told all the time is hammering.
    assert report["requests"]["returnCodes"]["1006"] <= batches / 4


@pytest.mark.slow
def test_four_fifths_of_a_real_limit_are_used_with_lanes_side_by_side(
    connect: Callable[..., Application],
) -> None:
    with Emulator(EmulatorOptions(max_requests_per_second=60)) as emulator:
        application = connect(emulator, BATCH_MAX_POINTS="1", CONCURRENCY="4")
        with ends_within(600 / (0.8 * 60)):
            report = report_of(application, [point(1, f"m{number}") for number in range(600)])
    assert outcomes(report) == {"delivered": 600}


@pytest.mark.slow
def test_a_set_rate_is_never_exceeded(connect: Callable[..., Application]) -> None:
    with Emulator() as emulator:
        application = connect(emulator, BATCH_MAX_POINTS="1", MAX_RPS="50")
        started = time.monotonic()
        report_of(application, [point(1, f"m{number}") for number in range(50)])
        assert time.monotonic() - started >= 49 / 50


def test_a_rate_limit_that_has_gone_is_forgotten() -> None:
    clock = FakeClock()
    pacer = Pacer(machine_of(clock, lambda ceiling: ceiling))
    pacer.refuse()
    assert pacer.rate is not None
    clock.sleep(61)
    assert pacer.reserve(1) == 0
    assert pacer.rate is None


def test_a_start_after_the_deadline_is_not_reserved() -> None:
    clock = FakeClock()
    pacer = Pacer(machine_of(clock, lambda ceiling: ceiling), max_rate=1)
    assert pacer.reserve(0.5) == 0
    assert pacer.reserve(0.5) is None
    assert pacer.reserve(1.5) == 1


def test_the_rate_always_stays_within_its_bounds() -> None:
    chosen = random.Random(5)
    clock = FakeClock()
    pacer = Pacer(machine_of(clock, lambda ceiling: ceiling), max_rate=100)
    for _ in range(5000):
        chosen.choice([pacer.accept, pacer.accept, pacer.refuse])()
        clock.sleep(chosen.expovariate(20))
        assert pacer.rate is not None
        assert 1 <= pacer.rate <= 100
