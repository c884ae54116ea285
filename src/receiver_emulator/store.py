"""What the receiver holds: the points that it accepted, and a record of every request.

The server's thread writes, and any thread may read; every method takes the lock.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from metric_forwarder.model import Outcome
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PutRequest, Refusal, WirePoint
from receiver_emulator.activity import Activity, SeenRequest

# With these faults a request gets no reply.
_UNANSWERED = ("reset", "hang")


class StoredPoint(TypedDict):
    """A point as ``GET /-/points`` shows it; ``receivedAt`` is in Unix seconds by the receiver's clock."""

    namespace: str
    metricName: str
    dimensions: dict[str, str | int | float]
    value: int | float
    receivedAt: float


class RequestRecord(TypedDict):
    """A request as ``GET /-/requests`` shows it.

    ``number`` counts the requests from 1, ``connection`` the TCP connections from 1: two requests with the same number used
    one connection. ``secretId`` to ``timestamp`` are null if the request could not be read. ``fault`` is the fault that was
    applied. ``code`` is null if the reply had no return code, ``status`` if there was no HTTP status; both are null while
    the request waits. ``durationMs`` is the time from arrival to reply, null if there was no reply. ``stored`` says whether
    the points are held.
    """

    number: int
    receivedAt: float
    method: str
    path: str
    bytes: int
    connection: int
    secretId: str | None
    namespace: str | None
    points: int | None
    nonce: int | None
    timestamp: int | None
    fault: str | None
    code: int | None
    status: int | None
    durationMs: float | None
    stored: bool


@dataclass(frozen=True)
class Arrival:
    """What is known of a request before it is processed."""

    at: float
    method: str
    path: str
    size: int
    connection: int
    parsed: PutRequest | Refusal


class Store:
    """Points and requests, in the order in which they arrived.

    Attributes:
        activity: the newest ones, for the page.
    """

    def __init__(self) -> None:
        self.activity = Activity()
        self._lock = threading.Lock()
        self._batches: list[tuple[str, float, Sequence[WirePoint]]] = []
        self._requests: list[RequestRecord] = []
        self._count = 0

    def record(self, arrival: Arrival, fault: str | None) -> RequestRecord:
        """Add the record of a request; ``keep`` and ``settle`` complete it."""
        with self._lock:
            self._count += 1
            record = _new_record(arrival, fault, self._count)
            self._requests.append(record)
        self.activity.put_request(_seen(record))
        return record

    def keep(self, record: RequestRecord, request: PutRequest, received_at: float) -> None:
        """Hold the request's points."""
        # Whole batches are kept: points are made of them when someone reads, which is rarer than writing.
        with self._lock:
            record["stored"] = True
            self._batches.append((request.namespace, received_at, request.data))
        self.activity.add_points(received_at, request.namespace, request.data, Outcome.DELIVERED.value)

    def refuse(self, request: PutRequest, received_at: float) -> None:
        """Show on the page the points of a request that was refused; they are not held."""
        self.activity.add_points(received_at, request.namespace, request.data, Outcome.REJECTED.value)

    def settle(self, record: RequestRecord, *, code: int | None, status: int | None, ms: float) -> None:
        """Note the reply. Call it before the reply is sent, so that the client can already read it here."""
        with self._lock:
            record["code"], record["status"], record["durationMs"] = code, status, round(ms, 3)
            seen = _seen(record)
        self.activity.put_request(seen)

    def points(self, last: int | None = None) -> list[StoredPoint]:
        """Return the points held, oldest first; with ``last``, only that many of the newest."""
        with self._lock:
            batches = list(self._batches)
        newest_first: list[StoredPoint] = []
        for namespace, received_at, data in reversed(batches):
            if last is not None and len(newest_first) >= last:
                break
            newest_first.extend(_stored(namespace, received_at, point) for point in reversed(data))
        return newest_first[:last][::-1]

    def requests(self, last: int | None = None) -> list[RequestRecord]:
        """Return the records, oldest first; with ``last``, only that many of the newest."""
        with self._lock:
            first = 0 if last is None else max(0, len(self._requests) - last)
            return [record.copy() for record in self._requests[first:]]

    def clear(self) -> None:
        with self._lock:
            self._batches.clear()
            self._requests.clear()
        self.activity.clear()


def _stored(namespace: str, received_at: float, point: WirePoint) -> StoredPoint:
    return {
        "namespace": namespace,
        "metricName": point["metricName"],
        "dimensions": point["dimensions"],
        "value": point["value"],
        "receivedAt": received_at,
    }


def _seen(record: RequestRecord) -> SeenRequest:
    """Return a request as the page shows it."""
    code, status = record["code"], record["status"]
    answer = f"HTTP {status}" if status is not None else None
    if record["fault"] in _UNANSWERED:
        answer = "no reply"
    return {
        "number": record["number"],
        "at": record["receivedAt"],
        "points": record["points"],
        "namespace": record["namespace"],
        "bytes": record["bytes"],
        "fault": record["fault"],
        "answer": answer if code is None else str(code),
        "ok": None if code is None and answer is None else code == 0,
        "meaning": "" if not code else ReturnCode(code).meaning,
        "ms": record["durationMs"],
    }


def _new_record(arrival: Arrival, fault: str | None, number: int) -> RequestRecord:
    record: RequestRecord = {
        "number": number,
        "receivedAt": arrival.at,
        "method": arrival.method,
        "path": arrival.path,
        "bytes": arrival.size,
        "connection": arrival.connection,
        "secretId": None,
        "namespace": None,
        "points": None,
        "nonce": None,
        "timestamp": None,
        "fault": fault,
        "code": None,
        "status": None,
        "durationMs": None,
        "stored": False,
    }
    if isinstance(arrival.parsed, PutRequest):
        _describe(record, arrival.parsed)
    return record


def _describe(record: RequestRecord, request: PutRequest) -> None:
    record["secretId"] = request.secret_id
    record["namespace"] = request.namespace
    record["points"] = len(request.data)
    record["nonce"] = request.nonce
    record["timestamp"] = request.timestamp
