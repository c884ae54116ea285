"""The spool as Redis streams, for instances that share no file system; it needs Redis 5 or newer.

Three streams for each function, under one hash tag so that a cluster keeps them in one slot: points, dead letters, and
entries that were set aside because they are not records. A record is one entry; an acknowledged one is deleted. One
replay runs at a time: its lease lasts as long as the replay may take.
"""

import math
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from metric_forwarder.clients.redis import NOT_REDIS, Connect, RedisConnection, RedisUnavailable, Script
from metric_forwarder.machine import Machine, system_machine
from metric_forwarder.model import Message
from metric_forwarder.settings.redis_address import RedisAddress
from metric_forwarder.spool.store import (
    SpoolError,
    SpoolLevel,
    SpoolRecord,
    by_time,
    decode_record,
    encode_in_batches,
    message_of,
)

DEFAULT_MAX_BYTES = 256 * 2**20
# Takes the server some milliseconds, while other clients wait, and fits the memory of a small function.
_CHUNK = 500
# More than a chunk of the largest records.
_MAX_REPLY_BYTES = 256 * 2**20
_CHUNK_BYTES = 2**20
# Longer than any written record, since the dead letters of an event are limited.
_MAX_ENTRY_BYTES = 32 * 2**20
_TIMEOUT_S = 1.0
# After a broken connection a write is repeated at once, or never, so its key can expire soon.
_REMEMBERED_MS = 60_000

# KEYS: points, dead letters, the one to write, this write; most bytes, milliseconds, records → the ids, or how many bytes
# are used. If the reply to a write is lost, the write is repeated: its key holds the reply if it was done.
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
# The stream; from this id on, the id that was met before, last id, most entries, most bytes, most bytes of an entry → the
# entries. One that is too long comes without its fields.
_READ = Script("""
local found, size, from, known = {}, 0, ARGV[1], ARGV[2]
local most, most_bytes, longest = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
while true do
  local part = redis.call('XRANGE', KEYS[1], from, ARGV[3], 'COUNT', 11)
  for _, entry in ipairs(part) do
    if entry[1] ~= known then
      local length = 0
      for _, text in ipairs(entry[2]) do
        length = length + #text
      end
      if length > longest then
        entry, length = {entry[1], {}}, 0
      end
      if #found == most or (#found > 0 and size + length > most_bytes) then
        return found
      end
      found[#found + 1] = entry
      size = size + length
    end
    from, known = entry[1], entry[1]
  end
  if #part < 11 then
    return found
  end
end
""")
_LAST = Script("return redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)")
# Points, dead letters → the bytes of both, the id of the oldest point.
_MEASURE = Script("""
local used = 0
for i = 1, 2 do
  used = used + (redis.call('MEMORY', 'USAGE', KEYS[i]) or 0)
end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return {used, first and first[1] or ''}
""")
_LENGTH = Script("return redis.call('XLEN', KEYS[1])")
_DELETE = Script("return redis.call('XDEL', KEYS[1], unpack(ARGV))")
# The stream, what is set aside; the id.
_SET_ASIDE = Script("""
local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if entry then
  redis.call('XADD', KEYS[2], '*', 'r', table.concat(entry[2], ' '))
  redis.call('XDEL', KEYS[1], ARGV[1])
end
""")
_RENAME = Script("return redis.call('RENAMENX', KEYS[1], KEYS[2])")
# A Redis that the spool has filled has no room for a lease, unless this reserve is deleted. It is written first, so that it
# is always part of what fills the Redis.
_RESERVE = Script("redis.call('SET', KEYS[1], string.rep('.', 1048576), 'NX')")
_GIVE_UP_RESERVE = Script("return redis.call('DEL', KEYS[1])")
# A lease without an expiry is not from this program.
_LOCK = Script("""
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] and redis.pcall('PTTL', KEYS[1]) ~= -1 then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")
_UNLOCK = Script(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
)


def _are_texts(reply: Any) -> bool:
    return isinstance(reply, list) and all(isinstance(text, bytes) for text in reply)


def _are_entries(reply: Any) -> bool:
    return isinstance(reply, list) and all(
        isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], bytes) and _are_texts(entry[1])  # noqa: PLR2004 - an id and its fields
        for entry in reply
    )


def _is_measure(reply: Any) -> bool:
    is_pair = isinstance(reply, list) and len(reply) == 2 and isinstance(reply[0], int)  # noqa: PLR2004 - see _MEASURE
    return is_pair and isinstance(reply[1], bytes) and re.fullmatch(rb"(\d+-\d+)?", reply[1]) is not None


# What a Redis replies to the scripts whose reply is read.
_SHAPES: Mapping[Script, Callable[[Any], bool]] = {
    _WRITE: lambda reply: isinstance(reply, int) or _are_texts(reply),
    _READ: _are_entries,
    _LAST: _are_entries,
    _MEASURE: _is_measure,
    _LENGTH: lambda reply: isinstance(reply, int),
    _LOCK: lambda reply: isinstance(reply, int),
}


class RedisSpool:
    """Keeps records in Redis.

    Args:
        prefix: what the keys of this function start with.
        max_bytes: the limit for the memory of both streams.
        machine: its chance names leases and writes; None: this machine.
        connect: makes a connection.
    """

    # The time to make a connection, twice.
    fixed_s = 1.0
    per_record_s = 100e-6

    def __init__(
        self,
        address: RedisAddress,
        prefix: bytes,
        max_bytes: int = DEFAULT_MAX_BYTES,
        machine: Machine | None = None,
        connect: Connect = RedisConnection,
    ) -> None:
        self._connection = connect(address, _TIMEOUT_S, _MAX_REPLY_BYTES)
        self._token = (machine or system_machine()).chance.token
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
                # Collected batch by batch, so that records written before a failure can be removed.
                batches = encode_in_batches(records, _CHUNK, _CHUNK_BYTES)
                written.extend((key, self._add(key, lines)) for lines in batches)
        except (RedisUnavailable, SpoolError) as error:
            self._take_back(written)
            raise _error(error) from None

    def waiting(self, *, dead_letters: bool) -> int:
        keys = (self._points, self._dead) if dead_letters else (self._points,)
        try:
            return sum(map(self._length, keys))
        except RedisUnavailable as error:
            raise _error(error) from None

    def measure(self) -> SpoolLevel:
        try:
            used, oldest = self._run(_MEASURE, [self._points, self._dead])
            dead_letters = self._length(self._dead)
        except RedisUnavailable as error:
            raise _error(error) from None
        # The id of an entry begins with the time at which it was added.
        oldest_ms = int(bytes(oldest).partition(b"-")[0]) if oldest else None
        return SpoolLevel(int(used), oldest_ms, dead_letters)

    def others(self) -> Sequence[str]:
        # The keys of a function can be found only by its name.
        return ()

    def replay(self, *, dead_letters: bool, lease_s: float = 900) -> Generator["RedisChunk", None, None]:
        lease = _Lease(self._token(8), math.ceil(lease_s * 1000))
        try:
            yield from self._begin(lease)
            try:
                # Records that the replay itself writes are for the next replay.
                last_dead = yield from self._last(self._dead)
                yield from self._chunks(
                    self._points, (yield from self._last(self._points)), lease, dead=False
                )
                if dead_letters:
                    yield from self._chunks(self._dead, last_dead, lease, dead=True)
            finally:
                self._run(_UNLOCK, [self._lock], lease.token)
        except RedisUnavailable as error:
            raise _error(error) from None

    def delete(self, key: bytes, ids: Sequence[bytes]) -> None:
        for start in range(0, len(ids), _CHUNK):
            self._run(_DELETE, [key], *ids[start : start + _CHUNK])

    def _length(self, key: bytes) -> int:
        try:
            return int(self._run(_LENGTH, [key]))
        except RedisUnavailable as error:
            if not error.is_wrong_type:
                raise
        # A replay will set it aside.
        return 1

    def _begin(self, lease: "_Lease") -> Iterator["RedisChunk"]:
        """Take the lease; yield a message for a key that had to be set aside first."""
        try:
            self._hold(lease)
        except RedisUnavailable as error:
            if not error.is_wrong_type:
                raise
        else:
            return
        yield from self._rename(self._lock)
        self._hold(lease)

    def _hold(self, lease: "_Lease") -> None:
        """Take or renew the lease of a replay.

        Raises:
            SpoolError: another replay has it.
            RedisUnavailable: the result is unknown.
        """
        try:
            is_ours = self._run(_LOCK, [self._lock], lease.token, lease.milliseconds)
        except RedisUnavailable as error:
            if not error.is_full:
                raise
            # Also for a renewal: others, or the lease itself, may have taken the rest of the memory.
            self._run(_GIVE_UP_RESERVE, [self._reserve])
            is_ours = self._run(_LOCK, [self._lock], lease.token, lease.milliseconds)
        if not is_ours:
            raise SpoolError("another replay of this spool is running: wait for it to end")

    def _last(self, key: bytes) -> Generator["RedisChunk", None, bytes | None]:
        """The id of a stream's last entry; if the key is not a stream, set it aside and yield a message."""
        try:
            found = self._run(_LAST, [key])
        except RedisUnavailable as error:
            if not error.is_wrong_type:
                raise
            yield from self._rename(key)
            return None
        last: bytes | None = found[0][0] if found else None
        return last

    def _rename(self, key: bytes) -> Iterator["RedisChunk"]:
        """Set aside a key of another type, and yield the message for the report."""
        aside = key + b":set-aside:" + self._token(4).hex().encode("ascii")
        try:
            self._run(_RENAME, [key, aside])
            source, reason = (
                aside,
                "is not of this spool: it was set aside under this name, for a person to look at",
            )
        except RedisUnavailable as error:
            source, reason = key, f"is not of this spool, and cannot be renamed ({error.reason}): remove it"
        yield RedisChunk(self, key, [], [_broken(source, reason)], dead=True)

    def _chunks(
        self, key: bytes, last: bytes | None, lease: "_Lease", *, dead: bool
    ) -> Iterator["RedisChunk"]:
        begin, known = b"-", b""
        # Entries that are added meanwhile, or that stay undelivered, are not read again.
        while last is not None:
            entries = self._run(_READ, [key], begin, known, last, _CHUNK, _CHUNK_BYTES, _MAX_ENTRY_BYTES)
            if not entries:
                return
            # The server may have lost it in a restart.
            self._hold(lease)
            begin = known = entries[-1][0]
            read = [self._message(key, *entry) for entry in entries]
            broken = [message for _, message in read if message.broken is not None]
            yield RedisChunk(self, key, [pair for pair in read if pair[1].broken is None], broken, dead=dead)

    def _message(self, key: bytes, entry_id: bytes, fields: Sequence[bytes]) -> tuple[bytes, Message]:
        try:
            return entry_id, message_of(
                decode_record(dict(zip(fields[::2], fields[1::2], strict=True))[b"r"])
            )
        except (ValueError, KeyError):
            pass
        reason = f"is not a record of this spool: it was set aside in {_text(self._aside)}"
        try:
            self._set_aside(key, entry_id)
        except RedisUnavailable as error:
            reason = f"is not a record of this spool, and could not be set aside: {error.reason}"
        return entry_id, _broken(entry_id, reason)

    def _set_aside(self, key: bytes, entry_id: bytes) -> None:
        try:
            self._run(_SET_ASIDE, [key, self._aside], entry_id)
        except RedisUnavailable as error:
            if not error.is_wrong_type:
                raise
            list(self._rename(self._aside))
            self._run(_SET_ASIDE, [key, self._aside], entry_id)

    def _add(self, key: bytes, lines: Sequence[bytes]) -> list[bytes]:
        keys = [self._points, self._dead, key, self._prefix + b"written:" + self._token(8)]
        reply = self._run(_WRITE, keys, self._max_bytes, _REMEMBERED_MS, *lines)
        if isinstance(reply, int):
            raise SpoolError(
                f"the spool is full: it would take {reply} of {self._max_bytes} bytes; replay it, or remove its dead letters"
            )
        ids: list[bytes] = reply
        if len(ids) != len(lines):
            raise RedisUnavailable(NOT_REDIS)
        return ids

    def _take_back(self, written: Sequence[tuple[bytes, list[bytes]]]) -> None:
        try:
            for key, ids in written:
                self.delete(key, ids)
        except RedisUnavailable:
            # A replay and the redelivery may both deliver them; dedupe recognises them by their coordinates.
            return

    def _run(self, script: Script, keys: Sequence[bytes], *arguments: bytes | int) -> Any:
        reply = self._send(script, keys, *arguments)
        if script in _SHAPES and not _SHAPES[script](reply):
            raise RedisUnavailable(NOT_REDIS)
        return reply

    def _send(self, script: Script, keys: Sequence[bytes], *arguments: bytes | int) -> Any:
        try:
            return self._connection.run(script, keys, *arguments)
        except RedisUnavailable as error:
            self._connection.close()
            if not error.reconnect:
                raise
        # Networks drop idle connections, and an instance may have been frozen for hours.
        return self._connection.run(script, keys, *arguments)


class _Lease(NamedTuple):
    token: bytes
    milliseconds: int


class RedisChunk:
    """Some entries of a stream, being replayed.

    Args:
        entries: id and message of each.
        broken: messages for the report about entries that could not be read.
    """

    def __init__(
        self,
        spool: RedisSpool,
        key: bytes,
        entries: Sequence[tuple[bytes, Message]],
        broken: Sequence[Message],
        *,
        dead: bool,
    ) -> None:
        self._spool = spool
        self._key = key
        self._ids = [entry_id for entry_id, _ in entries]
        self._open = set(range(len(entries)))
        numbered = (message._replace(receipt=receipt) for receipt, (_, message) in enumerate(entries))
        self.messages = [*broken, *by_time(numbered)]
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


def _broken(name: bytes, reason: str) -> Message:
    return Message(f"spool/{_text(name)}", None, broken=reason)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _error(error: RedisUnavailable | SpoolError) -> SpoolError:
    if isinstance(error, SpoolError):
        return error
    if error.is_wrong_type:
        return SpoolError(
            "the spool in Redis failed: one of its keys holds a value of another type: replay the spool, which sets "
            "that aside"
        )
    return SpoolError(f"the spool in Redis failed: {error.reason}")
