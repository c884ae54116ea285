"""The producer's time: RFC 3339 text, Unix seconds or Unix milliseconds, as milliseconds."""

import contextlib
import re
from datetime import datetime, timedelta, timezone
from typing import Any

from metric_forwarder.numerals import whole

# Below: seconds (until the year 5138); from here on: milliseconds (since 1973).
MILLISECONDS_FROM = 1e11
# By the schemas; as milliseconds the year 5138 again.
NUMBERS_BELOW = 1e14

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FAR_EAST = timedelta(hours=23, minutes=59)


def milliseconds(timestamp: float | str) -> int | None:
    """Return Unix milliseconds, or None if the text is no RFC 3339 time with an offset."""
    if isinstance(timestamp, str):
        return _from_rfc3339(timestamp)
    return round(timestamp if timestamp >= MILLISECONDS_FROM else timestamp * 1000)


def told_milliseconds(told: Any) -> int | None:
    """The same of what a platform tells, which may be anything, and a number also as text; None if it is no time."""
    if isinstance(told, str):
        number = whole(told)
        if number is None:
            return milliseconds(told)
        told = number
    is_time = type(told) in (int, float) and 0 <= told < NUMBERS_BELOW
    return milliseconds(told) if is_time else None


def rfc3339(milliseconds: int) -> str:
    """Write Unix milliseconds as the RFC 3339 text that ``milliseconds`` reads as the same time."""
    since = timedelta(milliseconds=milliseconds)
    for offset in (timedelta(0), _FAR_EAST, -_FAR_EAST):
        # Near the first and the last year that there is, it is still, or already, that year only elsewhere.
        with contextlib.suppress(OverflowError):
            local = (_EPOCH + offset + since).replace(tzinfo=timezone(offset))
            return local.isoformat(timespec="milliseconds")
    raise OverflowError(f"{milliseconds} ms is no time that RFC 3339 can tell")


def _from_rfc3339(text: str) -> int | None:
    # datetime.fromisoformat of Python 3.10 knows neither "Z" nor fractions of other than 3 or 6 digits.
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    *fields, second, fraction, sign, hours, minutes = match.groups()
    # A leap second, which ``datetime`` has none of, is the first of the next minute.
    leap = timedelta(seconds=second == "60")
    try:
        local = datetime(*map(int, fields), int(second) - leap.seconds, tzinfo=timezone.utc) + leap  # type: ignore[arg-type, misc]  # five ints
    except (ValueError, OverflowError):
        return None
    if sign and (int(hours) > 23 or int(minutes) > 59):  # noqa: PLR2004 - the limits of a time zone's offset
        return None
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    whole = (local - _EPOCH - offset) // timedelta(milliseconds=1)
    # Rounded as a number of seconds is: the same time is the same time, however it is written.
    return whole + round(int((fraction or "0").ljust(9, "0")) / 1e6)
