"""The spool as Redis streams, for instances that share no file system; it needs Redis 5 or newer.

Three streams for each function, under one hash tag so that a cluster keeps them in one slot: points, dead letters, and
what was set aside because it is no record. A record is one entry; an acknowledged one is deleted. One replay runs at a
time, by a lease that lasts as long as the replay may.
"""

import math
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from metric_forwarder.clients.redis import RedisConnection, RedisUnavailable, Script
from metric_forwarder.model import Message
from metric_forwarder.settings.redis_address import RedisAddress
from metric_forwarder.spool.store import SpoolError, SpoolRecord, decode_record, encode_record, message_of

DEFAULT_MAX_BYTES = 256 * 2**20
# Some milliseconds of the server's time, which serves nobody else meanwhile.
_CHUNK = 500
_TIMEOUT_S = 1.0
# After a broken connection a write is asked for again at once, or never: its key need not live longer.
_REMEMBERED_MS = 60_000

# KEYS: points, dead letters, the one to write, this write; most bytes, milliseconds, records → the ids, or how many bytes
# are used. A write whose answer was lost is asked for again: its key tells that it was done, and what was answered.
_WRITE = Script("""
local done = redis.call('GET', KEYS[4])
if done then
  return cjson.decode(done)
end
local used = 0
for i = 1, 2 do
  used = used + (redis.call('MEMORY', 'USAGE', KEYS[i]) or 0)
end
for i = 3, #ARGV do
  used = used + #ARGV[i]
end
if used > tonumber(ARGV[1]) then
  return used
end
local ids = {}
for i = 3, #ARGV do
  ids[#ids + 1] = redis.call('XADD', KEYS[3], '*', 'r', ARGV[i])
end
redis.call('SET', KEYS[4], cjson.encode(ids), 'PX', ARGV[2])
return ids
""")
_READ = Script("return redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])")
_LAST = Script("return redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)")
_LENGTH = Script("return redis.call('XLEN', KEYS[1])")
_DELETE = Script("return redis.call('XDEL', KEYS[1], unpack(ARGV))")
_SET_ASIDE = Script("""
if redis.call('XDEL', KEYS[1], ARGV[1]) == 1 then
  redis.call('XADD', KEYS[2], '*', 'r', ARGV[2])
end
""")
# A Redis that the spool has filled takes no lease; it does once the reserve is given up. It is kept before anything else is
# written, so that it is always part of what fills the Redis.
_RESERVE = Script("redis.call('SET', KEYS[1], string.rep('.', 1048576), 'NX')")
_GIVE_UP_RESERVE = Script("return redis.call('DEL', KEYS[1])")
_LOCK = Script("""
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")
_UNLOCK = Script(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
)


class RedisSpool:
    """Keeps records in Redis.

    Args:
        prefix: what the keys of this function start with.
        max_bytes: the memory of both streams beyond which nothing is added.
    """

    # A connection may have to be made, and made again.
    fixed_s = 1.0
    per_record_s = 100e-6

    def __init__(self, address: RedisAddress, prefix: bytes, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._connection = RedisConnection(address, _TIMEOUT_S)
        self._prefix = prefix
        self._points, self._dead = prefix + b"points", prefix + b"dead"
        self._aside, self._lock = prefix + b"aside", prefix + b"replay"
        self._reserve = prefix + b"reserve"
        self._max_bytes = max_bytes

    def write(self, points: Iterable[SpoolRecord], dead_letters: Iterable[SpoolRecord]) -> None:
        written: list[tuple[bytes, list[bytes]]] = []
        try:
            self._run(_RESERVE, [self._reserve])
            for key, records in ((self._points, points), (self._dead, dead_letters)):
                # Noted chunk by chunk: what was written before a failure is taken back.
                left = iter(records)
                while part := list(islice(left, _CHUNK)):
                    written.append((key, self._add(key, part)))
        except (RedisUnavailable, SpoolError) as error:
            self._take_back(written)
            raise _error(error) from None

    def waiting(self, *, dead_letters: bool) -> int:
        keys = (self._points, self._dead) if dead_letters else (self._points,)
        try:
            return sum(int(self._run(_LENGTH, [key])) for key in keys)
        except RedisUnavailable as error:
            raise _error(error) from None

    def others(self) -> Sequence[str]:
        # Only who knows a function's name finds its keys.
        return ()

    def replay(self, *, dead_letters: bool, lease_s: float = 900) -> Generator["RedisChunk", None, None]:
        lease = _Lease(os.urandom(8), math.ceil(lease_s * 1000))
        try:
            try:
                self._hold(lease)
            except RedisUnavailable as unavailable:
                if not unavailable.is_full:
                    raise
                self._run(_GIVE_UP_RESERVE, [self._reserve])
                self._hold(lease)
            try:
                yield from self._chunks(self._points, lease, dead=False)
                if dead_letters:
                    yield from self._chunks(self._dead, lease, dead=True)
            finally:
                self._run(_UNLOCK, [self._lock], lease.token)
        except RedisUnavailable as error:
            raise _error(error) from None

    def _hold(self, lease: "_Lease") -> None:
        """Take or renew the lease of a replay.

        Raises:
            SpoolError: another replay has it.
            RedisUnavailable: nobody knows.
        """
        if not self._run(_LOCK, [self._lock], lease.token, lease.milliseconds):
            raise SpoolError("another replay of this spool is running: wait for it to end")

    def delete(self, key: bytes, ids: Sequence[bytes]) -> None:
        for start in range(0, len(ids), _CHUNK):
            self._run(_DELETE, [key], *ids[start : start + _CHUNK])

    def _chunks(self, key: bytes, lease: "_Lease", *, dead: bool) -> Iterator["RedisChunk"]:
        last = self._run(_LAST, [key])
        begin = b"-"
        while last:
            # What is added meanwhile, and what stays because it still cannot be delivered, is not met again.
            entries = self._run(_READ, [key], begin, last[0][0], _CHUNK)
            if not entries:
                return
            # The server may have been restarted, and have forgotten.
            self._hold(lease)
            yield RedisChunk(self, key, [self._message(key, *entry) for entry in entries], dead=dead)
            begin = _after(entries[-1][0])

    def _message(self, key: bytes, entry_id: bytes, fields: Sequence[bytes]) -> tuple[bytes, Message]:
        try:
            record = decode_record(dict(zip(fields[::2], fields[1::2], strict=True))[b"r"])
        except (ValueError, KeyError):
            self._run(_SET_ASIDE, [key, self._aside], entry_id, b" ".join(fields))
            source = f"spool/{entry_id.decode('ascii')}"
            reason = f"is no record of this spool: it was set aside in {self._aside.decode('ascii')}"
            return entry_id, Message(source, None, broken=reason)
        return entry_id, message_of(record)

    def _add(self, key: bytes, records: Sequence[SpoolRecord]) -> list[bytes]:
        lines = [encode_record(record).encode("ascii") for record in records]
        keys = [self._points, self._dead, key, self._prefix + b"written:" + os.urandom(8)]
        told = self._run(_WRITE, keys, self._max_bytes, _REMEMBERED_MS, *lines)
        if isinstance(told, int):
            raise SpoolError(
                f"the spool is full: it would take {told} of {self._max_bytes} bytes; replay it, or remove its dead letters"
            )
        ids: list[bytes] = told
        return ids

    def _take_back(self, written: Sequence[tuple[bytes, list[bytes]]]) -> None:
        try:
            for key, ids in written:
                self.delete(key, ids)
        except RedisUnavailable:
            # They may be delivered by a replay and by the redelivery; dedupe knows them by their coordinates.
            return

    def _run(self, script: Script, keys: Sequence[bytes], *arguments: bytes | int) -> Any:
        try:
            return self._connection.run(script, keys, *arguments)
        except RedisUnavailable as error:
            self._connection.close()
            if not error.reconnect:
                raise
        # A connection that was idle is forgotten by networks, and an instance may have been frozen for hours.
        return self._connection.run(script, keys, *arguments)


class _Lease(NamedTuple):
    token: bytes
    milliseconds: int


class RedisChunk:
    """Some entries of a stream, being replayed."""

    def __init__(
        self,
        spool: RedisSpool,
        key: bytes,
        entries: Sequence[tuple[bytes, Message]],
        *,
        dead: bool,
    ) -> None:
        self._spool = spool
        self._key = key
        self._ids = [entry_id for entry_id, _ in entries]
        self._open = {row for row, (_, message) in enumerate(entries) if message.broken is None}
        self.messages = [message._replace(receipt=row) for row, (_, message) in enumerate(entries)]
        self.dead = dead

    def acknowledge(self, receipts: Sequence[int]) -> None:
        new = [receipt for receipt in receipts if receipt in self._open]
        try:
            if new:
                self._spool.delete(self._key, [self._ids[row] for row in new])
        except RedisUnavailable as error:
            raise _error(error) from None
        self._open.difference_update(new)

    def close(self) -> None:
        """An acknowledged entry is gone already."""


def _after(entry_id: bytes) -> bytes:
    milliseconds, _, sequence = entry_id.partition(b"-")
    return b"%s-%d" % (milliseconds, int(sequence) + 1)


def _error(error: RedisUnavailable | SpoolError) -> SpoolError:
    return (
        error if isinstance(error, SpoolError) else SpoolError(f"the spool in Redis failed: {error.reason}")
    )
