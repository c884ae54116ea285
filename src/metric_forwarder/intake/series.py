"""Remembers series, so that most points of a warm instance need no validation."""

from metric_forwarder.model import Series

# The limit is in bytes, since one series may have kilobytes of dimensions. This is about 22,000 series of two dimensions.
MAX_CACHE_BYTES = 12 * 2**20
# Bytes of a series and its entry without their texts, measured.
_SERIES_BYTES = 225
_DIMENSION_BYTES = 66
# The texts of a series are held as written by the producer, and as encoded for the destination.
_COPIES = 2
# A full cache begins anew after this many points of other series for each of its own.
_PATIENCE = 4


class SeriesCache:
    """Keeps the series of valid points from one event to the next, within a bound of bytes.

    It keeps those that came first, since most series come again and again in the same order: if the oldest made room for
    the newest, none would be left when its turn comes. Once the points of others are many times as many as its series,
    it forgets all of them.

    Attributes:
        known: the series, by their ``parts``. All of these are strings, since a string equals only the same string.
        size: about the bytes that all this takes.
    """

    def __init__(self, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._missed = 0
        self.known: dict[tuple[str, ...], Series] = {}
        self.size = 0

    def add(self, series: Series) -> int:
        """Remember a series, if there is room; return about how many bytes it takes."""
        dimensions = len(series.parts) // 2 - 1
        size = _SERIES_BYTES + _DIMENSION_BYTES * dimensions + _COPIES * len(series.encoded_prefix)
        if self.size < self._max_bytes:
            self.known[series.parts] = series
            self.size += size
        else:
            self._missed += 1
            if self._missed > _PATIENCE * len(self.known):
                self.known.clear()
                self.size = self._missed = 0
        return size


def as_text(value: str | float) -> str:
    """A dimension's value or an id, which may be a whole number, as text."""
    return value if isinstance(value, str) else str(int(value))
