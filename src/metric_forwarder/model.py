"""The values that an event becomes on its way through the package.

trigger event → ``Message`` (one Kafka record, one HTTP body, one timer firing) → ``Point`` (one metric value)
→ a batch of points → one ``Outcome`` for every point.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, NamedTuple

# Copied for each series, which takes half the time of making one.
_EMPTY = hashlib.blake2b(digest_size=16)

# The name of a label in Prometheus.
is_label_name = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII).fullmatch


# The beginning of coordinates whose event is measured again when it is redelivered: they identify a reading without its value.
MEASURED_AGAIN = "scrape/"


class Outcome(str, Enum):
    """The outcome of a point; every received point ends in exactly one.

    ``FILTERED``: left out on purpose, by its format's mapping or by a rule of the user.
    """

    DELIVERED = "delivered"
    DUPLICATE = "duplicate"
    FILTERED = "filtered"
    INVALID = "invalid"
    STALE = "stale"
    REJECTED = "rejected"
    SPOOLED = "spooled"
    UNCERTAIN = "uncertain"
    UNDELIVERED = "undelivered"


# Lost unless a spool keeps them as dead letters: only whoever wrote them, or a setting, can correct them.
BAD = (Outcome.INVALID, Outcome.STALE, Outcome.REJECTED)
# Delivered, kept, or left out on purpose.
SAFE = (Outcome.DELIVERED, Outcome.DUPLICATE, Outcome.SPOOLED, Outcome.FILTERED)


class Problem(NamedTuple):
    """Why a point (or a whole message) was not delivered, for the report.

    ``pointer`` is a JSON pointer (RFC 6901) into the message's payload; ``rule`` the schema keyword or the name of
    the check that failed; ``code`` the destination's return code, if the destination refused it.
    """

    outcome: Outcome
    source: str
    pointer: str
    rule: str
    code: int | None
    message: str


class FormatHint(NamedTuple):
    """What is known about a message besides its body, for the format that reads it.

    Attributes:
        precision: the unit of times without their own unit, such as ``ns`` or ``s``; empty: that of the settings.
        labels: labels that the request gives to each sample, such as those in a Pushgateway's path.
        content_type: as the HTTP request named it; empty if unknown.
        resource_attributes: what becomes of OTLP's resource attributes, except service and instance: ``target_info`` (a
            sample that carries them), ``labels`` (of each sample) or ``filtered``.
        content_encoding: a compression that replaced the format's own, and was removed already; usually empty.
    """

    precision: str = ""
    labels: Mapping[str, str] = {}
    content_type: str = ""
    resource_attributes: str = "target_info"
    content_encoding: str = ""


class Message(NamedTuple):
    """One payload inside a trigger event.

    Attributes:
        source: its name in a report, such as ``demo-topic/0@37``.
        body: text, bytes, or what the platform has decoded already; or a reading of ``formats.samples`` itself.
        coordinates: what stays the same when the platform redelivers it, and differs between two messages;
            None if the trigger has nothing like that.
        time_ms: when the trigger fired, Unix milliseconds, for points without a time; None if unknown.
        receipt: acknowledges it to the spool; None if it does not come from a spool.
        broken: why the payload cannot be read; then the message counts as one invalid point, and a dead letter keeps the body.
        retriable: a broken message may be readable the next time, so its point is undelivered, and the platform redelivers
            it.
        already_validated: its point was valid as the producer wrote it; the spool has written it again.
        left_out: why it is left out on purpose; then it counts as one filtered point.
        places: where the points of its list stood in the message that a producer sent, in the order of the list; empty if
            they still stand there. The spool keeps some points of a message without the others.
        format: a name of ``formats.Format``, if the request names it; None: a setting or its shape decides.
        hint: more information for the format.
    """

    source: str
    body: Any
    coordinates: str | None = None
    time_ms: int | None = None
    broken: str | None = None
    retriable: bool = False
    receipt: int | None = None
    already_validated: bool = False
    places: tuple[str, ...] = ()
    left_out: str | None = None
    format: str | None = None
    hint: FormatHint = FormatHint()

    def place(self, pointer: str) -> str | None:
        """The coordinates of a point in it; they are the same for a replayed and a redelivered point."""
        if self.coordinates is None or not pointer:
            return self.coordinates
        return f"{self.coordinates}#{self.origin(pointer)}"

    def origin(self, pointer: str) -> str:
        """Where a point of it stood in the message that a producer sent."""
        if not self.places:
            return pointer
        index = pointer.rpartition("/")[2]
        is_known = index.isdecimal() and int(index) < len(self.places)
        return self.places[int(index)] if is_known else pointer


class Series:
    """A namespace, a metric name and dimensions, which the values of a curve share.

    Two points of one series may have two of these objects: compare their ``digest``. An instance keeps tens of thousands, so
    that they hold little, and read the rest from ``parts``.

    Attributes:
        parts: namespace, metric name, the names of the dimensions, and then their values, in the order given.
        digest: identifies this series, the same on every instance and for every order of the dimensions.
        encoded_prefix: its bytes in a request, before the value of each point; written by the destination.
    """

    __slots__ = ("digest", "encoded_prefix", "parts")

    def __init__(self, namespace: str, metric: str, dimensions: Mapping[str, str]) -> None:
        self.parts = (namespace, metric, *dimensions, *dimensions.values())
        self.encoded_prefix = b""
        # All as JSON strings, so that none can imitate another.
        pairs = [f"{quoted(name)},{quoted(value)}" for name, value in sorted(dimensions.items())]
        digest = _EMPTY.copy()
        digest.update(",".join([quoted(namespace), quoted(metric), *pairs]).encode("ascii"))
        self.digest = digest.digest()

    @property
    def namespace(self) -> str:
        return self.parts[0]

    @property
    def metric(self) -> str:
        return self.parts[1]

    @property
    def dimensions(self) -> tuple[tuple[str, str], ...]:
        """(name, value) pairs in the order of the names."""
        parts = self.parts
        values = len(parts) // 2 + 1
        return tuple(sorted(zip(parts[2:values], parts[values:], strict=True)))

    def __repr__(self) -> str:
        return f"Series{self.parts}"


class Point(NamedTuple):
    """One valid metric value on its way to a destination.

    Attributes:
        number: its place among the points received with the event, from 0: its row in the ledger.
        value: a number; finite, unless the destination carries other numbers.
        timestamp_ns: the producer's own time, Unix nanoseconds, as precisely as it was written, if it gave one.
        id: the producer's idempotency key, if it gave one; or a digest of what tells the point apart from others of its series.
        message: the message that it came from.
        pointer: its place in the message's payload, a JSON pointer.
        identity: the digest by which it is recognised when it comes again; None if it cannot be distinguished from an
            equal reading.
        time_ms: when it was measured as far as that is known, Unix milliseconds: the producer's own time, else that
            of its message, or the moment it was received.
        wire: its bytes in a request to the destination; a request joins the bytes of its points.
    """

    number: int
    series: Series
    value: int | float
    timestamp_ns: int | None
    id: str | None
    message: Message
    pointer: str
    identity: bytes | None
    time_ms: int
    wire: bytes


class DeadLetter(NamedTuple):
    """A point, or a value that should have been one, that a redelivery cannot help.

    Attributes:
        message: the message that it came from.
        payload: the point, or what the producer wrote instead, without what its envelope gives to all its points.
        pointer: its place in the message's payload, a JSON pointer.
        problem: why it cannot be delivered.
        envelope: what its envelope gives to all its points, such as ``{"namespace": "pc", "dimensions": {…}}``. Points of
            one envelope share one such object.
    """

    message: Message
    payload: Any
    pointer: str
    problem: Problem
    envelope: Mapping[str, Any] | None = None


Batch = Sequence[Point]
