"""Remembers series, so that most points of a warm instance need no validation."""

from itertools import islice
from typing import Any

from metric_forwarder.model import Series

# The limit is in bytes, since one series may have kilobytes of dimensions. This is about 22,000 series of two dimensions.
MAX_CACHE_BYTES = 12 * 2**20
# Bytes of a series and its entry without their texts, measured; the texts are held as written, and as encoded.
_SERIES_BYTES, _DIMENSION_BYTES, _COPIES = 225, 66, 2
# When so many other series have come, or one of them again, this part of a full cache makes room.
_OTHERS, _PART = 4096, 1 / 16


class SeriesCache:
    """Keeps the series of valid points from one event to the next, within a bound of bytes.

    It keeps those that came first, since most series come again and again in the same order: if the oldest made room for
    the newest, none would be left when its turn comes. Some of the oldest make room when another series comes twice within
    a while, as those of every event do after a flood of new ones, and when very many others came.

    Attributes:
        known: the series, by their ``parts``. All of these are strings, since a string equals only the same string.
        size: about the bytes that all this takes.
    """

    def __init__(self, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._hashes_of_others: set[int] = set()
        self.known: dict[tuple[str, ...], Series] = {}
        self.size = 0

    def add(self, series: Series) -> int:
        """Remember a series, if there is room; return about how many bytes it takes."""
        if self.size >= self._max_bytes:
            if hash(series.parts) in self._hashes_of_others or len(self._hashes_of_others) == _OTHERS:
                self._make_room()
            else:
                self._hashes_of_others.add(hash(series.parts))
        size = _size(series)
        if self.size < self._max_bytes:
            self.known[series.parts] = series
            self.size += size
        return size

    def _make_room(self) -> None:
        for parts in list(islice(self.known, round(len(self.known) * _PART) or 1)):
            self.size -= _size(self.known.pop(parts))
        if len(self._hashes_of_others) == _OTHERS:
            self._hashes_of_others.clear()


def _size(series: Series) -> int:
    dimensions = len(series.parts) // 2 - 1
    return _SERIES_BYTES + _DIMENSION_BYTES * dimensions + _COPIES * len(series.encoded_prefix)


def as_text(value: str | float) -> str:
    """A dimension's value or an id, which may be a whole number, as text."""
    return value if isinstance(value, str) else str(int(value))


def is_whole(value: Any) -> bool:
    """Whether a schema takes a dimension's value as a whole number; for JSON Schema 9100.0 is one."""
    return type(value) is int or (type(value) is float and value.is_integer())
