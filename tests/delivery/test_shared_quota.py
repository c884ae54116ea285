"""Many instances share one receiver's quota and do not know of each other: most of it is used, few requests are refused."""

import random
from collections.abc import Callable

import pytest

from metric_forwarder.delivery.pacing import Pacer
from support.fakes import machine_of
from support.shared_quota import (
    LIMITERS,
    Crowd,
    Limiter,
    Outcome,
    VirtualClock,
    token_bucket,
    unforgiving_window,
)

_QUOTA = 50
_TEN_MINUTES_S = 600


def flood(
    instances: int, limiter: Limiter, *, max_rate: float | None = None, seconds: float = _TEN_MINUTES_S
) -> Outcome:
    """What so many instances achieve that begin at once, each with more to send than it may."""
    clock, chance = VirtualClock(), random.Random(instances)
    machine = machine_of(clock, lambda ceiling: chance.uniform(0, ceiling))
    pacers = [Pacer(machine, max_rate) for _ in range(instances)]
    return Crowd(pacers, limiter, clock, seed=1).run(seconds, _QUOTA)


# By the number of instances: the least share of the quota that is used, the largest share of requests that is refused, and
# the least fairness. An instance of 1,000 sends some 30 requests in ten minutes, and learns of the others from five refusals.
_BOUNDS = {1: (0.8, 0.15, 1.0), 10: (0.8, 0.15, 0.6), 100: (0.75, 0.15, 0.6), 1000: (0.8, 0.25, 0.5)}


@pytest.mark.parametrize("instances", [1, 10, 100, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("limiter", LIMITERS.values(), ids=LIMITERS)
def test_instances_that_share_a_quota_use_most_of_it_and_each_gets_a_part(
    limiter: Callable[[int], Limiter], instances: int
) -> None:
    used, refused, fairness = _BOUNDS[instances]
    if limiter is unforgiving_window and instances == 1000:
        # Requests that come by chance meet a full window so often that a quarter of such a quota stays unused.
        used = 0.6
    outcome = flood(instances, limiter(_QUOTA))
    assert outcome.used >= used
    assert outcome.refused <= refused
    assert outcome.fairness >= fairness


@pytest.mark.parametrize("instances", [10, 100, pytest.param(1000, marks=pytest.mark.slow)])
def test_instances_with_a_set_rate_that_begin_at_once_send_evenly(instances: int) -> None:
    outcome = flood(instances, token_bucket(_QUOTA), max_rate=0.9 * _QUOTA / instances)
    assert outcome.used >= 0.7
    assert outcome.refused <= 0.15
    assert outcome.fairness >= 0.8


@pytest.mark.parametrize("instances", [1, 10])
def test_a_backlog_is_sent_completely(instances: int) -> None:
    clock, chance = VirtualClock(), random.Random(instances)
    machine = machine_of(clock, lambda ceiling: chance.uniform(0, ceiling))
    crowd = Crowd(
        [Pacer(machine) for _ in range(instances)], token_bucket(_QUOTA), clock, seed=1, backlog=500
    )
    outcome = crowd.run(24 * 3600, _QUOTA)
    assert crowd.accepted == [500] * instances
    assert outcome.drained_s is not None
    # The last instances are slow at first when the others have ended.
    assert outcome.drained_s <= 3 * 500 * instances / _QUOTA
