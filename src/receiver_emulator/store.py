"""What the receiver holds: the points it accepted and a record of every request.

The server's thread writes and any thread reads; every method takes the lock.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from metric_forwarder.put_monitor_data.server import PutRequest, Rejection, WirePoint


class StoredPoint(TypedDict):
    """A point as ``GET /-/points`` shows it; ``receivedAt`` is in Unix seconds by the receiver's clock."""

    namespace: str
    metricName: str
    dimensions: dict[str, str | int | float]
    value: int | float
    receivedAt: float


class RequestRecord(TypedDict):
    """A request as ``GET /-/requests`` shows it.

    ``secretId`` to ``timestamp`` are null where the request could not be read. ``code`` is null where no return
    code was answered, ``status`` where no HTTP status was; both are null while a request waits. ``connection``
    numbers the TCP connections from 1, so that two requests with one number came by keep-alive. ``fault`` names
    the fault that was applied. ``stored`` says whether its points are held.
    """

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
    stored: bool


@dataclass(frozen=True)
class Arrival:
    """What is known of a request before anything has been decided about it."""

    at: float
    method: str
    path: str
    size: int
    connection: int
    parsed: PutRequest | Rejection


class Store:
    """Points and requests, in the order in which they arrived."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches: list[tuple[str, float, Sequence[WirePoint]]] = []
        self._requests: list[RequestRecord] = []

    def record(self, arrival: Arrival, fault: str | None) -> RequestRecord:
        """Add a request's record; ``keep`` and ``settle`` complete it."""
        record = _new_record(arrival, fault)
        with self._lock:
            self._requests.append(record)
        return record

    def keep(self, record: RequestRecord, request: PutRequest, received_at: float) -> None:
        """Hold the request's points."""
        # Whole batches: taking them apart is left to the reader, who is rarer than the writer.
        with self._lock:
            record["stored"] = True
            self._batches.append((request.namespace, received_at, request.data))

    def settle(self, record: RequestRecord, *, code: int | None, status: int | None) -> None:
        """Say what was answered; to be called before the answer leaves, so that its receiver can read it."""
        with self._lock:
            record["code"], record["status"] = code, status

    def points(self, last: int | None = None) -> list[StoredPoint]:
        """Return the points held, oldest first; ``last`` bounds them to the newest so many."""
        with self._lock:
            batches = list(self._batches)
        newest_first: list[StoredPoint] = []
        for namespace, received_at, data in reversed(batches):
            if last is not None and len(newest_first) >= last:
                break
            newest_first.extend(_stored(namespace, received_at, point) for point in reversed(data))
        return newest_first[:last][::-1]

    def requests(self, last: int | None = None) -> list[RequestRecord]:
        """Return the records, oldest first; ``last`` bounds them to the newest so many."""
        with self._lock:
            first = 0 if last is None else max(0, len(self._requests) - last)
            return [record.copy() for record in self._requests[first:]]

    def clear(self) -> None:
        with self._lock:
            self._batches.clear()
            self._requests.clear()


def _stored(namespace: str, received_at: float, point: WirePoint) -> StoredPoint:
    return {
        "namespace": namespace,
        "metricName": point["metricName"],
        "dimensions": point["dimensions"],
        "value": point["value"],
        "receivedAt": received_at,
    }


def _new_record(arrival: Arrival, fault: str | None) -> RequestRecord:
    record: RequestRecord = {
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
