"""What the store does with the connections it is given: when it makes one, gives one up, and what it believes of a reply."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from metric_forwarder.clients.redis import NOT_REDIS, RedisUnavailable, Script
from metric_forwarder.clock import Deadline
from metric_forwarder.dedupe.redis import CHUNK, IDLE_S, REST_S, RedisClaims, RedisStore, key_prefix
from metric_forwarder.dedupe.redis_scripts import CLAIM, LEASE
from metric_forwarder.dedupe.store import UNKNOWN_REJECTION, Claim, KnownRejection, MemoryStore
from metric_forwarder.machine import Tasks, Threads
from metric_forwarder.settings.redis_address import RedisAddress, parse_redis_url
from support.fakes import FakeClock, machine_of
from world.redis_model import RedisModel

X, Y = b"x" * 16, b"y" * 16


class Redis:
    """A server, and all connections that were made to it.

    Attributes:
        answers: what these scripts are answered with, in the place of what they mean.
        failure: what every call raises.
        hangs: a claim is not answered before this is set.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.model = RedisModel(lambda: clock.monotonic() * 1000)
        self.connections: list[RedisLink] = []
        self.answers: dict[Script, Any] = {}
        self.failure: Exception | None = None
        self.hangs: threading.Event | None = None

    def connect(self, _address: RedisAddress, timeout_s: float, _max_reply_bytes: int) -> "RedisLink":
        self.connections.append(RedisLink(self, timeout_s))
        return self.connections[-1]


class RedisLink:
    """A connection."""

    def __init__(self, server: Redis, timeout_s: float) -> None:
        self._server = server
        self.timeout_s = timeout_s
        self.is_closed = False
        self.runs = 0

    def run(self, script: Script, keys: Sequence[bytes], *arguments: bytes | int) -> Any:
        self.runs += 1
        if self._server.hangs is not None:
            self._server.hangs.wait()
        if self._server.failure:
            raise self._server.failure
        if script in self._server.answers:
            return self._server.answers[script]
        return self._server.model.run(script, keys, *arguments)

    def close(self) -> None:
        self.is_closed = True


class Instance:
    """An instance with a store of its own."""

    def __init__(self, server: Redis, clock: FakeClock, tasks: Tasks | None = None) -> None:
        self.clock = clock
        self.warnings: list[str] = []
        self.store = RedisStore(
            parse_redis_url("redis://redis.test:6379/0"),
            function="default/forwarder",
            window_s=600,
            memory=MemoryStore(600, clock.monotonic),
            machine=machine_of(clock, tasks=tasks),
            connect=server.connect,
            warn=self.warnings.append,
        )

    def begin(self, within_s: float = 60.0) -> RedisClaims:
        return self.store.begin(Deadline(self.clock, self.clock.monotonic() + within_s))

    def ask(self, *identities: bytes, within_s: float = 60.0) -> tuple[list[Claim], str]:
        """Claim in an event of its own; return the claims and the status."""
        claims = self.begin(within_s)
        answers = list(claims.claim(identities))
        claims.close()
        return answers, claims.status


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def server(clock: FakeClock) -> Iterator[Redis]:
    made = Redis(clock)
    yield made
    if made.hangs is not None:
        made.hangs.set()


@pytest.fixture
def instance(server: Redis, clock: FakeClock) -> Callable[[], Instance]:
    return lambda: Instance(server, clock)


@pytest.mark.parametrize(
    ("event_s", "timeout_s"),
    [(60, 0.5), (4, 0.5), (3.9, 0.2), (1.6, 0.2), (1.5, 0.1), (0.8, 0.1), (0.7, 0.05), (0.4, 0.05), (0.2, 0.05)],
)  # fmt: skip
def test_a_connection_may_take_an_eighth_of_the_time_of_its_event(
    event_s: float, timeout_s: float, server: Redis, instance: Callable[[], Instance]
) -> None:
    instance().ask(X, within_s=event_s)
    assert [link.timeout_s for link in server.connections] == [timeout_s]


def test_a_warm_connection_is_used_again_until_it_was_idle_for_too_long(
    server: Redis, clock: FakeClock, instance: Callable[[], Instance]
) -> None:
    one = instance()
    one.ask(X)
    clock.sleep(IDLE_S)
    one.ask(Y)
    assert len(server.connections) == 1

    clock.sleep(IDLE_S + 1)
    one.ask(X)
    assert [link.is_closed for link in server.connections] == [True, False]
    one.ask(Y)
    assert len(server.connections) == 2


def test_after_a_failure_redis_is_left_alone_for_a_while_and_then_asked_again(
    server: Redis, clock: FakeClock, instance: Callable[[], Instance]
) -> None:
    one = instance()
    server.failure = RedisUnavailable("it is not there")
    assert one.ask(X) == ([Claim.OURS], "degraded")
    assert one.warnings == ["it is not there; duplicates are recognised only by this instance's memory"]
    assert [link.is_closed for link in server.connections] == [True]

    server.failure = None
    clock.sleep(REST_S - 1)
    assert one.ask(X) == ([Claim.OURS], "degraded")
    assert len(server.connections) == 1

    clock.sleep(2)
    assert one.ask(X) == ([Claim.OURS], "redis")
    assert [link.is_closed for link in server.connections] == [True, False]


def test_a_broken_connection_is_replaced_once_in_an_event(
    server: Redis, instance: Callable[[], Instance]
) -> None:
    server.failure = RedisUnavailable("it broke", reconnect=True)
    assert instance().ask(X) == ([Claim.OURS], "degraded")
    assert [link.runs for link in server.connections] == [2]


def test_a_claim_is_one_call_for_a_thousand_points_and_asks_again_only_about_those_that_are_known(
    server: Redis, instance: Callable[[], Instance]
) -> None:
    points = [number.to_bytes(16, "big") for number in range(2 * CHUNK + 1)]
    assert instance().ask(*points) == ([Claim.OURS] * len(points), "redis")
    assert [link.runs for link in server.connections] == [3]

    assert instance().ask(X, *points[:CHUNK], Y) == ([Claim.OURS, *[Claim.HELD] * CHUNK, Claim.OURS], "redis")
    assert [link.runs for link in server.connections] == [3, 3]


def test_if_redis_fails_after_the_first_question_about_a_point_the_memory_of_the_instance_counts(
    server: Redis, instance: Callable[[], Instance]
) -> None:
    one = instance()
    claims = one.begin()
    claims.claim([X])
    claims.mark_rejected([X], KnownRejection("1019", 1019))
    claims.close()
    server.answers = {CLAIM: b"not a claim"}
    server.model.set(one.store.prefix + Y, b"a token!")
    assert one.ask(X, Y) == ([Claim.REJECTED, Claim.OURS], "degraded")


def test_what_redis_said_of_a_point_is_known_also_when_redis_fails_later(
    server: Redis, instance: Callable[[], Instance]
) -> None:
    one, other = instance(), instance()
    claims = other.begin()
    claims.claim([X, Y])
    claims.confirm([X])
    claims.mark_uncertain([Y])
    claims.close()
    told = [Claim.DELIVERED, Claim.UNCERTAIN]
    assert one.ask(X, Y) == (told, "redis")
    server.failure = RedisUnavailable("is gone")
    assert one.ask(X, Y) == (told, "degraded")


def test_while_one_request_hangs_no_other_gets_stuck_like_it(server: Redis, clock: FakeClock) -> None:
    one = Instance(server, clock, Threads())
    server.hangs = threading.Event()
    assert one.ask(X, within_s=0.2) == ([Claim.OURS], "degraded")
    clock.sleep(2 * REST_S)
    assert one.ask(Y) == ([Claim.OURS], "degraded")
    assert [link.runs for link in server.connections] == [1]

    server.hangs.set()
    for thread in threading.enumerate():
        if thread.name == "redis":
            thread.join()
    assert one.ask(Y) == ([Claim.OURS], "redis")


ODD_CLAIMS = [b"", b"o", b"ooo", b"oz", b"or", b"oo\n12 bad", b"rr\n12 bad", 7, None, [b"oo"], b"o\xff"]


# The first letter about a lease is that of the event's own key.
@pytest.mark.parametrize(
    ("script", "answer"),
    [
        *[(LEASE, b"o" + odd if isinstance(odd, bytes) else odd) for odd in ODD_CLAIMS],
        *[(CLAIM, odd) for odd in ODD_CLAIMS],
        (LEASE, b""),
    ],
)
def test_a_reply_that_makes_no_sense_is_not_believed(
    answer: object, script: Script, server: Redis, instance: Callable[[], Instance]
) -> None:
    server.answers = {LEASE: b"ohh", script: answer}
    one = instance()
    assert one.ask(X, Y) == ([Claim.OURS, Claim.OURS], "degraded")
    assert one.warnings == [f"{NOT_REDIS}; duplicates are recognised only by this instance's memory"]


@pytest.mark.parametrize(
    ("label", "known"),
    [
        (b"12 no data", KnownRejection("no data", 12)),
        (b" out of order", KnownRejection("out of order", None)),
        (b"123456789 far", KnownRejection("far", 123456789)),
        (b"1234567890 too far", UNKNOWN_REJECTION),
        (b"12", UNKNOWN_REJECTION),
        (b"12 ", UNKNOWN_REJECTION),
        (b"x2 odd", UNKNOWN_REJECTION),
        (b"12 a\x00b", UNKNOWN_REJECTION),
        (b"12 caf\xe9", KnownRejection("caf\N{REPLACEMENT CHARACTER}", 12)),
    ],
)
def test_a_rejection_that_another_instance_met_is_said_again_as_far_as_it_is_known(
    label: bytes, known: KnownRejection, server: Redis, instance: Callable[[], Instance]
) -> None:
    server.answers = {LEASE: b"oho", CLAIM: b"r\n" + label}
    claims = instance().begin()
    assert claims.claim([X, Y]) == [Claim.REJECTED, Claim.OURS]
    assert claims.rejection(X) == known
    claims.close()


def test_a_rejection_that_this_instance_met_itself_is_said_again_in_full(
    server: Redis, instance: Callable[[], Instance]
) -> None:
    rejection = KnownRejection("1019", 1019, "create the metric")
    one, other = instance(), instance()
    claims = one.begin()
    claims.claim([X])
    claims.mark_rejected([X], rejection)
    claims.close()

    again = one.begin()
    assert again.claim([X]) == [Claim.REJECTED]
    assert again.rejection(X) == rejection
    again.close()

    elsewhere = other.begin()
    assert elsewhere.claim([X]) == [Claim.REJECTED]
    assert elsewhere.rejection(X) == KnownRejection("1019", 1019)
    elsewhere.close()

    # Redis has forgotten it: the instance still knows.
    server.failure = RedisUnavailable("it is not there")
    degraded = one.begin()
    assert degraded.claim([X]) == [Claim.REJECTED]
    assert degraded.rejection(X) == rejection
    degraded.close()


@pytest.mark.parametrize(
    ("function", "beginning"), [("default/forwarder", b"mf:d{jsoNwv4L}"), ("a\ud800", b"mf:d{B9vOltcU}")]
)
def test_the_keys_of_a_function_begin_the_same_in_every_version_and_are_in_one_slot(
    function: str, beginning: bytes
) -> None:
    """A window that spans an upgrade would be lost if they changed unnoticed; the braces name what a cluster's slot follows from."""
    assert key_prefix(function) == beginning
