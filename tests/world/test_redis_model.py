"""The model of Redis is held to a real one: the same scripts in the same order get the same replies and leave the same keys."""

import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metric_forwarder.clients.redis import RedisConnection, RedisUnavailable, Script
from metric_forwarder.dedupe import redis_scripts as dedupe
from metric_forwarder.settings.redis_address import parse_redis_url
from metric_forwarder.spool import redis as spool
from support.fakes import START
from support.redis_server import RedisServer
from world.pace_model import PACE_AT
from world.redis_model import RedisModel

# Far apart, so that a busy machine does not make one look like the other.
_LEASE_MS, _WINDOW_MS = 100_000_000, 10_000_000_000
_LATE_MS = 2 * _WINDOW_MS
_NAMES = st.sampled_from([b"one", b"two", b"three"])
_SOME = st.lists(_NAMES, min_size=1, max_size=3, unique=True)
_TOKENS = st.sampled_from([b"token--1", b"token--2"])
# The points that an event has leased have these places; the last is in another part of its record.
_PLACES = {b"one": 0, b"two": 7, b"three": 1001}
_PARTS = st.sampled_from([b"", b"1", b"0" * 7 + b"1", b"x1"])
_EVENTS = st.tuples(_TOKENS, _SOME)
_MARKS = st.sampled_from([b"?", b"refused:12 bad", b"refused:", b"refused: " + b"x" * 80])
_STREAMS = st.sampled_from([b"points", b"dead"])
_LINES = st.lists(st.sampled_from([b"a", b"{}", b"long" * 100, b""]), min_size=1, max_size=4)
# An entry of a stream: the so-many-th that was ever added, an end of the stream, or none that there is.
_ENTRIES = st.one_of(st.integers(0, 6), st.sampled_from([b"-", b"+", b"5-0"]))
_SPOOL = vars(spool)

# A script, its keys and its arguments; numbers in a text's place stand for entries of streams.
_Step = tuple[Script, Sequence[bytes], Sequence[Any]]


def _steps() -> st.SearchStrategy[_Step]:
    def script(
        name: str, keys: st.SearchStrategy[Any], *arguments: st.SearchStrategy[Any]
    ) -> st.SearchStrategy[_Step]:
        found = _SPOOL[name] if name.startswith("_") else getattr(dedupe, name)
        return st.tuples(st.just(found), keys, st.tuples(*arguments))

    def one(keys: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
        return keys.map(lambda key: [key])

    just = st.just
    writes = st.tuples(_STREAMS, st.sampled_from([b"write 1", b"write 2"])).map(
        lambda drawn: [b"points", b"dead", *drawn]
    )
    room = st.sampled_from([2**30, 10])
    written = st.tuples(writes, room, _LINES).map(
        lambda drawn: (_SPOOL["_WRITE"], drawn[0], (drawn[1], _WINDOW_MS, *drawn[2]))
    )
    sizes = st.sampled_from([(500, 2**20, 2**20), (2, 2**20, 2**20), (500, 300, 2**20), (500, 2**20, 100)])
    read = st.tuples(one(_STREAMS), _ENTRIES, st.one_of(_ENTRIES, just(b"")), _ENTRIES, sizes).map(
        lambda drawn: (_SPOOL["_READ"], drawn[0], (drawn[1], drawn[2], drawn[3], *drawn[4]))
    )
    lock = one(st.sampled_from([b"lock", b"one"]))
    anything = st.sampled_from([b"points", b"dead", b"lock", b"one", b"aside"])
    moments = st.floats(0, 3, width=32) | st.sampled_from([0.02, 100.0, 1000.0])
    told = (
        st.sampled_from([0, 1, 1, 1, 9, 999]),
        st.sampled_from([0, 0, 0, 1, 4]),
        st.sampled_from([0, 30]),
        st.integers(0, 9),
        st.sampled_from([0, 0, 20_000]),
        moments.map(lambda moment: repr(START + moment).encode()),
    )
    pace = st.tuples(
        just(PACE_AT), one(st.sampled_from([b"pace", b"pace", b"one", b"points"])), st.tuples(*told)
    )
    return st.one_of(
        pace,
        pace,
        _EVENTS.map(lambda drawn: (dedupe.CLAIM, *_asked(*drawn, _LEASE_MS, _LATE_MS, _WINDOW_MS))),
        _EVENTS.map(lambda drawn: (dedupe.LEASE, *_asked(*drawn, _LEASE_MS, _LATE_MS, b"1"))),
        st.tuples(_TOKENS, st.sampled_from([b"0", b"1"]), _PARTS).map(
            lambda drawn: (dedupe.CONFIRM, [drawn[0] + drawn[1]], (_LATE_MS, _LATE_MS, drawn[2]))
        ),
        _SOME.map(lambda names: (dedupe.CONFIRM, names, (_WINDOW_MS, _WINDOW_MS, *[b"1"] * len(names)))),
        st.tuples(_EVENTS, _MARKS).map(
            lambda drawn: (dedupe.REMEMBER, [drawn[0][0], *drawn[0][1]], (drawn[1], _WINDOW_MS))
        ),
        _EVENTS.map(lambda drawn: (dedupe.RELEASE, [drawn[0], *drawn[1]], ())),
        _TOKENS.map(lambda token: (_SPOOL["_GIVE_UP_RESERVE"], [token], ())),
        written,
        read,
        script("_LAST", one(_STREAMS)),
        script("_LENGTH", one(anything)),
        script("_DELETE", one(_STREAMS), _ENTRIES.filter(lambda entry: entry not in (b"-", b"+"))),
        script("_SET_ASIDE", just([b"points", b"aside"]), st.integers(0, 6)),
        script("_RENAME", st.tuples(anything, anything)),
        script("_RESERVE", one(just(b"reserve"))),
        script("_GIVE_UP_RESERVE", one(just(b"reserve"))),
        script("_LOCK", lock, _TOKENS, just(_LEASE_MS)),
        script("_UNLOCK", lock, _TOKENS),
    )


def _asked(token: bytes, names: list[bytes], *arguments: Any) -> tuple[list[bytes], tuple[Any, ...]]:
    """The keys and the arguments of what an event asks about points."""
    return [token, *names], (*arguments, *(token + _PLACES[name].to_bytes(4, "big") for name in names))


class Side:
    """The model or the real one; ids of entries, which hold the time, are told by their number."""

    def __init__(self, run: Callable[..., Any], prefix: bytes = b"") -> None:
        self._run = run
        self._prefix = prefix
        self._ids: list[bytes] = []

    def run(self, step: _Step) -> Any:
        script, keys, arguments = step
        numbered = (_SPOOL["_DELETE"], _SPOOL["_SET_ASIDE"], _SPOOL["_READ"])
        filled = [
            self._id(each) if script in numbered and (place < 3 or script is _SPOOL["_DELETE"]) else each
            for place, each in enumerate(arguments)
        ]
        try:
            reply = self._run(script, [self._prefix + key for key in keys], *filled)
        except RedisUnavailable as error:
            return "refused", error.reason, error.is_wrong_type, error.is_full
        if script is _SPOOL["_WRITE"] and isinstance(reply, list):
            self._ids += [each for each in reply if each not in self._ids]
        return "full" if script is _SPOOL["_WRITE"] and isinstance(reply, int) else self.numbered(reply)

    def numbered(self, reply: Any) -> Any:
        """Replace each id by its number."""
        if isinstance(reply, list):
            return [self.numbered(each) for each in reply]
        return f"entry {self._ids.index(reply)}" if reply in self._ids else reply

    def _id(self, entry: int | bytes) -> bytes:
        if isinstance(entry, bytes):
            return entry
        return self._ids[entry] if entry < len(self._ids) else b"7-%d" % entry


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(Path(tmp_path_factory.mktemp("redis"))) as running:
        yield running


_RUNS = itertools.count()


class Pair:
    """The model and a real server, on keys of their own."""

    def __init__(self, client: redis.Redis, real: RedisConnection) -> None:
        self._prefix = b"mf:%d:" % next(_RUNS)
        self.client = client
        self.model = RedisModel(lambda: _milliseconds(client.time()))
        self._simulated, self._actual = Side(self.model.run, self._prefix), Side(real.run, self._prefix)

    def run(self, steps: Sequence[_Step]) -> None:
        for step in steps:
            # Ids are milliseconds: two streams whose entries have the same ones could not be told apart.
            time.sleep(0.002 if step[0] is _SPOOL["_WRITE"] else 0)
            assert self._simulated.run(step) == self._actual.run(step), step

    def kept(self) -> list[bytes]:
        """The keys of the real server."""
        return sorted(self.client.scan_iter(match=self._prefix + b"*", count=1000))


Connections = tuple[redis.Redis, RedisConnection]


@pytest.fixture(scope="module")
def connections(server: RedisServer) -> Iterator[Connections]:
    client, real = server.client(), RedisConnection(parse_redis_url(server.url()), 5.0)
    yield client, real
    real.close()
    client.close()


@contextlib.contextmanager
def _compared(connections: Connections) -> Iterator[Pair]:
    client, real = connections
    try:
        yield Pair(client, real)
    finally:
        client.flushall()


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(_steps(), max_size=8),
    st.sampled_from(["full", "read-only"]),
    st.lists(_steps(), min_size=1, max_size=8),
)
def test_a_full_and_a_read_only_server_refuse_the_same_scripts(
    connections: Connections, before: list[_Step], state: str, steps: list[_Step]
) -> None:
    with _compared(connections) as pair:
        pair.run(before)
        pair.model.full, pair.model.read_only = state == "full", state == "read-only"
        with _in_state(pair.client, state):
            pair.run(steps)
            assert pair.model.keys() == pair.kept()


@contextlib.contextmanager
def _in_state(client: redis.Redis, state: str) -> Iterator[None]:
    """Let the server be full, or the replica of a master that is not there."""
    try:
        client.config_set("maxmemory", int(state == "full"))
        if state == "read-only":
            client.replicaof("127.0.0.1", "1")
        yield
    finally:
        client.replicaof("NO", "ONE")
        client.config_set("maxmemory", 0)


@pytest.mark.slow
@settings(max_examples=1500, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_steps(), min_size=3, max_size=14))
def test_the_same_scripts_get_the_same_replies_and_leave_the_same_keys(
    connections: Connections, steps: list[_Step]
) -> None:
    with _compared(connections) as pair:
        pair.run(steps)
        assert pair.model.keys() == pair.kept()
        for key in pair.kept():
            assert _duration(pair.model.pttl(key)) == _duration(pair.client.pttl(key)), key


def _milliseconds(now: tuple[int, int]) -> float:
    seconds, microseconds = now
    return seconds * 1000 + microseconds / 1000


def _duration(milliseconds: int) -> str:
    if milliseconds < 0:
        return "for good"
    if milliseconds > _WINDOW_MS:
        return "a window after a lease"
    return "a lease" if milliseconds <= _LEASE_MS else "a window"


def test_a_key_is_gone_when_its_time_is_over() -> None:
    now = [0.0]
    model = RedisModel(lambda: now[0])
    model.set(b"key", b"1", px=100)
    now[0] = 99.9
    assert model.get(b"key") == b"1"
    now[0] = 100.0
    assert model.get(b"key") is None
    assert model.keys() == []


def test_a_failover_loses_the_last_writes_and_nothing_else() -> None:
    model = RedisModel(lambda: 0.0)
    for name in (b"one", b"two"):
        _claim(model, name)
    model.run(dedupe.CONFIRM, [b"one"], _WINDOW_MS, _WINDOW_MS, b"1")

    assert model.lose(1) == 1
    assert model.get(b"one") == b"token--1\0\0\0\0"
    assert model.lose(5) == 2
    assert model.keys() == []


def test_a_full_server_takes_no_new_key_and_still_deletes() -> None:
    model = RedisModel(lambda: 0.0)
    _claim(model, b"one")
    model.full = True
    with pytest.raises(RedisUnavailable) as refused:
        _claim(model, b"two")
    assert refused.value.is_full
    model.run(dedupe.RELEASE, [b"token--1", b"one"])
    assert model.keys() == [b"token--1"]


def _claim(model: RedisModel, name: bytes) -> None:
    keys, arguments = _asked(b"token--1", [name], _LEASE_MS, _LATE_MS, _WINDOW_MS)
    model.run(dedupe.CLAIM, keys, *arguments)


@pytest.mark.parametrize("seeds", [range(5), pytest.param(range(5, 30), marks=pytest.mark.slow)], ids=str)
def test_the_pace_is_what_the_model_says_at_any_moment(connections: Connections, seeds: range) -> None:
    """Long conversations of a few instances, which hardly ever come up by chance alone."""
    with _compared(connections) as pair:
        for seed in seeds:
            pair.run(list(_conversation(random.Random(seed), b"pace %d" % seed)))


def _conversation(chance: random.Random, key: bytes) -> Iterator[_Step]:
    now, tickets = START, [0]
    for _ in range(60):
        now += chance.choice([0.001, 0.02, 0.02, 0.02, 0.5, 3.0, 30.0, 700.0, -5.0])
        refused = int(chance.random() < 0.1)
        told = (
            chance.choice([0, 1, 7, 30, 999]),
            refused,
            chance.choice([0, 3, 50]),
            chance.choice(tickets),
            0,
        )
        yield PACE_AT, [key], (*told, repr(now).encode())
        tickets.append(chance.randrange(3 * len(tickets)))
