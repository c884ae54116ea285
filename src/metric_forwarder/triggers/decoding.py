"""The result of decoding a trigger event, and what decoding may use besides the event."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol
from zlib import crc32

from metric_forwarder.clock import Deadline, SystemClock
from metric_forwarder.model import Message
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.secret import Secret
from metric_forwarder.triggers.traits import TriggerTraits

# An asynchronous event has at most 128 KB, which gzip can inflate to a hundred MB; see ``cos.MAX_OBJECT_BYTES``.
MAX_INFLATED_BYTES = 8 * 2**20
# Ten times the largest message: logs are compressed about tenfold, a bomb much more.
_MAX_INFLATED_IN_MESSAGE = 2**20


class Decoded(NamedTuple):
    """What a trigger event holds: its messages, and the traits of its trigger."""

    traits: TriggerTraits
    messages: Iterable[Message]


class HttpRefusal(NamedTuple):
    """An HTTP request that is refused: nothing of it was decoded, and its client still has all of it.

    ``reason`` says what would be right; it goes to the client and into the log. ``code`` is the return code for a client
    of the receiver; None for any other client.
    """

    status: int
    reason: str
    headers: Mapping[str, str] = {}
    code: ReturnCode | None = None


def nth(index: int) -> str:
    """Return the name that a report gives to a record without one."""
    return f"record {index}"


def coordinates_of(kind: str, *parts: str) -> str:
    """Join the parts of a message's name into coordinates that no other parts result in, with any characters."""
    return f"{kind}/{json.dumps(parts, separators=(',', ':'))}"


def checksum(body: Any) -> int:
    """Return a number that distinguishes two bodies with the same coordinates."""
    if type(body) is str:
        return crc32(body.encode("utf-8", "surrogatepass"))
    if type(body) is bytes:
        return crc32(body)
    try:
        return crc32(json.dumps(body, sort_keys=True).encode())
    except (TypeError, ValueError, RecursionError):
        # The value is not JSON, so no platform passes it on.
        return 0


class Unreadable(Exception):
    """Bytes that cannot be read; ``retriable``: a redelivery may help, so the platform must redeliver the event.

    It never leaves the package ``triggers``: a reader turns it into a broken message.
    """

    def __init__(self, reason: str, *, retriable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retriable = retriable


class TooLarge(Unreadable):
    """There are more bytes than may be read."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"holds more than {limit // 2**20} MB: split it")


class ObjectName(NamedTuple):
    """The place of an object: ``bucket`` with its APPID, ``region`` by its full name, ``key`` as in the event."""

    bucket: str
    region: str
    key: str


class StoredObject(NamedTuple):
    """An object being read.

    ``version`` stays the same until the content is replaced; empty if unknown. ``chunks`` raises ``Unreadable`` if the
    object breaks off. The opener must close it.
    """

    version: str
    chunks: Iterator[bytes]
    close: Callable[[], None]


class ObjectSource(Protocol):
    """Fetches an object that an event names."""

    def open(self, name: ObjectName, deadline: Deadline) -> StoredObject:
        """Begin to read an object; reading may go on until the deadline.

        Raises:
            Unreadable: it cannot be fetched.
        """


class _NoObjects:
    def open(self, name: ObjectName, deadline: Deadline) -> StoredObject:
        del name, deadline
        raise Unreadable("is not fetched here", retriable=True)


class BodyStart(NamedTuple):
    """The beginning of a body, for checks before the body is trusted.

    Attributes:
        content: all of an uncompressed body, or the beginning of a compressed one, inflated.
        is_whole: whether this is the whole body.
    """

    content: bytes
    is_whole: bool


class RequestBody(Protocol):
    """The body of an HTTP request, which is inflated only as far as needed. Both methods raise ``Unreadable``."""

    def start(self, limit: int) -> BodyStart:
        """Return the body without inflating more than ``limit`` bytes."""

    def read(self) -> Any:
        """Return all of it: text, bytes, or a value that a gateway has decoded."""


class Bridge(Protocol):
    """Serves clients of the receiver in its place; see ``bridge``, which is loaded only where a setting opens it."""

    def serves(self, event: Mapping[str, Any]) -> bool:
        """Return whether a request is meant for the receiver."""

    def decode(
        self, event: Mapping[str, Any], body: RequestBody, deadline: Deadline
    ) -> Decoded | HttpRefusal:
        """Authenticate and read such a request; wait until the deadline for a key that must be fetched."""


class HttpAccess(NamedTuple):
    """Which HTTP clients are let in: those that send ``token``, or all if the platform itself authenticates.

    Attributes:
        bridge: handles requests meant for the receiver; None: they are read like any other request.
        is_open: let everybody in; used where nothing is delivered.
    """

    token: Secret = Secret("")
    platform_authenticates: bool = False
    bridge: Bridge | None = None
    is_open: bool = False


class AllowedBuckets(NamedTuple):
    """The buckets whose objects are fetched: those listed, or, without a list, those of the function's own account.

    The sender of an event chooses the bucket, and the request is signed with the function's role.

    Attributes:
        app_id: of the account that the function runs in; empty: unknown.
        names: full names, with their APPID.
        is_any: allow every bucket; used where nothing is fetched.
    """

    app_id: str = ""
    names: tuple[str, ...] = ()
    is_any: bool = False

    def __contains__(self, bucket: object) -> bool:
        if self.is_any or self.names:
            return self.is_any or bucket in self.names
        return isinstance(bucket, str) and bool(self.app_id) and bucket.endswith(f"-{self.app_id}")


_NO_TIME = Deadline(SystemClock(), float("-inf"))


class DecodeContext(NamedTuple):
    """What decoding may use besides the event. By default, HTTP is closed and nothing is fetched.

    Attributes:
        http: which HTTP clients are let in.
        objects: fetches the objects that an event names.
        buckets: the buckets that it may fetch from.
        deadline: fetching must end by then.
        depth: how many dead letters are around the event being read.
        is_in_message: whether the event is inside of a message, which the platform has not written.
        max_inflated_bytes: the limit for compressed data in the event itself.
    """

    http: HttpAccess = HttpAccess()
    objects: ObjectSource = _NoObjects()
    buckets: AllowedBuckets = AllowedBuckets()
    deadline: Deadline = _NO_TIME
    depth: int = 0
    is_in_message: bool = False
    max_inflated_bytes: int = MAX_INFLATED_BYTES

    def nested(self) -> "DecodeContext":
        """Return the context for the event inside of a dead letter."""
        return self._replace(depth=self.depth + 1)

    def in_message(self) -> "DecodeContext":
        """Return the context for an event inside of a message: it gets no object and no access over HTTP.

        A writer of messages must not make the function do what only the platform may ask for.
        """
        return self._replace(
            http=HttpAccess(),
            objects=_NoObjects(),
            is_in_message=True,
            max_inflated_bytes=_MAX_INFLATED_IN_MESSAGE,
        )


CLOSED = DecodeContext()
# For reading an event outside of a function: accepts every HTTP request, fetches nothing.
OFFLINE = DecodeContext(HttpAccess(is_open=True), buckets=AllowedBuckets(is_any=True))
