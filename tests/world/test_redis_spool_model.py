"""The spool in Redis keeps its promises whichever of its questions gets no answer, and wherever its process is killed."""

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from metric_forwarder.clients.redis import Script, explain
from metric_forwarder.machine import Machine, Threads
from metric_forwarder.settings.redis_address import RedisAddress, parse_redis_url
from metric_forwarder.spool.redis import RedisSpool
from metric_forwarder.spool.store import SpoolRecord
from support.fakes import FakeClock
from world.redis_model import RedisModel
from world.test_disk import CountedChance, Killed, Told, rows_left, work_on

_STEPS = [(3, 1, 0), (0, 0, 2), (0, 0, 1), (1, 0, 0), (0, 0, 3), (2, 0, 0)]


class Link:
    """A connection that fails at the so-manieth question: before it arrives, or after it was answered."""

    timeout_s = 1.0

    def __init__(self, model: RedisModel, number: int, kind: str) -> None:
        self._model = model
        self._left = number
        self._kind = kind

    @property
    def is_over(self) -> bool:
        return self._left <= 0

    def run(self, script: Script, keys: Sequence[bytes], *arguments: bytes | int) -> Any:
        if self.is_over and self._kind.startswith("killed"):
            # What a dead process does on its way out has no effect.
            return None
        self._left -= 1
        if self._left or self._kind.endswith("after"):
            reply = self._model.run(script, keys, *arguments)
        if not self._left:
            self._fail()
        return reply

    def _fail(self) -> None:
        if self._kind.startswith("killed"):
            raise Killed
        raise explain(redis.TimeoutError() if self._kind.startswith("late") else redis.ConnectionError())

    def close(self) -> None:
        """The next question gets a new connection."""


@pytest.mark.parametrize(
    "kind", [f"{what} {when}" for what in ("reset", "late", "killed") for when in ("before", "after")]
)
def test_whichever_question_fails_nothing_is_lost_and_nothing_comes_back(kind: str) -> None:
    undisturbed = Told()
    work_on(_spool(Link(RedisModel(FakeClock().time), 0, ""), FakeClock()), _STEPS, undisturbed)
    assert undisturbed.acknowledged == set(range(5))
    for number in itertools.count(1):
        clock = FakeClock()
        model = RedisModel(lambda: clock.time() * 1000)  # noqa: B023 - used in this turn only
        link, told = Link(model, number, kind), Told()
        with contextlib.suppress(Killed):
            work_on(_spool(link, clock), _STEPS, told)
        assert not kind.startswith("reset") or told == undisturbed, "a connection that broke is replaced"
        # The lease of a replay that was killed.
        clock.sleep(1000)
        told.check(rows_left(_spool(Link(model, 0, ""), clock)), may_return=False)
        if not link.is_over:
            assert number > 20
            break


def test_a_replay_goes_on_in_a_redis_whose_last_memory_its_lease_has_taken() -> None:
    clock = FakeClock()
    model = RedisModel(lambda: clock.time() * 1000)
    spool = _spool(Link(model, 0, ""), clock)
    spool.write([SpoolRecord({}, "s", None, None, "undelivered", "")], [])
    model.max_bytes = model.used()
    with contextlib.closing(spool.replay(dead_letters=False)) as chunks:
        assert [len(chunk.messages) for chunk in chunks] == [1]
    assert model.was_full


def _spool(link: Link, clock: FakeClock) -> RedisSpool:
    def connect(_address: RedisAddress, _timeout_s: float, _most_bytes: int) -> Link:
        return link

    machine = Machine(clock, Threads(), CountedChance())
    return RedisSpool(parse_redis_url("redis://redis.test"), b"mf:d{x}", machine=machine, connect=connect)
