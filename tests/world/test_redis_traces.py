"""What instances ask of Redis in the simulated world is asked of a real Redis and of the model: both give the same replies."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.clients.redis import Connect, Connection, RedisConnection, Script
from metric_forwarder.dedupe import redis_scripts as dedupe
from metric_forwarder.dedupe.shared_pace import PACE
from metric_forwarder.settings.redis_address import RedisAddress, parse_redis_url
from metric_forwarder.spool import redis as spool
from support.fakes import START
from support.redis_server import RedisServer
from world.campaign import run_seed
from world.pace_model import PACE_AT
from world.redis_model import RedisModel
from world.schedule import Deployment
from world.test_redis_model import Side

_SPOOL = vars(spool)
# The places of durations among the arguments. They are made longer, so that nothing expires while it is asked for.
_DURATIONS = {
    dedupe.CLAIM: (0, 1, 2),
    dedupe.LEASE: (0, 1),
    dedupe.CONFIRM: (0, 1),
    dedupe.REMEMBER: (1,),
    _SPOOL["_WRITE"]: (1,),
    _SPOOL["_LOCK"]: (1,),
}
_LONGER = 10_000
# With each of them some instances share a Redis.
_SEEDS = range(150)

_Call = tuple[Script, Sequence[bytes], Sequence[bytes | int]]


class Recorded:
    """A connection that keeps what it was asked, and what entries of streams are called in the world."""

    def __init__(self, connection: Connection, calls: list[_Call], ids: list[bytes]) -> None:
        self._connection = connection
        self._calls = calls
        self._ids = ids
        self.timeout_s = connection.timeout_s

    def run(self, script: Script, keys: Sequence[bytes], *arguments: bytes | int) -> Any:
        self._calls.append((script, keys, arguments))
        reply = self._connection.run(script, keys, *arguments)
        if script is _SPOOL["_WRITE"] and isinstance(reply, list):
            self._ids += reply
        return reply

    def close(self) -> None:
        self._connection.close()


class Recording(Deployment):
    """The function as it is; what it asks of Redis is recorded."""

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        self.ids: list[bytes] = []

    def connect(self, connect: Connect) -> Connect:
        def recorded(address: RedisAddress, timeout_s: float, most_bytes: int) -> Connection:
            return Recorded(connect(address, timeout_s, most_bytes), self.calls, self.ids)

        return recorded

    def steps(self) -> Iterator[_Call]:
        """The calls, with the number of an entry in place of its id, and with durations that do not end."""
        numbers: dict[Any, int] = {entry: number for number, entry in enumerate(self.ids)}
        for number, (script, keys, arguments) in enumerate(self.calls):
            if script is PACE:
                # Both sides are asked at the same moment.
                yield PACE_AT, keys, [*arguments, repr(START + number / 50).encode()]
                continue
            longer = _DURATIONS.get(script, ())
            yield script, keys, [
                each * _LONGER if place in longer and isinstance(each, int) else numbers.get(each, each)
                for place, each in enumerate(arguments)
            ]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(Path(tmp_path_factory.mktemp("redis"))) as running:
        yield running


@pytest.mark.slow
def test_a_real_redis_replies_to_the_instances_of_the_world_as_the_model_does(server: RedisServer) -> None:
    asked: set[Script] = set()
    client = server.client()
    for seed in _SEEDS:
        recording = Recording()
        run_seed(seed, recording)
        model = RedisModel(lambda: time.time() * 1000)
        real = RedisConnection(parse_redis_url(server.url()), 5.0)
        simulated, actual = Side(model.run), Side(real.run)
        for step in recording.steps():
            asked.add(step[0])
            # Ids are milliseconds: two streams whose entries have the same ones could not be told apart.
            time.sleep(0.002 if step[0] is _SPOOL["_WRITE"] else 0)
            assert simulated.run(step) == actual.run(step), (seed, step)
        assert model.keys() == sorted(client.scan_iter(count=1000)), seed
        client.flushall()
        real.close()
    client.close()
    assert {dedupe.LEASE, dedupe.CLAIM, dedupe.CONFIRM, dedupe.REMEMBER, dedupe.RELEASE, PACE_AT} <= asked
    assert {_SPOOL[name] for name in ("_WRITE", "_READ", "_LAST", "_DELETE", "_LOCK", "_UNLOCK")} <= asked
