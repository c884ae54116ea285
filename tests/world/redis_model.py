"""A Redis in this process: the meaning of each script that the project runs, on keys that expire by a clock that is handed in.

``test_redis_model.py`` holds it to a real Redis.
"""

import json
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeGuard

from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from metric_forwarder.clients.redis import Script, explain
from metric_forwarder.dedupe import redis_scripts as dedupe
from metric_forwarder.dedupe.shared_pace import PACE
from metric_forwarder.spool import redis as spool
from world import pace_model

_Argument = bytes | int
_Fields = list[bytes]
_Id = tuple[int, int]
# So many runs of scripts can be lost with a failover.
_UNDOABLE = 200
_LOWEST, _HIGHEST = (0, 0), (2**64 - 1, 2**64 - 1)
# What an entry of a stream, and a stream, take beside their texts; about.
_OVERHEAD_BYTES = 32


class Stream:
    """A stream: entries in the order of their ids, and the last id ever given."""

    def __init__(self) -> None:
        self.entries: dict[_Id, _Fields] = {}
        self.last = (0, 0)

    def copy(self) -> "Stream":
        made = Stream()
        made.entries, made.last = dict(self.entries), self.last
        return made


_Value = bytes | Stream
# What a key held before a script changed it; None: it was not there.
_Before = tuple[_Value, float | None] | None


class RedisModel:
    """One database.

    Args:
        now_ms: its clock, Unix milliseconds.

    Attributes:
        read_only: it has become a replica: it takes no writes.
        full: it has no memory for what is added; it still deletes.
        max_bytes: with more than that it is full; None: there is no bound.
        was_full: whether it refused anything, because it held more than that.
    """

    def __init__(self, now_ms: Callable[[], float]) -> None:
        self._now_ms = now_ms
        self._values: dict[bytes, tuple[_Value, float | None]] = {}
        self._undo: deque[dict[bytes, _Before]] = deque(maxlen=_UNDOABLE)
        self._touched: dict[bytes, _Before] = {}
        self.read_only = False
        self.full = False
        self.max_bytes: int | None = None
        self.was_full = False
        self._is_over = False

    def run(self, script: Script, keys: Sequence[bytes], *arguments: _Argument) -> Any:
        """Run a script, as ``RedisConnection.run`` does.

        Raises:
            RedisUnavailable: an error of Redis; what the script did before it stays.
        """
        texts = [each if isinstance(each, bytes) else b"%d" % each for each in arguments]
        self._touched = {}
        # A script that has begun to write goes on.
        self._is_over = self.max_bytes is not None and self.used() > self.max_bytes
        try:
            return _MEANINGS[script.digest](self, list(keys), texts)
        except ResponseError as error:
            raise explain(error) from None
        finally:
            if self._touched:
                self._undo.append(self._touched)

    # --- what happens to a server ------------------------------------------------------------------------------

    def lose(self, runs: int) -> int:
        """Fail over to a replica that has not seen the last runs that wrote something; return how many were lost."""
        lost = 0
        while self._undo and lost < runs:
            for key, before in self._undo.pop().items():
                if before is None:
                    self._values.pop(key, None)
                else:
                    self._values[key] = before
            lost += 1
        return lost

    def flush(self) -> None:
        """Forget everything, as a restart without a file does."""
        self._values.clear()
        self._undo.clear()

    def evict(self, choose: Callable[[int], int]) -> bytes | None:
        """Forget one key that would expire, as a full server with a policy ``volatile-…`` does; return it."""
        expiring = sorted(key for key in self._values if self._values[key][1] is not None)
        if not expiring:
            return None
        key = expiring[choose(len(expiring))]
        del self._values[key]
        return key

    def used(self) -> int:
        """The bytes of all keys; about."""
        return sum(map(self.memory_usage, self.keys()))

    def take(self, size: int) -> None:
        """Let another program take so many more bytes."""
        if size > 0:
            held, _ = self._values.get(b"of another program", (b"", None))
            self._values[b"of another program"] = (
                held + b"." * size if isinstance(held, bytes) else held,
                None,
            )

    def texts(self, name: bytes) -> list[bytes]:
        """The last field of each entry of the streams whose keys end so."""
        streams = [self._find(key) for key in self.keys() if key.endswith(name)]
        return [
            fields[-1]
            for stream in streams
            if isinstance(stream, Stream)
            for fields in stream.entries.values()
        ]

    def keys(self) -> list[bytes]:
        """The keys that have not expired."""
        return sorted(key for key in list(self._values) if self._find(key) is not None)

    def now_s(self) -> float:
        """Its clock, Unix seconds."""
        return self._now_ms() / 1000

    # --- commands ----------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        value = self._find(key)
        if isinstance(value, Stream):
            raise _wrong_type()
        return value

    def set(self, key: bytes, value: bytes, *, px: int | None = None, nx: bool = False) -> bool:
        self._write(adds=True)
        if nx and self._find(key) is not None:
            return False
        self._put(key, value, None if px is None else self._now_ms() + px)
        return True

    def delete(self, *keys: bytes) -> int:
        self._write(adds=False)
        there = [key for key in dict.fromkeys(keys) if self._find(key) is not None]
        for key in there:
            self._remember(key)
            del self._values[key]
        return len(there)

    def pttl(self, key: bytes) -> int:
        if self._find(key) is None:
            return -2
        expires = self._values[key][1]
        return -1 if expires is None else int(expires - self._now_ms())

    def renamenx(self, key: bytes, other: bytes) -> int:
        self._write(adds=False)
        if self._find(key) is None:
            raise ResponseError("no such key")
        if self._find(other) is not None:
            return 0
        value, expires = self._values[key]
        self._put(other, value, expires)
        self._remember(key)
        del self._values[key]
        return 1

    def xadd(self, key: bytes, *fields: bytes) -> bytes:
        self._write(adds=True)
        stream = (self._stream(key) or Stream()).copy()
        now = (int(self._now_ms()), 0)
        stream.last = now if now > stream.last else (stream.last[0], stream.last[1] + 1)
        stream.entries[stream.last] = list(fields)
        self._put(key, stream, None)
        return _text(stream.last)

    def xdel(self, key: bytes, *ids: bytes) -> int:
        self._write(adds=False)
        stream = self._stream(key)
        if stream is None:
            return 0
        stream = stream.copy()
        gone = [stream.entries.pop(_read_id(each, 0), None) for each in ids]
        self._put(key, stream, None)
        return len(gone) - gone.count(None)

    def xlen(self, key: bytes) -> int:
        stream = self._stream(key)
        return 0 if stream is None else len(stream.entries)

    def xrange(self, key: bytes, first: bytes, last: bytes, count: int | None = None) -> list[list[Any]]:
        stream = self._stream(key)
        if stream is None:
            return []
        low, high = _read_id(first, 0), _read_id(last, _HIGHEST[1])
        found = [
            [_text(each), list(fields)] for each, fields in stream.entries.items() if low <= each <= high
        ]
        return found[:count]

    def last_entry(self, key: bytes) -> list[list[Any]]:
        return self.xrange(key, b"-", b"+")[-1:]

    def memory_usage(self, key: bytes) -> int:
        value = self._find(key)
        if value is None:
            return 0
        if isinstance(value, bytes):
            return len(key) + len(value) + _OVERHEAD_BYTES
        texts = [text for fields in value.entries.values() for text in fields]
        return len(key) + sum(map(len, texts)) + _OVERHEAD_BYTES * (len(value.entries) + 1)

    # --- keys --------------------------------------------------------------------------------------------------

    def _find(self, key: bytes) -> _Value | None:
        found = self._values.get(key)
        if found is None:
            return None
        value, expires = found
        if expires is not None and expires <= self._now_ms():
            del self._values[key]
            return None
        return value

    def _stream(self, key: bytes) -> Stream | None:
        value = self._find(key)
        if isinstance(value, bytes):
            raise _wrong_type()
        return value

    def _put(self, key: bytes, value: _Value, expires: float | None) -> None:
        self._remember(key)
        self._values[key] = (value, expires)

    def _remember(self, key: bytes) -> None:
        self._touched.setdefault(key, self._values.get(key))

    def _write(self, *, adds: bool) -> None:
        if self.read_only:
            raise ReadOnlyError("READONLY You can't write against a read only replica.")
        if adds and (self.full or self._is_over):
            self.was_full = True
            raise OutOfMemoryError("OOM command not allowed when used memory > 'maxmemory'.")


def _wrong_type() -> ResponseError:
    # A new one each time: an error keeps what it was raised through, also from an earlier schedule.
    return ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


def _text(entry_id: _Id) -> bytes:
    return b"%d-%d" % entry_id


def _read_id(text: bytes, sequence: int) -> _Id:
    """Read an id as XRANGE does; ``sequence`` is meant where it names none."""
    if text in (b"-", b"+"):
        return _LOWEST if text == b"-" else _HIGHEST
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number) if number else sequence


def _set_each(model: RedisModel, keys: list[bytes], arguments: list[bytes], *, nx: bool = False) -> bytes:
    first_ms, others_ms, *values = arguments
    letters = b""
    # A connection may break after some of the keys.
    for place, (key, value) in enumerate(zip(keys, values, strict=False)):
        lasts_ms = int(others_ms if place else first_ms)
        letters += b"o" if model.set(key, value, px=lasts_ms, nx=nx) else b"h"
    return letters


# What the scripts mean, each with the model, its keys and its arguments.


def _is_lease(held: bytes | None) -> TypeGuard[bytes]:
    return held is not None and len(held) == 12 and not held.startswith(_REFUSED)


def _fate(model: RedisModel, event: bytes, held: bytes | None) -> bytes | None:
    """What a key holds, or, if it is a lease, what the record and the key of its event make of it."""
    if not _is_lease(held):
        return held
    holder, place = event[:-8] + held[:8], int.from_bytes(held[8:], "big")
    part = model.get(holder + b"%d" % (place // 1000)) or b""
    if part[place % 1000 : place % 1000 + 1] == b"1":
        return b"1"
    return None if model.get(holder) is None else held


def _claim(model: RedisModel, keys: list[bytes], arguments: list[bytes]) -> bytes:
    event_ms, lease_ms, window_ms = map(int, arguments[:3])
    event = keys[0]
    model.set(event, b"1", px=event_ms)
    claims, labels = b"", b""
    for key, lease in zip(keys[1:], arguments[3:], strict=True):
        held = _fate(model, event, model.get(key))
        if held in (b"1", b"?"):
            model.set(key, held, px=window_ms)
            claims += held
        elif held is None:
            model.set(key, lease, px=lease_ms)
            claims += b"o"
        elif held == lease:
            claims += b"o"
        elif len(held) > len(_REFUSED) and held.startswith(_REFUSED):
            claims += b"r"
            labels += b"\n" + held[len(_REFUSED) : 72]
        else:
            claims += b"h"
    return claims + labels


_REFUSED = b"refused:"


def _remember(model: RedisModel, keys: list[bytes], arguments: list[bytes]) -> None:
    mark, window_ms = arguments[0], int(arguments[1])
    for key in keys[1:]:
        known = _fate(model, keys[0], model.get(key))
        is_others = _is_lease(known) and known[:8] != keys[0][-8:]
        if known != b"1" and not is_others and (mark == b"?" or known != b"?"):
            model.set(key, mark, px=window_ms)


def _release(model: RedisModel, keys: list[bytes], _: list[bytes]) -> None:
    for key in keys[1:]:
        held = model.get(key)
        if _is_lease(held) and held[:8] == keys[0][-8:] and _fate(model, keys[0], held) != b"1":
            model.delete(key)


def _write(model: RedisModel, keys: list[bytes], arguments: list[bytes]) -> Any:
    done = model.get(keys[3])
    if done is not None:
        return [each.encode() for each in json.loads(done)]
    most_bytes, remembered_ms, lines = int(arguments[0]), int(arguments[1]), arguments[2:]
    used = sum(map(model.memory_usage, keys[:2])) + sum(map(len, lines))
    if used > most_bytes:
        return used
    ids = [model.xadd(keys[2], b"r", line) for line in lines]
    model.set(keys[3], json.dumps([each.decode() for each in ids]).encode(), px=remembered_ms)
    return ids


def _read(model: RedisModel, keys: list[bytes], arguments: list[bytes]) -> list[list[Any]]:
    first, known, last = arguments[:3]
    most, most_bytes, longest = map(int, arguments[3:6])
    found: list[list[Any]] = []
    size = 0
    for entry_id, fields in model.xrange(keys[0], first, last):
        if entry_id == known:
            continue
        known = entry_id
        length = sum(map(len, fields))
        entry = [entry_id, fields] if length <= longest else [entry_id, []]
        length = length if length <= longest else 0
        if len(found) == most or (found and size + length > most_bytes):
            return found
        found.append(entry)
        size += length
    return found


def _measure(model: RedisModel, keys: list[bytes], _: list[bytes]) -> list[Any]:
    first = model.xrange(keys[0], b"-", b"+", 1)
    return [sum(map(model.memory_usage, keys[:2])), first[0][0] if first else b""]


def _set_aside(model: RedisModel, keys: list[bytes], arguments: list[bytes]) -> None:
    for entry_id, fields in model.xrange(keys[0], arguments[0], arguments[0]):
        model.xadd(keys[1], b"r", b" ".join(fields))
        model.xdel(keys[0], entry_id)


_RESERVED = b"." * 2**20


def _reserve(model: RedisModel, keys: list[bytes], _: list[bytes]) -> None:
    model.set(keys[0], _RESERVED, nx=True)


def _lock(model: RedisModel, keys: list[bytes], arguments: list[bytes]) -> int:
    held = model.get(keys[0])
    if held is not None and held != arguments[0] and model.pttl(keys[0]) != -1:
        return 0
    model.set(keys[0], arguments[0], px=int(arguments[1]))
    return 1


def _unlock(model: RedisModel, keys: list[bytes], arguments: list[bytes]) -> int:
    return model.delete(keys[0]) if model.get(keys[0]) == arguments[0] else 0


def _pace(model: RedisModel, keys: list[bytes], arguments: list[bytes]) -> bytes:
    now = float(arguments[5]) if len(arguments) > 5 else model.now_s()
    kept, reply = pace_model.decide(model.get(keys[0]), now, arguments)
    model.set(keys[0], kept, px=pace_model.KEPT_MS)
    return reply


_Meaning = Callable[[RedisModel, list[bytes], list[bytes]], Any]
_SPOOL = vars(spool)
_MEANINGS: dict[str, _Meaning] = {
    dedupe.LEASE.digest: partial(_set_each, nx=True),
    dedupe.CONFIRM.digest: _set_each,
    dedupe.CLAIM.digest: _claim,
    dedupe.REMEMBER.digest: _remember,
    dedupe.RELEASE.digest: _release,
    PACE.digest: _pace,
    pace_model.PACE_AT.digest: _pace,
    **{
        _SPOOL[name].digest: meaning
        for name, meaning in {
            "_WRITE": _write,
            "_READ": _read,
            "_LAST": lambda model, keys, _: model.last_entry(keys[0]),
            "_MEASURE": _measure,
            "_LENGTH": lambda model, keys, _: model.xlen(keys[0]),
            "_DELETE": lambda model, keys, arguments: model.xdel(keys[0], *arguments),
            "_SET_ASIDE": _set_aside,
            "_RENAME": lambda model, keys, _: model.renamenx(keys[0], keys[1]),
            "_RESERVE": _reserve,
            "_GIVE_UP_RESERVE": lambda model, keys, _: model.delete(keys[0]),
            "_LOCK": _lock,
            "_UNLOCK": _unlock,
        }.items()
    },
}
