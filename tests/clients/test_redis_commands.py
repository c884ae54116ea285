"""How commands to Redis are written, and the replies to many SET are read."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis._parsers import Encoder
from redis.connection import PythonRespSerializer

from metric_forwarder.clients.redis import (
    NOT_REDIS,
    RedisConnection,
    RedisUnavailable,
    SetEach,
)
from metric_forwarder.clients.redis_commands import CommandWriter
from metric_forwarder.settings.redis_address import parse_redis_url
from support.tcp_server import listening

options = st.text(st.characters(codec="utf-8"), max_size=20) | st.integers()
words = st.lists(st.binary(max_size=40) | options, max_size=30)
keys = st.lists(st.binary(min_size=30, max_size=30), max_size=30)


@given(words, keys)
def test_a_command_has_the_bytes_that_the_library_would_write(
    words: list[bytes | str | int], keys: list[bytes]
) -> None:
    command = ("EVALSHA", *keys, *words)
    assert b"".join(CommandWriter().pack(*command)) == as_the_library_writes(*command)


of_any_length = st.tuples(st.binary(max_size=40), st.binary(max_size=40))
of_one_length = st.tuples(st.binary(min_size=30, max_size=30), st.binary(min_size=12, max_size=12))


@given(st.lists(of_any_length, max_size=30) | st.lists(of_one_length, max_size=30), st.lists(options))
def test_each_of_many_sets_has_the_bytes_that_the_library_would_write(
    pairs: list[tuple[bytes, bytes]], words: list[str | int]
) -> None:
    written = b"".join(as_the_library_writes("SET", *pair, *words) for pair in pairs)
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    assert CommandWriter().pack_sets(keys, values, *words) == written


def as_the_library_writes(*command: bytes | str | int) -> bytes:
    library: Any = PythonRespSerializer(6000, Encoder("utf-8", "strict", decode_responses=False).encode)  # type: ignore[no-untyped-call]  # not annotated there
    return b"".join(library.pack(*command))


@pytest.mark.parametrize(
    ("replies", "letters"),
    [([b"+OK\r\n$-1\r\n+OK\r\n"], b"oho"), ([b"+", b"OK\r", b"\n$-1\r\n$-", b"1\r\n"], b"ohh")],
    ids=["at once", "in pieces"],
)
def test_many_keys_are_set_in_one_round_trip(replies: list[bytes], letters: bytes) -> None:
    with setting(3, replies) as connection:
        assert connection.run(SetEach("NX"), KEYS, 500, 1000, *VALUES) == letters


ERRORS = {
    "it is full": ([b"+OK\r\n-OOM command not allowed\r\n-OOM command not allowed\r\n"], "full"),
    "it is a replica": ([b"-READONLY You can't write\r\n" * 3], "replica"),
    "an error alone": ([b"-NOAUTH Authentication ", b"required.\r\n"], "password"),
    "a reply too many": ([b"+OK\r\n" * 4], NOT_REDIS),
    "a value": ([b"$1\r\no\r\n$-1\r\n"], NOT_REDIS),
    "no protocol": ([b"o\no\no\n"], NOT_REDIS),
    "letters": ([b"ooo\r\n\n\n"], NOT_REDIS),
    "the end": ([b"+OK\r\n+OK\r\n", b""], "broke"),
}


@pytest.mark.parametrize(("replies", "reason"), ERRORS.values(), ids=ERRORS)
def test_an_error_among_many_replies_is_said_and_the_rest_is_not_taken_for_the_next_reply(
    replies: list[bytes], reason: str
) -> None:
    with setting(3, replies) as connection:
        with pytest.raises(RedisUnavailable) as raised:
            connection.run(SetEach("NX"), KEYS, 500, 1000, *VALUES)
        assert reason in raised.value.reason
        connection.ping()


KEYS = [b"mf:a", b"mf:b", b"mf:c"]
VALUES = [b"1", b"2", b"3"]


@contextmanager
def setting(count: int, replies: list[bytes]) -> Iterator[RedisConnection]:
    """A connection to a server that replies to so many SET once it has all of them; it closes the connection after ``b""``."""

    def serve(connection: socket.socket) -> None:
        received = b""
        while piece := connection.recv(65_536):
            received += piece
            if received.endswith(b"PING\r\n"):
                connection.sendall(b"+PONG\r\n")
            elif received.count(b"SET\r\n") == count:
                received = b""
                for reply in replies:
                    if not reply:
                        connection.shutdown(socket.SHUT_RDWR)
                    connection.sendall(reply)
                    time.sleep(0.01)

    with listening(serve) as address:
        connection = RedisConnection(parse_redis_url(f"redis://{address}"), 0.5)
        yield connection
        connection.close()


def test_a_command_is_sent_in_one_piece() -> None:
    assert len(CommandWriter().pack("SET", b"key", b"x" * 100_000)) == 1
