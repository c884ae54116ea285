"""Many instances with one Redis share one receiver's quota: most of it is used, few requests are refused, all get the same."""

from collections.abc import Callable

import pytest

from support.shared_pace import SharedCrowd
from support.shared_quota import LIMITERS, Limiter, sliding_window, token_bucket

_TEN_MINUTES_S = 600
_SLOW = pytest.mark.slow
# Requests a second that are allowed, instances that all begin cold at once, and lanes of each.
_CROWDS = [
    pytest.param(5, 1, 4),
    pytest.param(5, 10, 4),
    pytest.param(5, 100, 4),
    pytest.param(5, 1000, 4, marks=_SLOW),
    pytest.param(50, 1, 4),
    pytest.param(50, 10, 4, marks=_SLOW),
    pytest.param(50, 100, 4, marks=_SLOW),
    pytest.param(50, 1000, 4, marks=_SLOW),
    pytest.param(500, 1, 16, marks=_SLOW),
    pytest.param(500, 100, 4, marks=_SLOW),
    pytest.param(500, 1000, 4, marks=_SLOW),
]


@pytest.mark.parametrize(("allowed", "instances", "lanes"), _CROWDS)
@pytest.mark.parametrize("make_limiter", LIMITERS.values(), ids=LIMITERS)
def test_instances_with_one_redis_use_nine_tenths_of_a_quota_and_one_request_in_fifty_is_refused(
    make_limiter: Callable[[int], Limiter], allowed: int, instances: int, lanes: int
) -> None:
    crowd = SharedCrowd(instances, make_limiter(allowed), lanes=lanes)
    # As many requests as in ten minutes of 100 a second are enough.
    outcome = crowd.run(min(_TEN_MINUTES_S, 60_000 / allowed), allowed)
    assert outcome.used >= 0.9
    assert outcome.refused <= 0.02
    assert outcome.fairness >= 0.8
    # Instances that wait for minutes ask once a minute whether it is their turn.
    waits_s = instances / allowed
    assert crowd.commands_a_request <= 2 + waits_s / 50


@pytest.mark.slow
def test_instances_that_work_for_a_sixth_of_the_time_leave_little_unused() -> None:
    """Most of those in line are not there when it is their turn: their events come again a minute later."""
    crowd = SharedCrowd(100, sliding_window(50), event_s=10, pause_s=50)
    outcome = crowd.run(_TEN_MINUTES_S, 50)
    assert outcome.used >= 0.85
    assert outcome.refused <= 0.02
    assert outcome.fairness >= 0.8


@pytest.mark.parametrize("instances", [1, 10])
def test_a_backlog_is_sent_completely(instances: int) -> None:
    crowd = SharedCrowd(instances, token_bucket(50), backlog=500)
    outcome = crowd.run(3600, 50)
    assert crowd.accepted == [500] * instances
    assert outcome.drained_s is not None
    # It takes some seconds to find the rate.
    assert outcome.drained_s <= 5 + 1.15 * 500 * instances / 50


def unlimited(_: float) -> bool:
    return True


@pytest.mark.parametrize("instances", [1, 4])
def test_while_nothing_is_refused_instances_are_as_fast_as_they_can_and_ask_once_in_an_event(
    instances: int,
) -> None:
    crowd = SharedCrowd(instances, unlimited)
    crowd.run(59, 50)
    # Four lanes, and 20 ms for a request.
    assert min(crowd.accepted) >= 0.97 * 59 * 4 / 0.02
    assert crowd.line.commands == instances


@pytest.mark.slow
def test_a_thousand_instances_without_a_limit_all_send_after_a_second() -> None:
    crowd = SharedCrowd(1000, unlimited)
    crowd.run(1.2, 50)
    assert min(crowd.accepted) >= 1
    assert crowd.line.commands <= 3 * 1000


def test_a_set_rate_of_an_instance_holds() -> None:
    crowd = SharedCrowd(1, token_bucket(50), max_rate=10)
    crowd.run(60, 50)
    assert 0.9 * 600 <= crowd.accepted[0] <= 601
