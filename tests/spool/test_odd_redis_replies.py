"""A spool in Redis believes no reply that makes no sense: it says so, and raises nothing else."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from metric_forwarder.clients.redis import NOT_REDIS, Script
from metric_forwarder.settings.redis_address import RedisAddress, parse_redis_url
from metric_forwarder.spool.redis import RedisSpool
from metric_forwarder.spool.store import SpoolError, SpoolRecord
from support.fakes import FakeClock, machine_of
from world.redis_model import RedisModel

RECORDS = [SpoolRecord({"row": row}, "s", f"place {row}", row, "undelivered", "") for row in range(3)]


class Link:
    """A connection; one question does not arrive, and its reply is an odd one."""

    timeout_s = 1.0

    def __init__(self, model: RedisModel, number: int = 0, reply: Any = None) -> None:
        self._model = model
        self._reply = reply
        self.left = number

    def run(self, script: Script, keys: Sequence[bytes], *arguments: bytes | int) -> Any:
        self.left -= 1
        return self._model.run(script, keys, *arguments) if self.left else self._reply

    def close(self) -> None:
        """The next question gets a new connection."""


def replay(spool: RedisSpool) -> None:
    for chunk in spool.replay(dead_letters=True):
        chunk.acknowledge([message.receipt for message in chunk.messages if message.receipt is not None])
        chunk.close()


STEPS: list[Callable[[RedisSpool], object]] = [
    lambda spool: spool.write(RECORDS, RECORDS),
    lambda spool: spool.waiting(dead_letters=True),
    lambda spool: spool.measure(),
    replay,
    lambda spool: spool.write(RECORDS, ()),
    replay,
]


@pytest.mark.parametrize(
    "reply",
    [None, -1, b"", b"x", "text", [], {}, [b"x"], [None], [[b"1-0"]], [[b"1-0", b"r"]], [[1, [b"r", b"{}"]]],
     [b"1", b"1-0"], [1, b"x-y"], [1, None], [[b"1-0", [b"r"]]], [[b"1-0", [b"q", b"x"]]]],
)  # fmt: skip
def test_an_odd_reply_ends_the_use_of_the_spool_and_never_the_event(reply: object) -> None:
    said: set[str] = set()
    for number in itertools.count(1):
        link = Link(RedisModel(lambda: FakeClock().time() * 1000), number, reply)
        for step in STEPS:
            try:
                step(spool_on(link))
            except SpoolError as error:
                said.add(str(error))
        if link.left > 0:
            assert number > 15
            break
    assert said
    assert any(NOT_REDIS in text for text in said) or reply in ([], -1)


@pytest.mark.parametrize("reply", [[], [b"1-0"], [b"1-0", b"1-1"], None, b"OK"])
def test_a_write_that_was_not_answered_as_a_redis_does_is_not_believed(reply: object) -> None:
    for number in range(2, 4):
        model = RedisModel(lambda: FakeClock().time() * 1000)
        with pytest.raises(SpoolError):
            spool_on(Link(model, number, reply)).write(RECORDS, RECORDS)
        assert spool_on(Link(model)).waiting(dead_letters=True) == 0


def spool_on(link: Link) -> RedisSpool:
    def connect(_address: RedisAddress, _timeout_s: float, _most_bytes: int) -> Link:
        return link

    return RedisSpool(
        parse_redis_url("redis://redis.test"), b"mf:d{x}", machine=machine_of(FakeClock()), connect=connect
    )
