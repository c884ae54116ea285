"""The producer's time: RFC 3339 text, Unix seconds or Unix milliseconds, as nanoseconds.

A time keeps the precision with which it was written: two readings 0.2 ms apart are two readings. Milliseconds are used
only in requests to a destination.
"""

import contextlib
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from operator import add
from typing import Any

from metric_forwarder.uint64 import parse_uint64

# Below: seconds (until the year 5138); from here on: milliseconds (since 1973).
MILLISECONDS_FROM = 1e11
# The limit of the schemas: the year 5138 in milliseconds.
NUMBERS_BELOW = 1e14

# A platform's time may also be in microseconds or nanoseconds, and is never before 1973.
_NANOSECONDS_BELOW = 1e20
_EARLIEST_S = 1e8
# The range of RFC 3339 in any time zone.
MIN_NS = -62_135_596_800 * 10**9
MAX_NS = 253_402_300_800 * 10**9 - 1

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
_HALF_MS = NS_PER_MS // 2

# Compiled when the first such time comes.
_SECOND = r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)"
_FRACTION_AND_OFFSET = r"(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))"
# 2026-01-01T00:00:00.123456789+08:00 has 35 characters, and a fraction may have more digits than count.
_LONGEST = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FAR_EAST = timedelta(hours=23, minutes=59)
_MAX_OFFSET = (23, 59)


def nanoseconds(timestamp: float | str) -> int | None:
    """Return Unix nanoseconds, or None if the text is not an RFC 3339 time with an offset."""
    if isinstance(timestamp, str):
        return _from_rfc3339(timestamp)
    unit = NS_PER_MS if timestamp >= MILLISECONDS_FROM else NS_PER_S
    if type(timestamp) is int:
        return timestamp * unit
    # From the digits, since a multiplication of floats would round.
    whole_part, _, fraction = repr(timestamp).partition(".")
    digits = 6 if unit == NS_PER_MS else 9
    if not fraction.isdigit():
        return round(timestamp * unit)
    return int(whole_part) * unit + int(fraction[:digits].ljust(digits, "0"))


def all_nanoseconds(timestamps: Sequence[Any]) -> list[int | None] | None:
    """The times of many points as ``nanoseconds`` has them, None for a point that has none; None if one is not valid."""
    kinds = {*map(type, timestamps)}
    if kinds == {str} and max(map(len, timestamps)) <= _LONGEST:
        try:
            return list(
                map(
                    add,
                    map(_local_second, [text[:19] for text in timestamps]),
                    map(_behind_second, [text[19:] for text in timestamps]),
                )
            )
        except TypeError:
            return None
    if not kinds <= _KINDS_OF_TIMES:
        return None
    alike = _all_alike(timestamps) if kinds <= _NUMBERS else None
    if alike is not None:
        return alike
    times = [None if timestamp is None else _valid_nanoseconds(timestamp) for timestamp in timestamps]
    return times if times.count(None) == timestamps.count(None) else None


def _all_alike(timestamps: Sequence[float]) -> list[int | None] | None:
    """The times of many numbers, if all are seconds with at most three digits behind the point, or all whole milliseconds."""
    if all(0 <= timestamp < MILLISECONDS_FROM for timestamp in timestamps):
        # Two numbers of so few digits are never the same float.
        thousandths = [round(timestamp * 1000) for timestamp in timestamps]
        is_exact = [number / 1000 for number in thousandths] == timestamps
        return [number * NS_PER_MS for number in thousandths] if is_exact else None
    are_whole_ms = all(
        type(timestamp) is int and MILLISECONDS_FROM <= timestamp < NUMBERS_BELOW for timestamp in timestamps
    )
    return [int(timestamp) * NS_PER_MS for timestamp in timestamps] if are_whole_ms else None


_NUMBERS = {int, float}
_KINDS_OF_TIMES = {str, int, float, type(None)}


def _valid_nanoseconds(timestamp: float | str) -> int | None:
    is_valid = isinstance(timestamp, str) or 0 <= timestamp < NUMBERS_BELOW
    return nanoseconds(timestamp) if is_valid else None


# Seconds in a unit, and its name; a span is written in the largest unit of which it has at least two.
_UNITS = ((31_556_952, "years"), (86_400, "days"), (3600, "hours"), (60, "minutes"))


def in_words(seconds: float) -> str:
    """Return a span of time in words, such as ``3 years``, ``5 hours`` or ``90 s``."""
    for size, name in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def to_milliseconds(time_ns: int) -> int:
    """Round nanoseconds to milliseconds."""
    return all_milliseconds((time_ns,))[0]


def all_milliseconds(times_ns: Iterable[int]) -> list[int]:
    """Round the nanoseconds of many times to milliseconds."""
    return [(time_ns + _HALF_MS) // NS_PER_MS for time_ns in times_ns]


def milliseconds(timestamp: float | str) -> int | None:
    """The same as ``nanoseconds``, rounded to milliseconds."""
    time_ns = nanoseconds(timestamp)
    return None if time_ns is None else to_milliseconds(time_ns)


def milliseconds_of(value: Any) -> int | None:
    """Read a platform's time, as Unix milliseconds; None if it is not a time.

    It is RFC 3339 text, or a number, also as text, of seconds, milliseconds, microseconds or nanoseconds. Their sizes do
    not overlap between the years 1973 and 5138; a smaller number, such as 0, means that there is no time.
    """
    if isinstance(value, str):
        number = parse_uint64(value)
        if number is None:
            return milliseconds(value)
        value = number
    if type(value) not in (int, float) or not _EARLIEST_S <= value < _NANOSECONDS_BELOW:
        return None
    while value >= NUMBERS_BELOW:
        value /= 1000
    return milliseconds(value)


def rfc3339(time_ns: int) -> str:
    """Write Unix nanoseconds as the RFC 3339 text that ``nanoseconds`` reads as the same time."""
    seconds, rest = divmod(time_ns, NS_PER_S)
    for offset in (timedelta(0), _FAR_EAST, -_FAR_EAST):
        # Near the first and the last year, UTC may be outside of the range while another time zone is inside.
        with contextlib.suppress(OverflowError):
            local = (
                (_EPOCH + offset + timedelta(seconds=seconds)).replace(tzinfo=timezone(offset)).isoformat()
            )
            return f"{local[:19]}.{rest:09}{local[19:]}"
    raise OverflowError(f"{time_ns} ns is not a time that RFC 3339 can express")


def _from_rfc3339(text: str) -> int | None:
    # datetime.fromisoformat of Python 3.10 knows neither "Z" nor fractions of other than 3 or 6 digits.
    if len(text) > _LONGEST:
        return None
    second, rest = _local_second(text[:19]), _behind_second(text[19:])
    return None if second is None or rest is None else second + rest


# Points that are measured together share their second, and points of one producer the number of digits behind it.
@lru_cache(maxsize=256)
def _local_second(text: str) -> int | None:
    """The nanoseconds of a time as if it were UTC; None if it does not exist."""
    match = re.fullmatch(_SECOND, text, re.ASCII)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    # ``datetime`` has no leap seconds: one is read as the first second of the next minute.
    leap = timedelta(seconds=second == 60)  # noqa: PLR2004 - the one second that only some minutes have
    try:
        local = datetime(year, month, day, hour, minute, second - leap.seconds, tzinfo=timezone.utc) + leap
    except (ValueError, OverflowError):
        return None
    return (local - _EPOCH) // timedelta(seconds=1) * NS_PER_S


@lru_cache(maxsize=1024)
def _behind_second(text: str) -> int | None:
    """The nanoseconds of a fraction, less those of the offset from UTC."""
    match = re.fullmatch(_FRACTION_AND_OFFSET, text, re.ASCII)
    if match is None:
        return None
    fraction, sign, hours, minutes = match.groups()
    nanos = int(fraction.ljust(9, "0")) if fraction else 0
    if sign is None:
        return nanos
    if int(hours) > _MAX_OFFSET[0] or int(minutes) > _MAX_OFFSET[1]:
        return None
    offset = (int(hours) * 60 + int(minutes)) * 60 * NS_PER_S
    return nanos + offset if sign == "-" else nanos - offset
