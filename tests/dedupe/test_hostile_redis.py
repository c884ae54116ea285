"""A Redis that replies what no Redis would: the store degrades, within bounds, and raises nothing."""

import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_forwarder.clients.redis import MAX_REPLY_BYTES, RedisConnection, RedisUnavailable
from metric_forwarder.clock import Deadline
from metric_forwarder.dedupe.redis import REST_S, RedisStore
from metric_forwarder.dedupe.shared_pace import SharedPacer
from metric_forwarder.dedupe.store import Claim, MemoryStore
from metric_forwarder.delivery.pacing import Pacer
from metric_forwarder.machine import Threads
from metric_forwarder.settings.redis_address import RedisAddress, parse_redis_url
from support.fakes import FakeClock, machine_of
from support.tcp_server import listening

X, Y = b"x" * 16, b"y" * 16


@contextmanager
def replying(reply: Callable[[], Iterator[bytes]]) -> Iterator[int]:
    """A server that answers whatever it is sent with these pieces: its port."""

    def serve(connection: socket.socket) -> None:
        while connection.recv(65_536):
            for piece in reply():
                connection.sendall(piece)

    with listening(serve) as address:
        yield int(address.rpartition(":")[2])


def make_store(port: int, clock: FakeClock, warnings: list[str]) -> RedisStore:
    return RedisStore(
        parse_redis_url(f"redis://127.0.0.1:{port}"),
        function="f",
        window_s=600,
        memory=MemoryStore(600, clock.monotonic),
        machine=machine_of(clock),
        connect=RedisConnection,
        warn=warnings.append,
    )


def meet(reply: Callable[[], Iterator[bytes]]) -> tuple[Any, list[str]]:
    """Deal with such a server in one event: what was claimed and the status, and the warnings."""
    clock = FakeClock()
    warnings: list[str] = []
    with replying(reply) as port:
        claims = make_store(port, clock, warnings).begin(Deadline(clock, 60))
        claimed = claims.claim([X, Y])
        claims.confirm([X])
        claims.release([Y])
        claims.close()
        return (claimed, claims.status), warnings


def endless(piece: bytes) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        while True:
            yield piece

    return pieces


ODD_REPLIES = {
    "a number": b":5\r\n",
    "nothing": b"$-1\r\n",
    "a list": b"*1\r\n$1\r\no\r\n",
    "a nested list": b"*1\r\n" * 5_000 + b":1\r\n",
    "too few marks": b"$1\r\no\r\n",
    "too many marks": b"$3\r\nooo\r\n",
    "unknown marks": b"$2\r\nzz\r\n",
    "a rejection without its label": b"$2\r\nrr\r\n",
    "a label without a rejection": b"$6\r\noo\n101\r\n",
    "no protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a count of gigabytes": b"$99999999999\r\nx",
    "a list of billions": b"*4294967295\r\n",
    "a length that is no number": b"$many\r\n",
    "a negative length": b"$-7\r\n",
    "an error in no words": b"-\r\n",
    "an empty line": b"\r\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("reply", ODD_REPLIES.values(), ids=ODD_REPLIES)
def test_an_odd_reply_degrades_the_store_and_counts_nothing_as_delivered(reply: bytes) -> None:
    (claimed, status), warnings = meet(lambda: iter([reply]))
    assert claimed == [Claim.OURS, Claim.OURS]
    assert status == "degraded"
    assert len(warnings) == 1


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text)


ODD_PACES = {
    "a word more": bulk(b"free now"),
    "a wait of weeks": bulk(b"wait 99999999"),
    "a negative wait": bulk(b"wait -5"),
    "no gap": bulk(b"line 1 0 1 0 0"),
    "a number less": bulk(b"line 1 0 1 0"),
    "a fraction": bulk(b"line 1 0.5 1 0 20000"),
    "a moment in a day": bulk(b"line 1 0 1 86400000 20000"),
    "a line break": bulk(b"free\n"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "reply", [*ODD_REPLIES.values(), *ODD_PACES.values()], ids=[*ODD_REPLIES, *ODD_PACES]
)
def test_an_odd_reply_about_the_pace_degrades_the_store_and_the_instance_paces_itself(reply: bytes) -> None:
    clock, warnings = FakeClock(), list[str]()
    with replying(lambda: iter([reply])) as port:
        store = make_store(port, clock, warnings)
        claims = store.begin(Deadline(clock, 60))
        pacer = SharedPacer(Pacer(machine_of(clock)), store, "receiver", machine_of(clock))
        pacer.begin(60)
        assert pacer.reserve(60) == (0, True)
        assert pacer.refuse()
        turn = pacer.reserve(60)
        assert turn is not None
        assert 0 < turn.wait_s < 60
        claims.close()
    assert claims.status == "degraded"
    assert len(warnings) == 1


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40) | st.sampled_from([b"$", b"*", b":", b"-", b"+"]).flatmap(lambda kind: st.binary(max_size=20).map(lambda rest: kind + rest + b"\r\n")))  # fmt: skip
def test_no_bytes_make_the_store_raise(reply: bytes) -> None:
    (claimed, status), _ = meet(lambda: iter([reply or b"\r\n"]))
    assert status in {"redis", "degraded"}
    assert all(isinstance(claim, Claim) for claim in claimed)


@pytest.mark.slow
@pytest.mark.parametrize("piece", [b"x" * 65_536, b"*1\r\n" * 4_096, b"$5\r\nhello\r\n" * 4_096], ids=["a line", "depth", "a list"])  # fmt: skip
def test_an_endless_reply_is_given_up_within_bounds_of_memory(piece: bytes) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"*1000000000\r\n$99999999999\r\n" if piece[:1] == b"x" else b"*1000000000\r\n"
        yield from endless(piece)()

    tracemalloc.start()
    try:
        with replying(pieces) as port:
            connection = RedisConnection(parse_redis_url(f"redis://127.0.0.1:{port}"), 0.5)
            with pytest.raises(RedisUnavailable):
                connection.ping()
            connection.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * MAX_REPLY_BYTES


def test_too_many_clients_are_reported_as_such() -> None:
    _, (warning,) = meet(lambda: iter([b"-ERR max number of clients reached\r\n"]))
    assert "maxclients" in warning
    assert "VPC" not in warning


@pytest.mark.slow
def test_a_worker_that_is_stuck_is_the_only_one() -> None:
    """A name server that never answers holds a thread for as long as it likes."""
    clock = FakeClock()
    warnings: list[str] = []
    arrived, go_on = threading.Event(), threading.Event()

    def connect(address: RedisAddress, timeout_s: float, max_reply_bytes: int) -> RedisConnection:
        arrived.set()
        go_on.wait(30)
        return RedisConnection(address, timeout_s, max_reply_bytes)

    store = RedisStore(
        parse_redis_url("redis://127.0.0.1:1"),
        function="f",
        window_s=600,
        memory=MemoryStore(600, clock.monotonic),
        machine=machine_of(clock, tasks=Threads()),
        connect=connect,
        warn=warnings.append,
    )
    before = threading.active_count()
    for _ in range(5):
        claims = store.begin(Deadline(clock, clock.monotonic() + 0.5))
        assert claims.claim([X]) == [Claim.OURS]
        claims.close()
        assert claims.status == "degraded"
        clock.sleep(REST_S + 1)
    assert arrived.is_set()
    assert threading.active_count() - before <= 1
    go_on.set()
