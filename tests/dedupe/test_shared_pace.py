"""The pace that instances share in Redis: asked for with a real server, and what an instance does without one."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from metric_forwarder.clients.redis import RedisConnection, Script
from metric_forwarder.clock import Deadline
from metric_forwarder.dedupe.redis import REST_S, RedisStore
from metric_forwarder.dedupe.shared_pace import PACE, SharedPacer
from metric_forwarder.dedupe.store import Claims, MemoryStore
from metric_forwarder.delivery.pacing import Pacer
from metric_forwarder.settings.redis_address import parse_redis_url
from support.fakes import FakeClock, machine_of
from support.redis_server import RedisServer
from support.shared_pace import ModelLine, SharedCrowd
from support.shared_quota import token_bucket
from world.redis_model import RedisModel


class Instance:
    """One instance with a store and a pacer, in an event of a minute."""

    def __init__(self, url: str) -> None:
        self.clock = FakeClock()
        self.warnings: list[str] = []
        self._store = RedisStore(
            parse_redis_url(url),
            function="f",
            window_s=600,
            memory=MemoryStore(600, self.clock.monotonic),
            machine=machine_of(self.clock),
            connect=RedisConnection,
            warn=self.warnings.append,
        )
        self.pacer = SharedPacer(
            Pacer(machine_of(self.clock)), self._store, "receiver", machine_of(self.clock)
        )
        self.claims: Claims = self.begin()

    def begin(self) -> Claims:
        """Begin the next event."""
        self.claims = self._store.begin(Deadline(self.clock, self.clock.monotonic() + 60))
        self.pacer.begin(60)
        return self.claims

    def wait_s(self) -> float | None:
        """How long the next request waits; None if it has no time for it."""
        turn = self.pacer.reserve(60)
        return turn and turn.wait_s

    def end(self) -> str:
        self.claims.close()
        return self.claims.status


@pytest.fixture
def instance(redis_server: RedisServer) -> Iterator[Callable[[], Instance]]:
    made: list[Instance] = []

    def make() -> Instance:
        made.append(Instance(redis_server.url()))
        return made[-1]

    yield make
    for each in made:
        each.end()


def test_what_one_instance_is_refused_slows_every_other(instance: Callable[[], Instance]) -> None:
    first, second = instance(), instance()
    assert first.wait_s() == second.wait_s() == 0
    assert first.pacer.refuse()
    assert (first.wait_s() or 0) > 0.5
    # The other one is told with its next event.
    second.end()
    second.clock.sleep(2)
    second.begin()
    assert (second.wait_s() or 0) > 0
    assert [first.end(), second.end()] == ["redis", "redis"]


def test_several_refusals_of_one_moment_are_one_news(instance: Callable[[], Instance]) -> None:
    it = instance()
    it.wait_s()
    assert [it.pacer.refuse() for _ in range(4)] == [True, False, False, False]
    it.wait_s()
    assert it.pacer.refuse()


def test_an_event_that_is_about_to_end_does_not_ask(instance: Callable[[], Instance]) -> None:
    it = instance()
    assert it.pacer.reserve(0.1) == (0, True)
    assert it.wait_s() == 0
    it.pacer.refuse()
    assert it.pacer.reserve(0.1) is None


def test_after_its_event_a_lane_asks_no_more_and_nothing_degrades(instance: Callable[[], Instance]) -> None:
    it = instance()
    it.claims.close()
    assert it.wait_s() == 0
    assert (it.claims.status, it.warnings) == ("redis", [])


def test_without_redis_an_instance_paces_itself_and_the_report_says_degraded(
    redis_server: RedisServer, instance: Callable[[], Instance]
) -> None:
    it = instance()
    it.wait_s()
    it.pacer.refuse()
    assert (it.wait_s() or 0) > 0
    redis_server.stop()
    # What it was told holds until it asks again; then it goes on at its share.
    it.clock.sleep(5)
    assert it.wait_s() is not None
    assert it.pacer.accepted == 0
    assert it.end() == "degraded"
    assert len(it.warnings) == 1
    redis_server.start()
    it.clock.sleep(REST_S)
    it.begin()
    assert it.wait_s() is not None
    assert it.end() == "redis"


def test_a_server_that_hangs_takes_no_longer_than_any_other_use_of_it(
    redis_server: RedisServer, instance: Callable[[], Instance]
) -> None:
    it = instance()
    redis_server.freeze()
    assert it.wait_s() == 0
    redis_server.thaw()
    assert it.end() == "degraded"


def test_a_user_who_may_not_ask_for_the_time_has_no_shared_pace_and_no_other_disadvantage(
    redis_server: RedisServer,
) -> None:
    if redis_server.version() < (6,):
        pytest.skip("users came with Redis 6")
    rights = ["+auth", "+select", "+ping", "+eval", "+evalsha", "+get", "+set", "+del"]
    redis_server.command("ACL", "SETUSER", "old", "on", ">s3cret", "~mf:*", "-@all", *rights)
    it = Instance(f"redis://old:s3cret@127.0.0.1:{redis_server.port}/0")
    assert it.wait_s() == 0
    assert it.pacer.refuse()
    assert (it.wait_s() or 0) > 0
    assert (it.end(), it.warnings) == ("redis", [])
    redis_server.command("ACL", "SETUSER", "old", "+time")
    it.begin()
    it.wait_s()
    it.pacer.refuse()
    it.wait_s()
    it.end()
    assert any(b":pace:" in key for key in redis_server.client().scan_iter())


def test_the_time_is_that_of_the_server(redis_server: RedisServer) -> None:
    connection = RedisConnection(parse_redis_url(redis_server.url()), 5)
    assert connection.run(PACE, [b"mf:p"], 1, 0, 0, 0, 0) == b"free"
    before = float(redis_server.client().get(b"mf:p").split()[2])  # type: ignore[union-attr]  # not None
    seconds, _ = redis_server.client().time()
    assert abs(seconds - before) < 5
    connection.close()


class WatchedLine(ModelLine):
    """Also knows the last gap between two moments, microseconds; 0: nothing is in line."""

    gap_us = 0

    def ask(
        self, form: re.Pattern[bytes], script: Script, key: bytes, *arguments: int
    ) -> re.Match[bytes] | None:
        found = super().ask(form, script, key, *arguments)
        self.gap_us = int((found and found["gap_us"]) or 0)
        return found


def test_a_refusal_that_a_frozen_instance_hears_late_and_that_is_older_than_the_line_does_not_slow_it_down() -> (
    None
):
    clock = FakeClock()
    line = WatchedLine(RedisModel(lambda: clock.time() * 1000))
    quick, frozen = (
        SharedPacer(Pacer(machine_of(clock)), line, "receiver", machine_of(clock)) for _ in range(2)
    )
    for pacer in (quick, frozen):
        pacer.begin(60)
        assert pacer.reserve(60) == (0, True)
    quick.refuse()
    for _ in range(10):
        turn = quick.reserve(60)
        clock.sleep(turn.wait_s if turn else 0)
    searched_us = line.gap_us
    frozen.refuse()
    frozen.reserve(60)
    assert 0 < line.gap_us <= searched_us


# --- many instances, in virtual time -----------------------------------------------------------------------


def test_what_instances_that_were_killed_held_is_passed_over() -> None:
    crowd = SharedCrowd(10, token_bucket(50))
    crowd.run(30, 50)
    before = crowd.accepted[9]
    crowd.kill(range(9))
    crowd.go_on(40, 50)
    assert crowd.accepted[9] - before >= 0.85 * 50 * 10


def test_a_redis_that_forgets_the_rate_is_told_it_again() -> None:
    crowd = SharedCrowd(100, token_bucket(50))
    crowd.run(60, 50)
    refused, accepted = crowd.refused, sum(crowd.accepted)
    crowd.line.redis.flush()
    crowd.go_on(90, 50)
    assert crowd.refused - refused <= 5
    assert sum(crowd.accepted) - accepted >= 0.85 * 50 * 30


def test_when_redis_fails_instances_go_on_at_their_share() -> None:
    crowd = SharedCrowd(100, token_bucket(50))
    crowd.run(60, 50)
    refused, accepted = crowd.refused, sum(crowd.accepted)
    crowd.line.is_up = False
    crowd.go_on(70, 50)
    # Without it hundreds of requests would be refused at once.
    assert crowd.refused - refused <= 0.2 * 50 * 10
    assert sum(crowd.accepted) - accepted >= 0.6 * 50 * 10


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_server_whose_clock_jumps_stops_nobody(step_s: float) -> None:
    crowd = SharedCrowd(10, token_bucket(50))
    crowd.run(60, 50)
    refused, accepted = crowd.refused, sum(crowd.accepted)
    crowd.redis_ahead_s = step_s
    crowd.go_on(90, 50)
    assert crowd.refused - refused <= 60
    assert sum(crowd.accepted) - accepted >= 0.8 * 50 * 30


@pytest.mark.slow
def test_a_quota_that_grows_is_found() -> None:
    small, large = token_bucket(20), token_bucket(200)
    crowd = SharedCrowd(100, lambda now: (small if now < 120 else large)(now))
    crowd.run(120, 20)
    crowd.go_on(420, 200)
    accepted = sum(crowd.accepted)
    crowd.go_on(480, 200)
    assert sum(crowd.accepted) - accepted >= 0.85 * 200 * 60


@pytest.mark.slow
def test_a_quota_that_shrinks_is_kept_within_seconds() -> None:
    large, small = token_bucket(200), token_bucket(20)
    crowd = SharedCrowd(100, lambda now: (large if now < 60 else small)(now))
    crowd.run(60, 200)
    crowd.go_on(80, 20)
    refused, accepted = crowd.refused, sum(crowd.accepted)
    crowd.go_on(140, 20)
    assert crowd.refused - refused <= 0.02 * 20 * 60
    assert sum(crowd.accepted) - accepted >= 0.6 * 20 * 60


# --- one instance, and replies that are given ---------------------------------------------------------------


class GivenLine:
    """A line that gives these replies, one after the other; None: no reply."""

    def __init__(self, *replies: bytes | None) -> None:
        self._replies = list(replies)
        self.asked: list[tuple[int, ...]] = []
        self.keys: list[bytes] = []

    def ask(
        self,
        form: re.Pattern[bytes],
        script: Script,  # noqa: ARG002 - the port's
        key: bytes,
        *arguments: int,
    ) -> re.Match[bytes] | None:
        self.keys.append(key)
        self.asked.append(arguments)
        reply = self._replies.pop(0)
        return None if reply is None else form.fullmatch(reply)


def told(*replies: bytes | None) -> tuple[SharedPacer, GivenLine, FakeClock]:
    """A pacer that is told this, in an event of a minute."""
    line, clock = GivenLine(*replies), FakeClock()
    clock.sleep(1000)
    pacer = SharedPacer(Pacer(machine_of(clock)), line, "receiver", machine_of(clock))
    pacer.begin(60)
    return pacer, line, clock


def taken(wait_s: float) -> Any:
    """The request starts after about so long."""
    return pytest.approx((wait_s, True))


def later(wait_s: float) -> Any:
    """The caller is to ask again after about so long."""
    return pytest.approx((wait_s, False))


def test_where_there_is_no_limit_an_event_asks_once_and_the_next_one_after_a_second() -> None:
    pacer, line, clock = told(b"free", b"free")
    assert [pacer.reserve(60) for _ in range(3)] == [(0, True)] * 3
    assert pacer.wait_s() == 0
    clock.sleep(1)
    pacer.begin(60)
    pacer.reserve(60)
    clock.sleep(0.1)
    pacer.reserve(60)
    assert line.asked == [(1, 0, 0, 0, 0)]
    pacer.begin(60)
    assert pacer.reserve(60) == (0, True)
    assert line.asked == [(1, 0, 0, 0, 0)] * 2


def test_who_is_one_of_too_many_that_begin_asks_again_when_it_is_told() -> None:
    pacer, line, clock = told(b"wait 300", b"free")
    assert pacer.reserve(60) == later(0.3)
    clock.sleep(0.2)
    assert pacer.reserve(60) == later(0.1)
    assert pacer.wait_s() == pytest.approx(0.1)
    assert len(line.asked) == 1
    clock.sleep(0.1001)
    assert pacer.reserve(60) == (0, True)
    assert len(line.asked) == 2


def test_moments_are_taken_as_they_were_given_and_the_next_question_says_what_was_used() -> None:
    pacer, line, clock = told(b"line 7 2000 2 100 250000", b"line 9 1000 0 0 500000")
    assert pacer.reserve(60) == taken(0.1)
    # The next moment is too far away to be taken now.
    assert pacer.reserve(60) == later(0.35)
    clock.sleep(0.1)
    assert pacer.reserve(60) == taken(0.25)
    assert pacer.reserve(60) == later(1.9)
    for _ in range(4):
        pacer.accept()
    clock.sleep(1.9001)
    assert pacer.reserve(60) == later(1)
    # Twice as many and one more, for another two requests a second, and the ticket and the gap that are known.
    assert line.asked == [(1, 0, 0, 0, 0), (5, 0, 2, 7, 250_000)]


def test_a_moment_that_nobody_was_free_for_is_good_for_a_quarter_of_a_second() -> None:
    pacer, _, clock = told(b"line 7 9000 4 0 100000")
    pacer.reserve(60)
    clock.sleep(0.36)
    # Of the three that are left, the one of 0.1 s is too old.
    assert [pacer.reserve(60), pacer.reserve(60)] == [(0, True)] * 2
    assert pacer.reserve(60) == later(9 - 0.36)


def test_a_refusal_is_told_at_once_and_the_moments_that_are_left_are_given_up() -> None:
    pacer, line, clock = told(b"line 7 2000 3 0 100000", b"line 7 1500 0 0 200000")
    pacer.reserve(60)
    assert [pacer.refuse(), pacer.refuse()] == [True, False]
    clock.sleep(0.1)
    assert pacer.reserve(60) == later(1.5)
    assert line.asked[1:] == [(0, 2, 0, 7, 100_000)]
    assert pacer.refuse()


def test_who_has_no_time_until_its_turn_does_not_wait_for_it() -> None:
    pacer, _, _ = told(b"line 7 5000 0 0 250000")
    assert pacer.reserve(4.9) is None
    assert pacer.reserve(5) == (5, False)


def test_who_is_to_ask_again_at_once_lets_a_hundredth_of_a_second_pass() -> None:
    pacer, _, _ = told(b"line 7 0 0 0 250000")
    assert pacer.reserve(60) == later(0.01)


def test_an_event_asks_only_if_it_has_time_for_the_reply() -> None:
    pacer, line, _ = told(b"wait 100")
    assert pacer.reserve(0.2) == (0, True)
    assert line.asked == []
    assert pacer.reserve(0.21) == later(0.1)


def test_without_a_reply_the_event_goes_on_alone_and_the_next_one_asks() -> None:
    pacer, line, clock = told(b"line 7 1000 1 0 4000000", None, b"free")
    pacer.reserve(60)
    clock.sleep(1)
    while (turn := pacer.reserve(60)) is not None and not turn.is_taken:
        clock.sleep(turn.wait_s)
    # Its share was one moment in four seconds.
    following = pacer.reserve(60)
    assert following is not None
    assert 3 < following.wait_s < 5
    assert len(line.asked) == 2
    clock.sleep(1)
    pacer.begin(60)
    # There is no limit, so the rest of that pause is over.
    assert [pacer.reserve(60) for _ in range(3)] == [(0, True)] * 3
    # Nothing was refused.
    assert [refused for _, refused, *_ in line.asked] == [0, 0, 0]


def test_a_pause_of_the_destination_holds_in_line_too() -> None:
    pacer, _, _ = told(b"line 7 1000 1 0 250000")
    pacer.pause(3)
    assert (pacer.wait_s(), pacer.asked_s()) == (3, 3)
    turn = pacer.reserve(60)
    assert turn is not None
    assert turn.wait_s == 3


def test_what_is_told_as_accepted_is_that_of_this_event_in_a_second() -> None:
    pacer, line, clock = told(b"line 7 1000 1 0 250000", b"line 7 5000 0 0 250000")
    pacer.reserve(60)
    for _ in range(6):
        pacer.accept()
    clock.sleep(1.1)
    pacer.begin(60)
    for _ in range(3):
        pacer.accept()
    clock.sleep(0.5)
    pacer.reserve(60)
    assert line.asked[1] == (3, 0, 3, 7, 250_000)


def test_who_used_its_moments_may_ask_for_more_at_once_if_it_is_told_so() -> None:
    pacer, _, _ = told(b"line 7 0 1 0 1000", b"line 7 5000 0 0 1000")
    assert [pacer.reserve(60), pacer.reserve(60)] == [(0, True), (5, False)]


def test_each_destination_has_a_pace_of_its_own() -> None:
    line, machine = GivenLine(b"free", b"free", b"free"), machine_of(FakeClock())
    for scope in ("one", "another", "one"):
        SharedPacer(Pacer(machine), line, scope, machine).reserve(60)
    first, other, again = line.keys
    assert first == again != other
