"""What reading a trigger event gives, and what it may use besides the event."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple, Protocol
from zlib import crc32

from metric_forwarder.model import Message
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PutRequest, Refusal
from metric_forwarder.secret import Secret


class Answer(Enum):
    """Who is told what became of an event; ``replies`` has one function for each."""

    PLATFORM = "the platform, which redelivers what raises"
    CALLER = "whoever invoked the function, who reads the report"
    HTTP_CLIENT = "an HTTP client, who reads a status and the report"
    PUT_MONITOR_DATA = "a client of the receiver, who reads a return code"


class Decoded(NamedTuple):
    """What a trigger event holds: the name of its kind, as in a report, its messages, and who is answered."""

    trigger: str
    messages: Iterable[Message]
    answer: Answer


class Refused(NamedTuple):
    """An HTTP request that is not let in: nothing of it was decoded, its client still has it all.

    ``reason`` says what would be right; it goes to the client and into the log. ``code`` is what a client of the
    receiver is told; None for every other client.
    """

    status: int
    reason: str
    headers: Mapping[str, str] = {}
    code: ReturnCode | None = None


def nth(index: int) -> str:
    """How a report names a record that does not name itself."""
    return f"record {index}"


def coordinates_of(kind: str, *parts: str) -> str:
    """Join what names a message into coordinates that no other parts make, whatever characters they hold."""
    return f"{kind}/{json.dumps(parts, separators=(',', ':'))}"


def checksum(body: Any) -> int:
    """What tells two bodies apart that came with the same coordinates."""
    if type(body) is not str and type(body) is not bytes:
        try:
            body = json.dumps(body, sort_keys=True)
        except (TypeError, ValueError, RecursionError):
            # No platform hands that over: JSON has no such value.
            return 0
    return crc32(body if type(body) is bytes else body.encode("utf-8", "surrogatepass"))


class Unreadable(Exception):
    """Bytes that cannot be had; ``retriable``: not this time, so the platform must redeliver the event.

    It never leaves this package: a reader makes a broken message of it.
    """

    def __init__(self, reason: str, *, retriable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retriable = retriable


class TooLarge(Unreadable):
    """More bytes than are read."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"holds more than {limit // 2**20} MB: split it")


class ObjectName(NamedTuple):
    """Where an object is stored: ``bucket`` with its APPID, ``region`` by its full name, ``key`` as it was given."""

    bucket: str
    region: str
    key: str


class StoredObject(NamedTuple):
    """An object being read.

    ``version`` is the same when the same content is read again and differs once it was replaced, empty if unknown.
    ``chunks`` raises ``Unreadable`` where it breaks off. Whoever opened it closes it.
    """

    version: str
    chunks: Iterator[bytes]
    close: Callable[[], None]


class Patience(Protocol):
    """How long something may still take; see ``clock.Deadline``."""

    def remaining(self) -> float: ...


class ObjectSource(Protocol):
    """Fetches the object that an event only names."""

    def open(self, name: ObjectName, patience: Patience) -> StoredObject:
        """Begin to read an object.

        Raises:
            Unreadable: it cannot be fetched, now or for good.
        """


class _NoObjects:
    def open(self, name: ObjectName, patience: Patience) -> StoredObject:
        del name, patience
        raise Unreadable("is not fetched here", retriable=True)


class _NoPatience:
    def remaining(self) -> float:
        return 0.0


class Gate(Protocol):
    """Lets in requests meant for the receiver, by their signature."""

    def refusal(self, request: PutRequest, patience: Patience) -> Refusal | None:
        """Why this one is not let in; None if it is. A key that has to be read first is waited for no longer than that."""


Body = Callable[[], Any]
"""Reads the body of an HTTP request; raises ``Unreadable``."""


class HttpAccess(NamedTuple):
    """Who is let in over HTTP: whoever knows ``token``, or everyone if the platform itself authenticates.

    Attributes:
        gate: answers requests meant for the receiver; None: they are requests like any other.
        time: the wall clock, Unix seconds.
    """

    token: Secret = Secret("")
    platform_authenticates: bool = False
    gate: Gate | None = None
    time: Callable[[], float] = lambda: 0.0


class Access(NamedTuple):
    """What decoding may use besides the event. As it stands without arguments, HTTP is closed and nothing is fetched.

    Attributes:
        patience: how long fetching may take.
        depth: how many dead letters are around the event being read.
    """

    http: HttpAccess = HttpAccess()
    objects: ObjectSource = _NoObjects()
    patience: Patience = _NoPatience()
    depth: int = 0

    def deeper(self) -> "Access":
        return self._replace(depth=self.depth + 1)


CLOSED = Access()
# For reading an event without a function around it: lets every HTTP request in, fetches nothing.
OFFLINE = Access(http=HttpAccess(platform_authenticates=True))
