"""The dedupe store in Redis, against a real server."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.http import Failure, Fault, HttpReply, HttpRequest
from metric_forwarder.clients.redis import RedisConnection, Script
from metric_forwarder.clock import Deadline
from metric_forwarder.dedupe.redis import (
    CHUNK,
    IDLE_S,
    LEASE_SLACK_S,
    REST_S,
    TIMEOUTS_S,
    RedisClaims,
    RedisStore,
    key_prefix,
)
from metric_forwarder.dedupe.redis_deliveries import FEWEST, PART, Deliveries
from metric_forwarder.dedupe.store import Claim, KnownRejection, MemoryStore
from metric_forwarder.errors import ConfigError
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.secret import Secret
from metric_forwarder.settings.redis_address import BadRedisUrl, RedisAddress, parse_redis_url
from metric_forwarder.settings.settings import Settings
from metric_forwarder.spool.redis_check import check_redis
from support.fakes import FakeClock, InProcessReceiver, machine_of
from support.harness import CONTEXT, ROOT, Harness, ckafka, environ, outcomes, point, report_of, values
from support.patience import ends_within
from support.proxy import Proxy
from support.redis_server import PASSWORD, PASSWORD_IN_URL, RedisServer

X, Y, Z = b"x" * 16, b"y" * 16, b"z" * 16
FUNCTION = "default/forwarder"
REJECTION = KnownRejection("1019", 1019, "the request has no valid metric data: create the metric")


class Instance:
    """One instance's store, its clock and its warnings.

    Attributes:
        runs: how often it asked Redis.
    """

    def __init__(
        self, server: RedisServer, *, window_s: float = 600, url: str = "", function: str = FUNCTION
    ) -> None:
        self.clock = FakeClock()
        self.warnings: list[str] = []
        self.memory = MemoryStore(window_s, self.clock.monotonic)
        self.store = RedisStore(
            parse_redis_url(url or server.url()),
            function=function,
            window_s=window_s,
            memory=self.memory,
            machine=machine_of(self.clock),
            connect=partial(CountedConnection, self),
            warn=self.warnings.append,
        )
        self.runs = 0

    def begin(self, within_s: float = 60.0) -> Any:
        claims = self.store.begin(Deadline(self.clock, self.clock.monotonic() + within_s))
        BEGUN.append(claims)
        return claims

    def begin_large(self, within_s: float = 60.0) -> Any:
        """Begin an event of so many points that it keeps a record."""
        claims = self.begin(within_s)
        claims.claim([os.urandom(16) for _ in range(FEWEST)])
        return claims

    def deliver(self, *identities: bytes) -> str:
        """Claim, confirm and close, as an event does that meets no trouble: the status."""
        claims = self.begin()
        claims.claim(identities)
        claims.confirm(identities)
        claims.close()
        status: str = claims.status
        return status


class CountedConnection(RedisConnection):
    """A connection that counts for an instance what it is asked."""

    def __init__(self, instance: Instance, address: RedisAddress, timeout_s: float, most_bytes: int) -> None:
        super().__init__(address, timeout_s, most_bytes)
        self._instance = instance

    def run(self, script: Script, keys: Sequence[bytes], *arguments: bytes | int) -> Any:
        self._instance.runs += 1
        return super().run(script, keys, *arguments)


BEGUN: list[RedisClaims] = []


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """End the events that a test left open, and with each the thread that talks to Redis."""
    yield
    while BEGUN:
        BEGUN.pop().close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that tests share which do it no harm."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def instance(server: RedisServer) -> Callable[[], Instance]:
    server.command("FLUSHALL")
    return lambda: Instance(server)


# --- the address -------------------------------------------------------------------------------------------

GOOD_URLS = {
    "redis://10.0.0.7": RedisAddress("10.0.0.7"),
    "redis://10.0.0.7:6380/3": RedisAddress("10.0.0.7", 6380, 3),
    "redis://:secret@redis.test/": RedisAddress("redis.test", password=Secret("secret")),
    "redis://:account%40secret@10.0.0.7": RedisAddress("10.0.0.7", password=Secret("account@secret")),
    "redis://alice:s%2Fcret@[fd00::7]:7000": RedisAddress(
        "fd00::7", 7000, username="alice", password=Secret("s/cret")
    ),
    "rediss://redis.test": RedisAddress("redis.test", tls=True),
    "rediss://redis.test?ssl_ca_certs=/var/user/ca.pem&ssl_check_hostname=false": RedisAddress(
        "redis.test", tls=True, ca_file="/var/user/ca.pem", check_hostname=False
    ),
}


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_redis_url_says_where_and_as_whom(url: str) -> None:
    assert parse_redis_url(url) == GOOD_URLS[url]


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("redis://", id="no host"),
        pytest.param("redis:hunter2@host", id="no slashes"),
        pytest.param("redis://:hunter2@", id="no host after the password"),
        pytest.param("redis://:hunter#2@host", id="an unescaped #"),
        pytest.param("redis://:hunter/2@host", id="an unescaped slash"),
        pytest.param("redis://:hunter2@host:port", id="a port that is no number"),
        pytest.param("redis://:hunter2@host:99999", id="a port out of range"),
        pytest.param("redis://:hunter2@host:0", id="port 0"),
        pytest.param("redis://:hunter2@host/first", id="a database that is no number"),
        pytest.param("redis://:hunter2@host/-1", id="a negative database"),
        pytest.param("redis://:hunter2@host?ssl_ca_certs=x", id="an option of rediss"),
        pytest.param("rediss://:hunter2@host?db=2", id="an unknown option"),
        pytest.param("rediss://:hunter2@host?ssl_check_hostname=maybe", id="an option that is no boolean"),
        pytest.param("redis://:hunter2@ho st", id="a space"),
        pytest.param("unix://:hunter2@/run/redis.sock", id="another scheme"),
        pytest.param("redi://:hunter2@host", id="a misspelt scheme"),
    ],
)
def test_a_malformed_url_is_a_config_error_that_says_what_would_be_right_and_shows_nothing(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Settings.read(environ(DEDUPE=url))
    (problem,) = raised.value.problems
    assert problem.startswith("MF_DEDUPE ")
    assert "redis://" in problem
    assert "hunter" not in problem


@given(username=st.text(max_size=20), password=st.text(max_size=40), database=st.integers(0, 99_999))
def test_any_user_and_password_can_be_written_percent_encoded(
    username: str, password: str, database: int
) -> None:
    url = f"redis://{quote(username, safe='')}:{quote(password, safe='')}@10.0.0.7:7000/{database}"
    assert parse_redis_url(url) == RedisAddress("10.0.0.7", 7000, database, username, Secret(password))


@given(st.text(alphabet=st.sampled_from("redis:/@[]%#?&=.0a \x00é"), max_size=40))
def test_no_text_makes_reading_a_url_fail_in_another_way(text: str) -> None:
    for url in (text, "redis://" + text, "rediss://" + text):
        try:
            assert parse_redis_url(url).host
        except BadRedisUrl:
            continue


def test_settings_show_the_place_and_never_the_password() -> None:
    read = Settings.read(environ(DEDUPE=f"redis://:{PASSWORD_IN_URL}@10.0.0.7/2"))
    assert str(read.dedupe) == "redis://10.0.0.7:6379/2"
    assert PASSWORD not in repr(read)


def test_without_the_package_the_config_error_names_the_extra() -> None:
    program = """
import sys
sys.modules["redis"] = None  # as if it were not installed
import json
from metric_forwarder.bootstrap import Application
from metric_forwarder.errors import ConfigError
try:
    Application(json.loads(sys.argv[1])).handle([], {})
except ConfigError as error:
    print(error)
"""
    arguments = [sys.executable, "-c", program, json.dumps(environ(DEDUPE="redis://:hunter2@10.0.0.7"))]
    told = subprocess.run(
        arguments, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "src")}
    ).stdout
    assert "make package EXTRAS=redis to" in told
    assert "hunter2" not in told


# --- leases ------------------------------------------------------------------------------------------------


def test_what_one_instance_delivered_is_a_duplicate_for_every_other(instance: Callable[[], Instance]) -> None:
    assert instance().deliver(X, Y) == "redis"
    assert instance().begin().claim([X, Y, Z]) == [Claim.DELIVERED, Claim.DELIVERED, Claim.OURS]


def test_what_another_instance_is_sending_is_held_and_no_duplicate(instance: Callable[[], Instance]) -> None:
    assert instance().begin().claim([X]) == [Claim.OURS]
    assert instance().begin().claim([X, Y]) == [Claim.HELD, Claim.OURS]


def test_an_instance_may_claim_its_own_points_again(instance: Callable[[], Instance]) -> None:
    claims = instance().begin()
    assert claims.claim([X]) == claims.claim([X]) == [Claim.OURS]


def test_what_was_released_is_free_at_once(instance: Callable[[], Instance]) -> None:
    claims = instance().begin()
    claims.claim([X])
    claims.release([X])
    claims.close()
    assert instance().begin().claim([X]) == [Claim.OURS]


def test_only_ones_own_lease_can_be_released(instance: Callable[[], Instance]) -> None:
    holder, other = instance().begin(), instance().begin()
    holder.claim([X])
    instance().deliver(Y)
    other.release([X, Y])
    other.close()
    assert instance().begin().claim([X, Y]) == [Claim.HELD, Claim.DELIVERED]


def test_a_lease_lasts_until_a_little_after_its_holders_deadline(
    server: RedisServer, instance: Callable[[], Instance]
) -> None:
    instance().begin(within_s=20).claim([X])
    left_ms = server.command("PTTL", event_key(server))
    assert 20_000 < left_ms <= 20_000 + LEASE_SLACK_S * 1000


def test_the_lease_of_a_crashed_holder_runs_out_and_another_sends(
    server: RedisServer, instance: Callable[[], Instance]
) -> None:
    instance().begin().claim([X])
    server.command("DEL", event_key(server))  # the server's clock cannot be handed in
    assert instance().begin().claim([X]) == [Claim.OURS]


def event_key(server: RedisServer) -> bytes:
    """The key of the one event that holds leases."""
    with server.client() as client:
        (key,) = client.scan_iter(match=key_prefix(FUNCTION) + b"?" * 8)
        return bytes(key)


def test_what_a_crashed_holder_had_delivered_is_known_when_its_lease_has_run_out(
    server: RedisServer, instance: Callable[[], Instance]
) -> None:
    crashed = instance().begin()
    points = [number.to_bytes(16, "big") for number in range(2 * CHUNK + 100)]
    crashed.claim(points)
    crashed.confirm(points[1:-1])
    crashed.claim([Z])  # which is asked for after the confirmations were written
    server.command("DEL", event_key(server))
    between = [Claim.DELIVERED] * (len(points) - 2)
    assert instance().begin().claim(points) == [Claim.OURS, *between, Claim.OURS]


def test_a_delivered_point_is_remembered_for_a_whole_window_after_the_latest_end_of_its_event(
    server: RedisServer, instance: Callable[[], Instance]
) -> None:
    points = [number.to_bytes(16, "big") for number in range(FEWEST)]
    instance().deliver(*points)
    with server.client() as client:
        left_ms = [client.pttl(key) for key in client.scan_iter() if key != event_key(server)]
    assert len(left_ms) == FEWEST + 1  # the points, and the record of their event
    assert all(660_000 < each <= 661_000 for each in left_ms)


def test_an_event_of_few_points_keeps_no_record(
    server: RedisServer, instance: Callable[[], Instance]
) -> None:
    instance().deliver(X)
    with server.client() as client:
        assert set(client.scan_iter()) == {event_key(server), key_prefix(FUNCTION) + X}
    assert 599_000 < server.command("PTTL", key_prefix(FUNCTION) + X) <= 600_000


def test_a_point_that_is_held_for_long_has_one_place_in_the_record() -> None:
    deliveries = Deliveries(b"a token!")
    points = [number.to_bytes(16, "big") for number in range(FEWEST)]
    leases = deliveries.leases(points)
    for _ in range(100):
        deliveries.forget(points)
        assert deliveries.add(points) == points
        assert deliveries.leases(points) == leases
    assert deliveries.leases([X]) == [b"a token!" + FEWEST.to_bytes(4, "big")]


def test_the_record_may_be_read_between_any_two_steps_of_another_thread_that_leases() -> None:
    deliveries = Deliveries(b"a token!")
    looks = []

    def look(_frame: FrameType, _event: str, _argument: object) -> Callable[..., Any]:
        looks.append(deliveries.all())
        return look

    def lease() -> None:
        # Of this thread alone.
        sys.settrace(look)
        deliveries.leases([X, Y, Z])

    with ThreadPoolExecutor(1) as other_thread:
        other_thread.submit(lease).result()
    assert len(looks) > 3 * len([X, Y, Z])
    assert not any(looks)


def test_what_was_delivered_counts_even_if_the_lease_had_run_out(
    server: RedisServer, instance: Callable[[], Instance]
) -> None:
    one = instance()
    slow = one.begin_large(within_s=20)
    slow.claim([X])
    server.command("DEL", event_key(server))
    fast = instance().begin()
    assert fast.claim([X]) == [Claim.OURS]
    one.clock.sleep(21)
    slow.confirm([X])
    slow.close()
    fast.release([X])
    fast.close()
    assert instance().begin().claim([X]) == [Claim.DELIVERED]


@pytest.mark.parametrize("mark", ["mark_uncertain", "mark_rejected", "release"])
def test_what_another_instance_delivered_since_the_lease_ran_out_stays_delivered(
    server: RedisServer, instance: Callable[[], Instance], mark: str
) -> None:
    slow = instance().begin_large()
    slow.claim([X])
    server.command("DEL", event_key(server))
    other = instance().begin_large()
    other.claim([X])
    other.confirm([X])
    other.close()
    getattr(slow, mark)([X], *[REJECTION] * (mark == "mark_rejected"))
    slow.close()
    assert instance().begin().claim([X]) == [Claim.DELIVERED]


@pytest.mark.parametrize("mark", ["mark_uncertain", "mark_rejected"])
def test_a_point_that_an_event_delivers_after_it_was_marked_is_delivered(
    server: RedisServer, instance: Callable[[], Instance], mark: str
) -> None:
    claims = instance().begin_large()
    claims.claim([X])
    getattr(claims, mark)([X], *[REJECTION] * (mark == "mark_rejected"))
    claims.confirm([X])
    claims.close()
    assert 599_000 < server.command("PTTL", key_prefix(FUNCTION) + X) <= 600_000
    assert instance().begin().claim([X]) == [Claim.DELIVERED]


@pytest.mark.parametrize("mark", ["mark_uncertain", "mark_rejected"])
def test_whoever_marks_a_point_that_another_holds_leaves_it_to_the_holder(
    server: RedisServer, instance: Callable[[], Instance], mark: str
) -> None:
    holder, other = instance().begin_large(), instance().begin()
    holder.claim([X])
    getattr(other, mark)([X], *[REJECTION] * (mark == "mark_rejected"))
    other.close()
    assert instance().begin().claim([X]) == [Claim.HELD]
    holder.confirm([X])
    holder.close()
    assert 660_000 < server.command("PTTL", key_prefix(FUNCTION) + X) <= 661_000
    assert instance().begin().claim([X]) == [Claim.DELIVERED]


def test_a_point_that_one_event_delivered_and_releases_by_mistake_stays_delivered(
    instance: Callable[[], Instance],
) -> None:
    claims = instance().begin_large()
    claims.claim([X])
    claims.confirm([X])
    claims.release([X])
    claims.close()
    assert instance().begin().claim([X]) == [Claim.DELIVERED]


def test_functions_do_not_share_what_they_remember(server: RedisServer) -> None:
    server.command("FLUSHALL")
    Instance(server, function="default/one").deliver(X)
    assert Instance(server, function="default/two").begin().claim([X]) == [Claim.OURS]


def test_instances_of_one_function_share_and_those_of_another_do_not(server: RedisServer) -> None:
    server.command("FLUSHALL")
    event = ckafka(point())

    def handle(name: str) -> dict[str, int]:
        clock = FakeClock()
        application = Application(environ(DEDUPE=server.url()), clock, lambda: InProcessReceiver(clock))
        return outcomes(
            report_of(application, event, context={**CONTEXT, "namespace": "n", "function_name": name})
        )

    assert [handle("one"), handle("one"), handle("two")] == [
        {"delivered": 1},
        {"duplicate": 1},
        {"delivered": 1},
    ]


CHANGES: dict[str, tuple[dict[str, str], str]] = {
    "another region": ({"REGION": "sh"}, "delivered"),
    "another host": ({"RECEIVER_URL": "http://other.test:8080/v2/index.php"}, "delivered"),
    "another port": ({"RECEIVER_URL": "http://receiver.test:8081/v2/index.php"}, "delivered"),
    "the region's full name": ({"REGION": "ap-guangzhou"}, "duplicate"),
    "the other path": ({"RECEIVER_URL": "http://receiver.test:8080/report.cgi"}, "duplicate"),
    "the other method": ({"RECEIVER_METHOD": "GET"}, "duplicate"),
    "a changed key": ({"SECRET_ID": "AKIDnew", "SECRET_KEY": "new"}, "duplicate"),
}


@pytest.mark.parametrize(("changed", "outcome"), CHANGES.values(), ids=CHANGES)
def test_only_what_goes_to_another_place_is_another_delivery(
    server: RedisServer, changed: dict[str, str], outcome: str
) -> None:
    server.command("FLUSHALL")
    clock = FakeClock()
    receiver = InProcessReceiver(clock)

    def handle(**settings_: str) -> dict[str, int]:
        application = Application(environ(DEDUPE=server.url(), **settings_), clock, lambda: receiver)
        return outcomes(report_of(application, ckafka(point(1))))

    assert handle() == {"delivered": 1}
    assert handle(**changed) == {outcome: 1}


Step = tuple[int, str, frozenset[int]]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["claim", "confirm", "mark_uncertain", "mark_rejected", "release"]),
            st.frozensets(st.integers(0, 4), min_size=1),
        ),
        max_size=20,
    )
)
def test_whatever_instances_do_a_point_is_free_or_held_by_one_or_its_fate_is_known_to_all(
    server: RedisServer, steps: list[Step]
) -> None:
    server.command("FLUSHALL")
    everyone = [Instance(server).begin_large() for _ in range(3)]
    holder: dict[bytes, int] = {}
    known: dict[bytes, Claim] = {}

    def expected(who: int, identity: bytes) -> Claim:
        if identity in known:
            return known[identity]
        return Claim.OURS if holder.setdefault(identity, who) == who else Claim.HELD

    for who, verb, numbers in steps:
        identities = [bytes([number]) * 16 for number in sorted(numbers)]
        if verb == "claim":
            assert everyone[who].claim(identities) == [expected(who, identity) for identity in identities]
            continue
        if verb in ("mark_uncertain", "mark_rejected"):
            # Whoever may send a point has not been told that it arrived, or may have.
            surer = {Claim.DELIVERED} if verb == "mark_uncertain" else {Claim.DELIVERED, Claim.UNCERTAIN}
            identities = [identity for identity in identities if known.get(identity) not in surer]
            # What another one holds, it decides.
            identities = [identity for identity in identities if holder.get(identity, who) == who]
        if verb == "mark_rejected":
            everyone[who].mark_rejected(identities, REJECTION)
        else:
            getattr(everyone[who], verb)(identities)
        # Written by a thread of its own: asking for something else waits for it.
        everyone[who].claim([b"-" * 16 + bytes([who])])
        if verb == "release":
            for identity in identities:
                if holder.get(identity) == who:
                    del holder[identity]
        else:
            fates = {"mark_uncertain": Claim.UNCERTAIN, "mark_rejected": Claim.REJECTED}
            known.update(dict.fromkeys(identities, fates.get(verb, Claim.DELIVERED)))
    for claims in everyone:
        claims.close()
        assert claims.status == "redis"


# --- redeliveries ------------------------------------------------------------------------------------------


def let_pass(server: RedisServer, seconds: float) -> None:
    """Move every expiry so much nearer: the server's clock cannot be handed in."""
    with server.client() as client:
        for key in client.scan_iter():
            left_ms = client.pttl(key) - round(seconds * 1000)
            client.pexpire(key, max(left_ms, 0))


@pytest.mark.slow
@pytest.mark.parametrize("instances", [1, 2], ids=["one instance", "two by turns"])
@pytest.mark.parametrize("uncertain", ["resend", "hold"])
def test_redeliveries_for_hours_send_no_point_twice(
    server: RedisServer, instances: int, uncertain: str
) -> None:
    server.command("FLUSHALL")
    event = ckafka(point(1, namespace="x"), point(2, namespace="y"))
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    receiver.refuse_if = lambda request: ReturnCode.INTERNAL_FAILURE if request.namespace == "y" else None
    settings_ = environ(DEDUPE=server.url(), MAX_ATTEMPTS="1", CONCURRENCY="1", UNCERTAIN=uncertain)
    applications = [Application(settings_, clock, lambda: receiver) for _ in range(instances)]
    if uncertain == "hold":

        def lose_the_answer(request: HttpRequest) -> Failure:
            receiver.process(request)
            return Failure(Fault.UNANSWERED, "timeout")

        receiver.script.append(lose_the_answer)
    told = [outcomes(report_of(applications[0], event))]
    for turn in range(1, 40):
        clock.sleep(60)
        let_pass(server, 60)
        told.append(outcomes(report_of(applications[turn % instances], event)))
    first, again = ("delivered", "duplicate") if uncertain == "resend" else ("uncertain", "uncertain")
    assert told == [{first: 1, "undelivered": 1}] + [{again: 1, "undelivered": 1}] * 39
    assert values(receiver.points) == [1]


def test_what_one_instance_alone_is_asked_about_is_remembered_for_all(server: RedisServer) -> None:
    """Its memory answers, without Redis: the window begins anew there too."""
    server.command("FLUSHALL")
    one = Instance(server)
    one.deliver(X)
    claims = one.begin()
    claims.claim([Y])
    claims.mark_uncertain([Y])
    claims.close()
    for _ in range(20):
        let_pass(server, 60)
        claims = one.begin()
        assert claims.claim([X, Y]) == [Claim.DELIVERED, Claim.UNCERTAIN]
        claims.close()
    assert Instance(server).begin().claim([X, Y]) == [Claim.DELIVERED, Claim.UNCERTAIN]


def test_a_window_restarts_for_any_instance_that_claims_the_point(server: RedisServer) -> None:
    server.command("FLUSHALL")
    Instance(server).deliver(X)
    claims = Instance(server).begin()
    claims.claim([Y])
    claims.mark_uncertain([Y])
    claims.close()
    for _ in range(20):
        let_pass(server, 60)
        assert Instance(server).begin().claim([X, Y]) == [Claim.DELIVERED, Claim.UNCERTAIN]


def test_uncertain_points_are_written_again_to_a_redis_that_lost_them(server: RedisServer) -> None:
    one = Instance(server)
    claims = one.begin()
    claims.claim([X])
    claims.mark_uncertain([X])
    claims.close()
    server.command("FLUSHALL")
    claims = one.begin()
    assert claims.claim([X]) == [Claim.UNCERTAIN]
    claims.close()
    assert Instance(server).begin().claim([X]) == [Claim.UNCERTAIN]


def test_what_another_instance_delivered_is_not_made_uncertain(instance: Callable[[], Instance]) -> None:
    slow, fast = instance().begin(), instance()
    slow.claim([X])
    fast.deliver(X)
    slow.mark_uncertain([X])
    slow.close()
    assert instance().begin().claim([X]) == [Claim.DELIVERED]


def test_no_instance_can_release_an_uncertain_point(instance: Callable[[], Instance]) -> None:
    claims = instance().begin()
    claims.claim([X])
    claims.mark_uncertain([X])
    claims.release([X])
    claims.close()
    assert instance().begin().claim([X]) == [Claim.UNCERTAIN]


# --- rejections --------------------------------------------------------------------------------------------


def reject(instance: Instance, *identities: bytes, why: KnownRejection = REJECTION) -> None:
    claims = instance.begin()
    claims.claim(identities)
    claims.mark_rejected(identities, why)
    claims.close()
    assert claims.status == "redis"


def test_what_one_instance_was_refused_every_other_knows_with_its_code(
    instance: Callable[[], Instance],
) -> None:
    reject(instance(), X)
    claims = instance().begin()
    assert claims.claim([Y, X]) == [Claim.OURS, Claim.REJECTED]
    assert claims.rejection(X) == KnownRejection("1019", 1019)


@pytest.mark.parametrize("why", [KnownRejection("out of order", 400), KnownRejection("http 413", 413), KnownRejection("é\n" * 99, None)])  # fmt: skip
def test_a_rejection_is_kept_as_a_short_label_and_read_again(
    instance: Callable[[], Instance], server: RedisServer, why: KnownRejection
) -> None:
    reject(instance(), X, why=why)
    assert len(server.command("GET", key_prefix(FUNCTION) + X)) <= 12 + 8 + 64
    claims = instance().begin()
    assert claims.claim([X]) == [Claim.REJECTED]
    told = claims.rejection(X)
    assert (told.code, told.label[:10]) == (why.code, why.label.replace("\n", " ").replace("é", "?")[:10])


def test_the_instance_that_received_a_rejection_reports_its_reason_in_full(
    instance: Callable[[], Instance],
) -> None:
    one = instance()
    reject(one, X)
    claims = one.begin()
    assert (claims.claim([X]), claims.rejection(X)) == ([Claim.REJECTED], REJECTION)


def test_a_rejection_is_not_prolonged_by_being_met_again(
    instance: Callable[[], Instance], server: RedisServer
) -> None:
    reject(instance(), X)
    for _ in range(9):
        let_pass(server, 60)
        assert instance().begin().claim([X]) == [Claim.REJECTED]
    let_pass(server, 60)
    assert instance().begin().claim([X]) == [Claim.OURS]


def test_a_rejected_point_that_another_instance_delivered_since_is_a_duplicate(
    instance: Callable[[], Instance],
) -> None:
    one = instance()
    reject(one, X)
    other = instance().begin()
    other.confirm([X])
    other.close()
    assert one.begin().claim([X]) == [Claim.DELIVERED]


def test_a_rejection_makes_neither_delivered_nor_uncertain_undone(
    server: RedisServer, instance: Callable[[], Instance]
) -> None:
    slow = instance().begin()
    slow.claim([X, Y])
    server.command("DEL", event_key(server))
    other = instance().begin()
    other.claim([X, Y])
    other.confirm([X])
    other.mark_uncertain([Y])
    other.close()
    slow.mark_rejected([X, Y], REJECTION)
    slow.close()
    assert instance().begin().claim([X, Y]) == [Claim.DELIVERED, Claim.UNCERTAIN]


def test_while_redis_is_away_an_instance_knows_its_own_rejections(redis_server: RedisServer) -> None:
    one = Instance(redis_server)
    reject(one, X)
    redis_server.stop()
    claims = one.begin()
    assert (claims.claim([X, Y]), claims.status) == ([Claim.REJECTED, Claim.OURS], "degraded")


def test_no_token_is_taken_for_a_rejection_and_no_rejection_for_delivered(server: RedisServer) -> None:
    """A token is 8 random bytes; and what another version writes must never count as delivered."""
    server.command("FLUSHALL")
    for value in (b"refused:", b"!", b"2", b"", b"delivered", b"refuse:1019 1019", os.urandom(8)):
        server.command("SET", key_prefix(FUNCTION) + X, value)
        assert Instance(server).begin().claim([X]) == [Claim.HELD]


def test_an_instance_of_the_version_before_takes_a_rejection_for_a_lease_and_sends_nothing(
    server: RedisServer, instance: Callable[[], Instance]
) -> None:
    reject(instance(), X)
    script = (
        "local held = redis.call('GET', KEYS[1]) if held == '1' or held == '?' then return held end "
        "if held == ARGV[1] then return 'o' end return 'h'"
    )
    assert server.command("EVAL", script, 1, key_prefix(FUNCTION) + X, b"a token!") == b"h"


# --- cost --------------------------------------------------------------------------------------------------


def test_confirmations_that_come_together_are_written_together(
    server: RedisServer, instance: Callable[[], Instance]
) -> None:
    one = instance()
    one.deliver(X)
    claims = one.begin()
    claims.claim([Y])
    before = one.runs
    with server.client() as client:
        client.client_pause(100)
        for number in range(200):
            claims.confirm([number.to_bytes(16, "big")])
        claims.close()
    assert one.runs - before <= 3
    assert claims.status == "redis"


@pytest.mark.slow
def test_a_remembered_point_takes_at_most_160_bytes_of_redis(
    server: RedisServer, instance: Callable[[], Instance], record_property: Callable[[str, object], None]
) -> None:
    identities = [number.to_bytes(16, "big") for number in range(100_000)]
    one = instance()
    with server.client() as client:
        before = client.info("memory")["used_memory"]
        for start in range(0, 100_000, 5000):
            assert one.deliver(*identities[start : start + 5000]) == "redis"
        of_events = 20 * (1 + 5000 // PART)
        assert client.dbsize() == 100_000 + of_events
        taken = (client.info("memory")["used_memory"] - before) / 100_000
        usage = client.memory_usage(key_prefix(FUNCTION) + identities[0])
    server.command("FLUSHALL")
    record_property("bytes a point", round(taken))
    record_property("MEMORY USAGE", usage)
    assert taken <= 160
    assert usage is not None
    assert usage <= 160


# --- waiting for what another instance holds ---------------------------------------------------------------


class EventfulClock(FakeClock):
    """Things happen while somebody sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.next: list[Callable[[], Any]] = []

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if seconds > 0 and self.next:
            self.next.pop(0)()


class Other:
    """Another instance, busy with the same event: it stops at its first request until told to go on."""

    def __init__(self, server: RedisServer, event: Any) -> None:
        self.clock = FakeClock()
        self.receiver = InProcessReceiver(self.clock)
        self._begun, self._go_on = threading.Event(), threading.Event()
        self._application = Application(environ(DEDUPE=server.url()), self.clock, lambda: self)
        self._event = event
        self._thread = threading.Thread(target=self._handle)
        self._thread.start()
        assert self._begun.wait(30)

    def send(self, request: Any, timeout_s: float) -> Any:
        self._begun.set()
        assert self._go_on.wait(30)
        return self.receiver.send(request, timeout_s)

    def finish(self, code: ReturnCode | None = None) -> None:
        """Let it get its answer, and wait until its event is over."""
        self.receiver.script.append(code)
        self._go_on.set()
        self._thread.join()

    def _handle(self) -> None:
        self.report = report_of(self._application, self._event)


def _harness(server: RedisServer) -> tuple[Harness, EventfulClock]:
    server.command("FLUSHALL")
    clock = EventfulClock()
    receiver = InProcessReceiver(clock)
    application = Application(environ(DEDUPE=server.url(), MAX_ATTEMPTS="1"), clock, lambda: receiver)
    return Harness(application, receiver, clock), clock


SHARED = ckafka(point(1), point(2))
OVERLAPPING = ckafka(point(1), point(2), point(3, "other"))


def test_what_another_instance_delivers_while_one_waits_is_a_duplicate(server: RedisServer) -> None:
    harness, clock = _harness(server)
    other = Other(server, SHARED)
    clock.next = [lambda: None, other.finish]
    assert outcomes(harness.handle(OVERLAPPING)) == {"delivered": 1, "duplicate": 2}
    assert values(other.receiver.points + harness.receiver.points) == [1, 2, 3]


def test_what_another_instance_releases_while_one_waits_is_sent(server: RedisServer) -> None:
    harness, clock = _harness(server)
    other = Other(server, SHARED)
    clock.next = [lambda: other.finish(ReturnCode.CLIENT_BLOCKED)]
    report = harness.handle(OVERLAPPING)
    assert outcomes(report) == {"delivered": 3}
    assert report["requests"] == {"sent": 2, "retried": 0, "returnCodes": {"0": 2}}
    assert outcomes(other.report) == {"undelivered": 2}


def test_free_points_are_sent_before_anyone_waits(server: RedisServer) -> None:
    harness, clock = _harness(server)
    other = Other(server, SHARED)
    seen: list[list[Any]] = []
    clock.next = [lambda: seen.append(values(harness.receiver.points)), other.finish]
    harness.handle(OVERLAPPING)
    assert seen == [[3]]


def test_no_point_passes_one_of_its_series_that_another_instance_is_sending(server: RedisServer) -> None:
    harness, clock = _harness(server)
    other = Other(server, SHARED)
    seen: list[list[Any]] = []
    clock.next = [lambda: seen.append(values(harness.receiver.points)), other.finish]
    report = harness.handle(ckafka(point(1), point(2), point(3)))
    assert outcomes(report) == {"delivered": 1, "duplicate": 2}
    assert seen == [[]]


def test_what_stays_held_until_the_deadline_is_undelivered_and_says_why(server: RedisServer) -> None:
    harness, clock = _harness(server)
    other = Other(server, SHARED)
    report = harness.handle(OVERLAPPING, time_limit_ms=10_000)
    other.finish()
    assert outcomes(report) == {"delivered": 1, "undelivered": 2}
    assert {(error["outcome"], error["rule"]) for error in report["errors"]} == {("undelivered", "held")}
    assert "another instance" in report["errors"][0]["message"]
    assert clock.monotonic() <= 9.0
    assert len(clock.slept) < 30
    assert outcomes(harness.handle(OVERLAPPING)) == {"duplicate": 3}


def test_points_two_instances_pass_on_to_each_other_are_sent_once_by_each_at_most(
    server: RedisServer,
) -> None:
    """Both are refused for good: neither sends again within its event, so the points do not go to and fro."""
    harness, clock = _harness(server)
    other = Other(server, SHARED)
    clock.next = [lambda: other.finish(ReturnCode.CLIENT_BLOCKED)]
    harness.receiver.script.extend([None, ReturnCode.CLIENT_BLOCKED])
    report = harness.handle(OVERLAPPING)
    assert outcomes(report) == {"delivered": 1, "undelivered": 2}
    assert len(harness.receiver.requests) == 2


def test_a_free_point_waits_for_an_earlier_one_of_its_series_that_is_held(server: RedisServer) -> None:
    harness, clock = _harness(server)
    other = Other(server, SHARED)
    sent: list[Any] = []
    clock.next = [lambda: sent.extend(harness.receiver.points), other.finish]
    assert outcomes(harness.handle(ckafka(point(1), point(2), point(3)))) == {"delivered": 1, "duplicate": 2}
    assert sent == []


def test_a_point_that_waited_for_an_earlier_one_is_sent_before_the_later_ones(server: RedisServer) -> None:
    """Of three points of a series, another instance holds the first and the last."""
    first, second, third = (point(number, id=f"{number}") for number in (1, 2, 3))
    harness, clock = _harness(server)
    other = Other(server, ckafka(first, third))
    clock.next = [lambda: other.finish(ReturnCode.CLIENT_BLOCKED)]
    assert outcomes(harness.handle(ckafka(first, second, third))) == {"delivered": 3}
    assert values(harness.receiver.points) == [1, 2, 3]


def test_points_without_an_identity_never_wait(server: RedisServer) -> None:
    harness, clock = _harness(server)
    assert outcomes(harness.handle([point(1), point(1)])) == {"delivered": 2}
    assert sum(clock.slept) == 0


# --- failures ----------------------------------------------------------------------------------------------


def _refuse_connections(server: RedisServer) -> None:
    server.stop()


def _hang(server: RedisServer) -> None:
    server.freeze()


def _fill_up(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "maxmemory", "1")


def _become_a_replica(server: RedisServer) -> None:
    server.command("REPLICAOF", "127.0.0.1", "1")


def _change_the_password(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "requirepass", "another")
    with redis.Redis(port=server.port, password="another", protocol=2) as client:
        client.client_kill_filter(_type="normal", skipme=True)


def _store_something_else(server: RedisServer) -> None:
    server.command("RPUSH", key_prefix(FUNCTION) + X, "a list")


def _load(server: RedisServer) -> None:
    # Redis answers while it loads only every 2 MB.
    with server.client() as client:
        for number in range(60):
            client.set(f"key {number}", os.urandom(1_000_000))
        client.save()
    server.stop()
    server.start("--key-load-delay", "20000")


FAILURES: dict[str, tuple[Callable[[RedisServer], None], str]] = {
    "connection refused": (_refuse_connections, "no connection"),
    "a hang": (_hang, "did not answer in time"),
    "out of memory": (_fill_up, "full"),
    "a read-only replica": (_become_a_replica, "replica"),
    "a changed password": (_change_the_password, "refused user and password"),
    "a key of another type": (_store_something_else, "WRONGTYPE"),
    "loading": (_load, "loading"),
}


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_a_redis_that_fails_is_replaced_by_memory_for_the_event_and_never_in_the_way(
    redis_server: RedisServer, failure: str, *, warm: bool
) -> None:
    cause, reason = FAILURES[failure]
    one = Instance(redis_server)
    if warm:
        assert one.deliver(Z) == "redis"
    cause(redis_server)
    claims = one.begin()
    with ends_within(TIMEOUTS_S[0] + 0.25):
        assert claims.claim([X, Y]) == [Claim.OURS, Claim.OURS]
        claims.confirm([X])
        claims.release([Y])
        claims.close()
    assert claims.status == "degraded"
    (warning,) = one.warnings
    assert reason in warning
    assert PASSWORD not in warning
    assert one.begin().claim([X, Y]) == [Claim.DELIVERED, Claim.OURS]


def test_a_node_of_a_cluster_that_does_not_hold_the_slot_degrades(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--cluster-enabled", "yes") as node:
        one = Instance(node)
        assert one.deliver(X) == "degraded"
        assert "proxy" in one.warnings[0]


@pytest.mark.slow
def test_all_keys_of_a_function_are_in_one_slot_so_that_a_cluster_takes_the_scripts(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--cluster-enabled", "yes") as node:
        node.command("CLUSTER", "ADDSLOTS", *range(16384))
        while "cluster_state:ok" not in str(node.command("CLUSTER", "INFO")):
            time.sleep(0.02)
        claims = Instance(node).begin()
        points = [number.to_bytes(16, "big") for number in range(500)]
        assert set(claims.claim(points)) == {Claim.OURS}
        claims.confirm(points[:1])
        claims.release(points[1:2])
        claims.close()
        assert claims.status == "redis"
        assert Instance(node).begin().claim(points[:3]) == [Claim.DELIVERED, Claim.OURS, Claim.HELD]


def test_a_broken_connection_is_replaced_once_in_silence(redis_server: RedisServer) -> None:
    one = Instance(redis_server)
    one.deliver(X)
    claims = one.begin()
    claims.claim([Y])
    redis_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    claims.confirm([Y])
    claims.close()
    assert (claims.status, one.warnings) == ("redis", [])
    assert Instance(redis_server).begin().claim([X, Y]) == [Claim.DELIVERED, Claim.DELIVERED]


def test_a_connection_that_breaks_in_the_middle_of_a_claim_is_replaced_once_in_silence(
    redis_server: RedisServer,
) -> None:
    with Proxy(redis_server.port) as proxy:
        one = Instance(redis_server, url=_through(proxy))
        one.deliver(X)
        proxy.cut_next = True
        assert one.deliver(Y) == "redis"
        assert (proxy.accepted, one.warnings) == (2, [])
    assert Instance(redis_server).begin().claim([Y]) == [Claim.DELIVERED]


def test_a_connection_is_replaced_once_in_an_event_and_not_again(redis_server: RedisServer) -> None:
    with Proxy(redis_server.port) as proxy:
        one = Instance(redis_server, url=_through(proxy))
        claims = one.begin()
        claims.claim([X])
        for identity in (Y, Z):
            proxy.cut_next = True
            claims.claim([identity])
        assert (claims.status, proxy.accepted) == ("degraded", 2)


def test_a_failover_in_the_middle_of_an_event_is_followed_to_the_new_master(
    redis_server: RedisServer, server: RedisServer
) -> None:
    server.command("FLUSHALL")
    with Proxy(redis_server.port) as proxy:
        one = Instance(redis_server, url=_through(proxy))
        claims = one.begin_large()
        claims.claim([X])
        redis_server.command("REPLICAOF", "127.0.0.1", "1")
        proxy.target = server.port
        claims.confirm([X])
        claims.close()
        assert (claims.status, one.warnings) == ("redis", [])
    assert Instance(server).begin().claim([X]) == [Claim.DELIVERED]


def _through(proxy: Proxy) -> str:
    return f"redis://:{PASSWORD_IN_URL}@127.0.0.1:{proxy.port}"


def test_a_connection_idle_for_long_is_not_trusted(redis_server: RedisServer) -> None:
    one = Instance(redis_server)
    one.deliver(X)
    clients = redis_server.command("CLIENT", "LIST", "TYPE", "normal")
    one.clock.sleep(IDLE_S + 1)
    one.deliver(Y)
    assert _addresses(clients).isdisjoint(
        _addresses(redis_server.command("CLIENT", "LIST", "TYPE", "normal"))
    )


def _addresses(clients: Any) -> set[str]:
    text = clients.decode() if isinstance(clients, bytes) else str(clients)
    return {word for word in text.split() if word.startswith("id=")}


def test_scripts_are_sent_again_to_a_server_that_lost_them(redis_server: RedisServer) -> None:
    one = Instance(redis_server)
    one.deliver(X)
    redis_server.command("SCRIPT", "FLUSH")
    assert one.deliver(Y) == "redis"


@pytest.mark.slow
def test_a_dead_redis_costs_one_timeout_until_it_has_rested(redis_server: RedisServer) -> None:
    one = Instance(redis_server)
    one.deliver(X)
    redis_server.freeze()
    assert one.deliver(Y) == "degraded"
    with ends_within(TIMEOUTS_S[0] / 2):
        assert [one.deliver(bytes([number]) * 16) for number in range(100)] == ["degraded"] * 100
    assert len(one.warnings) == 1
    redis_server.thaw()
    assert one.deliver(Z) == "degraded"
    one.clock.sleep(REST_S)
    assert one.deliver(Z) == "redis"


@pytest.mark.slow
def test_what_could_not_be_written_is_known_to_this_instance_at_least(redis_server: RedisServer) -> None:
    one = Instance(redis_server)
    claims = one.begin()
    claims.claim([X])
    redis_server.freeze()
    claims.confirm([X])
    claims.close()
    redis_server.thaw()
    assert claims.status == "degraded"
    one.clock.sleep(REST_S)
    claims = one.begin()
    assert claims.claim([X, Y]) == [Claim.DELIVERED, Claim.OURS]
    assert claims.status == "redis"


@pytest.mark.slow
@pytest.mark.parametrize(("within_s", "at_most_s"), [(60, 0.75), (2, 0.35), (0.6, 0.2), (0, 0.2)])
def test_a_hanging_redis_gets_less_time_if_less_is_left(
    redis_server: RedisServer, within_s: float, at_most_s: float
) -> None:
    redis_server.freeze()

    def took_s() -> float:
        claims = Instance(redis_server).begin(within_s)
        started = time.monotonic()
        claims.claim([X])
        claims.close()
        return time.monotonic() - started

    # A busy machine only ever adds to it.
    assert any(took_s() < at_most_s for _ in range(50))


def test_a_confirmation_does_not_wait_for_a_hanging_redis(redis_server: RedisServer) -> None:
    events = [Instance(redis_server).begin() for _ in range(20)]
    redis_server.freeze()
    with ends_within(5):
        for claims in events:
            for number in range(5):
                claims.confirm([bytes([number]) * 16])
        # To wait for the frozen server would take its time-out, 0.5 s, with each of them.
    redis_server.thaw()
    for claims in events:
        claims.close()


def test_without_a_thread_for_redis_memory_does(server: RedisServer, starve: Callable[[], None]) -> None:
    one = Instance(server)
    starve()
    assert one.deliver(X) == "degraded"
    assert "no thread" in one.warnings[0]
    assert one.begin().claim([X, Y]) == [Claim.DELIVERED, Claim.OURS]


def test_an_event_tells_of_a_failed_redis_in_its_report_and_once_in_the_log(
    redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    redis_server.stop()
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    application = Application(environ(DEDUPE=redis_server.url()), clock, lambda: receiver)
    report = report_of(application, SHARED)
    assert (report["dedupe"], outcomes(report)) == ("degraded", {"delivered": 2})
    lines = capsys.readouterr().out.splitlines()
    (warning,) = [line for line in lines if '"event":"dedupe"' in line and '"level":"WARN"' in line]
    assert "duplicates are recognised only by this instance's memory" in warning
    assert not any(PASSWORD in line or PASSWORD_IN_URL in line for line in lines)
    assert outcomes(report_of(application, SHARED)) == {"duplicate": 2}


@pytest.mark.slow
def test_an_event_whose_confirmations_could_not_be_written_says_degraded(redis_server: RedisServer) -> None:
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    application = Application(environ(DEDUPE=redis_server.url()), clock, lambda: receiver)

    def freeze_and_answer(request: HttpRequest) -> HttpReply:
        redis_server.freeze()
        return receiver.process(request)

    receiver.script.append(freeze_and_answer)
    report = report_of(application, SHARED)
    assert (report["dedupe"], outcomes(report)) == ("degraded", {"delivered": 2})


# --- who may do what ---------------------------------------------------------------------------------------


def test_an_acl_user_needs_only_what_the_documentation_names(redis_server: RedisServer) -> None:
    redis_server.command(
        "ACL", "SETUSER", "forwarder", "on", ">s3cret", "~mf:*", "-@all", *["+auth", "+select", "+ping", "+time", "+eval", "+evalsha", "+get", "+set", "+del"]
    )  # fmt: skip
    url = f"redis://forwarder:s3cret@127.0.0.1:{redis_server.port}/1"
    one = Instance(redis_server, url=url)
    claims = one.begin()
    claims.claim([X, Y])
    claims.confirm([X])
    claims.release([Y])
    claims.close()
    assert (claims.status, one.warnings) == ("redis", [])
    assert [finding.ok for finding in check_redis(parse_redis_url(url), machine_of(FakeClock()))] == [True]


def test_the_error_for_an_acl_user_names_the_rights_that_it_lacks(redis_server: RedisServer) -> None:
    redis_server.command("ACL", "SETUSER", "nobody", "on", ">s3cret", "~other:*", "+@all")
    one = Instance(redis_server, url=f"redis://nobody:s3cret@127.0.0.1:{redis_server.port}")
    assert one.deliver(X) == "degraded"
    assert "allow" in one.warnings[0]


# --- the check ---------------------------------------------------------------------------------------------


def test_the_check_finds_a_good_redis_good(redis_server: RedisServer) -> None:
    findings = check_redis(parse_redis_url(redis_server.url()), machine_of(FakeClock()))
    assert all(finding.ok for finding in findings)
    assert [finding.seen for finding in findings][1].startswith("Redis ")


@pytest.mark.parametrize(
    ("round_trips_ms", "told"),
    [
        pytest.param([30], ["a round trip takes 30 ms"], id="far away"),
        pytest.param([300, 300, 1, 300], [], id="on a busy machine"),
    ],
)
def test_the_check_warns_of_a_redis_that_is_far_away_and_not_of_a_busy_machine(
    redis_server: RedisServer, round_trips_ms: list[int], told: list[str]
) -> None:
    class Watch(FakeClock):
        """Each time it is looked at again, a round trip has passed."""

        def monotonic(self) -> float:
            self.sleep(next(passed))
            return super().monotonic()

    passed = (part for took_ms in cycle(round_trips_ms) for part in (0, took_ms / 1000))
    findings = check_redis(parse_redis_url(redis_server.url()), machine_of(Watch()))
    assert [finding.seen for finding in findings if not finding.ok] == told


@pytest.mark.slow
@pytest.mark.parametrize("failure", [name for name in FAILURES if name != "a key of another type"])
def test_the_check_says_what_is_wrong_and_what_to_do(redis_server: RedisServer, failure: str) -> None:
    cause, reason = FAILURES[failure]
    cause(redis_server)
    timeout_s = 0.2 if failure == "a hang" else 20
    findings = check_redis(parse_redis_url(redis_server.url()), machine_of(FakeClock()), timeout_s=timeout_s)
    wrong = [finding for finding in findings if not finding.ok]
    assert len(wrong) == 1
    assert reason in wrong[0].seen
    assert wrong[0].remedy
    assert PASSWORD not in str(wrong)


def test_the_check_warns_of_a_redis_that_forgets_early(redis_server: RedisServer) -> None:
    redis_server.command("CONFIG", "SET", "maxmemory", "100mb")
    redis_server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    (wrong,) = [
        finding
        for finding in check_redis(parse_redis_url(redis_server.url()), machine_of(FakeClock()))
        if not finding.ok
    ]
    assert "allkeys-lru" in wrong.seen
