"""The readings that a format makes from a message, in the terms that all destinations share.

A decoder is total: it takes text or bytes and a hint, and yields one reading for each sample of the producer, in the
producer's order. It never raises because of what a producer wrote, and it limits depth, lengths, counts and decompressed
sizes before it takes the memory for them. A bad line or field is one ``InvalidSample``; the others are read. It does not
know triggers and destinations.
"""

__all__ = [
    "MAX_SAMPLES",
    "NO_FLOAT",
    "TOO_MANY",
    "Decoder",
    "FilteredSample",
    "FormatHint",
    "InvalidSample",
    "Reading",
    "Sample",
    "WrongSample",
    "as_point",
    "make_sample",
]

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

from metric_forwarder.model import FormatHint

# In one message; every point of an event has a row until its report is written.
MAX_SAMPLES = 100_000
TOO_MANY = f"stands in a message of more than {MAX_SAMPLES} samples"

# The NaN with which Prometheus marks the end of a series. Only its bits distinguish it from other NaNs.
_STALE_BITS = struct.pack("<Q", 0x7FF0_0000_0000_0002)
STALE_MARKER: float = struct.unpack("<d", _STALE_BITS)[0]


def is_stale_marker(value: float) -> bool:
    """Whether a value marks the end of a series, which only remote write can carry."""
    return value != value and struct.pack("<d", value) == _STALE_BITS  # noqa: PLR0124 - how NaN is told


# The message for a number that does not fit into a float.
NO_FLOAT = "is a number that does not fit into a 64-bit float: the largest is 1.7976931348623157e308"


class Sample(NamedTuple):
    """One value of one series.

    Attributes:
        where: its place in the producer's own terms: a JSON pointer, or ``line 12``, ``line 12 field usage_idle``.
        metric: its name, as it goes to a destination.
        dimensions: its labels or tags, without the metric's name.
        value: may be NaN or infinite: the destination says whether it takes that.
        time_ns: Unix nanoseconds, as precisely as the producer wrote them; None: the time of the message.
        is_delta: a sum since the last report of its producer, rather than since its start.
        namespace: if empty, ``MF_NAMESPACE`` is used.
        apart: digests of what its producer wrote besides, or with other names, by which it is told apart from others of its
            series; only its identity covers it. Usually empty.
    """

    where: str
    metric: str
    dimensions: Mapping[str, str]
    value: float | int
    time_ns: int | None = None
    is_delta: bool = False
    namespace: str = ""
    apart: str = ""


def as_point(sample: Sample) -> dict[str, Any]:
    """The members of a point for a sample, without its time, which a point's JSON cannot always express."""
    members = {"metricName": sample.metric, "dimensions": dict(sample.dimensions), "value": sample.value}
    return {**members, "namespace": sample.namespace} if sample.namespace else members


# Makes one of all its members, in half the time.
make_sample: Callable[[tuple[Any, ...]], Sample] = partial(tuple.__new__, Sample)


class InvalidSample(NamedTuple):
    """A sample that cannot be read.

    Attributes:
        where: as in ``Sample``.
        rule: a word for what is wrong, as the report shows it.
        message: what is wrong and what would be right; never more of the payload than a name.
        raw: the dead letter to keep: the line, or decoded JSON.
        format: the format of ``raw``, a name of ``formats.Format``, if it differs from the message's.
    """

    where: str
    rule: str
    message: str
    raw: Any
    format: str | None = None


class WrongSample(Exception):
    """Why a sample cannot be read: its ``rule`` and its message; a decoder turns it into an ``InvalidSample``."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


class FilteredSample(NamedTuple):
    """A sample that the format's own mapping leaves out on purpose, such as a text field.

    Attributes:
        where: as in ``Sample``.
        rule: a word for the reason, as the report shows it.
        message: why it is left out.
    """

    where: str
    rule: str
    message: str


Reading = Sample | InvalidSample | FilteredSample


class Decoder(Protocol):
    """Reads the messages of one format."""

    def __call__(self, body: str | bytes, hint: FormatHint) -> Iterator[Reading]: ...
