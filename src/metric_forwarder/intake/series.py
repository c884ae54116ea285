"""Remembers series, so that most points of a warm instance need no full validation."""

from collections.abc import Callable, Mapping
from typing import Any

from metric_forwarder.formats.payload import Violation
from metric_forwarder.model import Series

# An instance keeps about 14,000 series of two dimensions between events. The limit is in bytes, since one series may have
# kilobytes of dimensions.
MAX_CACHE_BYTES = 12 * 2**20
# Bytes of a series and of a key without their texts, measured; a text has a head of 50 bytes.
_SERIES_BYTES = 200
_DIMENSION_BYTES = 160
_KEY_BYTES = 100
_MEMBER_BYTES = 10
_TEXT_BYTES = 50
# The texts of a series are held as written by the producer, and as encoded for the destination.
_COPIES = 2


class KnownSeries:
    """The series of an event, and those of earlier events.

    Attributes:
        by_point: the series of points whose series is valid, by the namespace (None where a point names none), the metric
            name, the names and the values of the dimensions, as they stand in a point. All its dimensions
            are strings, since a string equals only the same string.
        size: about the bytes that all this takes.
    """

    def __init__(self, prepare_series: Callable[[Series], Violation | None]) -> None:
        self._prepare_series = prepare_series
        self._by_digest: dict[bytes, Series | Violation] = {}
        self.by_point: dict[tuple[Any, ...], Series] = {}
        self.size = 0

    def find(self, namespace: str, metric: str, dimensions: Mapping[str, Any]) -> Series | Violation:
        """The series, or why the destination takes none of its points.

        A series is visible to another event of this process only once it is prepared.
        """
        if not are_texts(dimensions):
            dimensions = {name: as_text(value) for name, value in dimensions.items()}
        made = Series(namespace, metric, tuple(sorted(dimensions.items())))
        found = self._by_digest.get(made.digest)
        if found is None:
            violation = self._prepare_series(made)
            found = self._by_digest.setdefault(made.digest, made if violation is None else violation)
            self.size += (
                _SERIES_BYTES + _DIMENSION_BYTES * len(made.dimensions) + _COPIES * len(made.encoded_prefix)
            )
        return found

    def remember(self, key: tuple[Any, ...], series: Series) -> None:
        """Recognise a point of this series the next time, by its members as they stand."""
        self.by_point[key] = series
        self.size += _KEY_BYTES + _MEMBER_BYTES * len(key)
        if key[1] is not series.metric:
            # The key has texts of its own, since this is not the point that the series was made from.
            self.size += _TEXT_BYTES * len(key) + len(series.encoded_prefix)


class SeriesCache:
    """Keeps the series of one event for the next, within a bound of bytes.

    Args:
        prepare_series: says what is wrong with a series, whatever the value of its point, and prepares it.
        max_bytes: how much is kept between events, at most.
    """

    def __init__(
        self, prepare_series: Callable[[Series], Violation | None], max_bytes: int = MAX_CACHE_BYTES
    ) -> None:
        self._prepare_series = prepare_series
        self._max_bytes = max_bytes
        self._known = KnownSeries(prepare_series)

    @property
    def size(self) -> int:
        """Bytes that it holds, about."""
        return self._known.size

    def for_event(self) -> KnownSeries:
        """Return the series for one event, to use until its end: its points share one object for each series."""
        self.evict_if_full()
        return self._known

    def evict_if_full(self) -> None:
        """Forget everything if it takes too many bytes; an event under way keeps its series."""
        if self._known.size > self._max_bytes:
            self._known = KnownSeries(self._prepare_series)


def are_texts(dimensions: Mapping[str, Any]) -> bool:
    """Whether all values are texts."""
    return {*map(type, dimensions.values())} <= _TEXTS


_TEXTS = {str}


def as_text(value: str | float) -> str:
    """A dimension's value or an id, which may be a whole number, as text."""
    return value if isinstance(value, str) else str(int(value))
