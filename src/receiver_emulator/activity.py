"""What the page shows: the newest points, requests and reports, bounded in number and age.

Any thread may write and read. A reader names the run and the last change that it knows, and gets the later ones.
"""

import math
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypedDict

from metric_forwarder.model import Outcome
from metric_forwarder.put_monitor_data.server import WirePoint

# The longest time window of the page.
KEPT_S = 3600.0
_MOST_POINTS = 100_000
_MOST_REQUESTS = 2_000
_MOST_REPORTS = 2_000
_POINTS_PER_REPLY = 50_000
_ERRORS_PER_REPORT = 5
# A receiver has some dozens of return codes.
_CODES_PER_REPORT = 50
_TEXT_LENGTH = 400


class SeenRequest(TypedDict):
    """A request to a destination, as the page shows it.

    ``number`` identifies the request. ``answer`` is a return code, or a text such as ``HTTP 503``; null while there is no
    reply. ``ok`` says whether it was a success; null while there is no reply. ``meaning`` explains the reply.
    """

    number: int
    at: float
    points: int | None
    namespace: str | None
    bytes: int | None
    fault: str | None
    answer: str | None
    ok: bool | None
    meaning: str
    ms: float | None


class _Batch(NamedTuple):
    change: int
    at: float
    namespace: str
    points: Sequence[WirePoint]
    state: str


class Activity:
    """Keeps what the page shows.

    Args:
        now: returns Unix seconds, by the clock whose times are shown.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._change = 0
        self._forget()

    def _forget(self) -> None:
        self._run = secrets.token_hex(8)
        self._points = 0
        self._batches: deque[_Batch] = deque()
        self._requests: OrderedDict[int, tuple[int, SeenRequest]] = OrderedDict()
        self._reports: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_MOST_REPORTS)

    def add_points(self, at: float, namespace: str, points: Sequence[WirePoint], state: str) -> None:
        """Add points that arrived together; ``state`` is ``delivered``, or another outcome."""
        with self._lock:
            self._batches.append(_Batch(self._next(), at, namespace, points, state))
            self._points += len(points)
            while self._batches and (self._points > _MOST_POINTS or self._batches[0].at < at - KEPT_S):
                self._points -= len(self._batches.popleft().points)

    def put_request(self, request: SeenRequest) -> None:
        """Add a request, or replace what was known of it."""
        with self._lock:
            self._requests.pop(request["number"], None)
            self._requests[request["number"]] = self._next(), request
            if len(self._requests) > _MOST_REQUESTS:
                self._requests.popitem(last=False)

    def add_report(self, report: object) -> bool:
        """Add the function's report of an event; return False if it is not a report."""
        shown = _read_report(report)
        if shown is None:
            return False
        with self._lock:
            self._reports.append((self._next(), {"at": self._now(), **shown}))
        return True

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._forget()

    def read(self, run: str, after: int) -> dict[str, Any]:
        """Return the changes after the change ``after`` of that run; all of them, if the current run is another."""
        with self._lock:
            after = after if run == self._run else 0
            batches = _newer(self._batches, after)
            requests = [row[1] for row in _newer(self._requests.values(), after)]
            reports = [row[1] for row in _newer(self._reports, after)]
            state = {"run": self._run, "next": self._change, "now": self._now()}
        series, rows, was_cut = _rows(batches)
        return state | {
            "series": series,
            "points": rows,
            "cut": was_cut,
            "requests": requests,
            "reports": reports,
        }

    def _next(self) -> int:
        self._change += 1
        return self._change


def _newer(changes: Any, after: int) -> list[Any]:
    """Return the rows whose first member is greater than ``after``, the oldest first."""
    newer = []
    for row in reversed(changes):
        if row[0] <= after:
            break
        newer.append(row)
    return newer[::-1]


def _rows(batches: Sequence[_Batch]) -> tuple[list[Any], list[Any], bool]:
    """Return a table of series, the newest points as rows that point into it, and whether older points were left out."""
    series: list[Any] = []
    places: dict[Any, int] = {}
    newest_first: list[Any] = []
    for batch in reversed(batches):
        if len(newest_first) >= _POINTS_PER_REPLY:
            return series, newest_first[::-1], True
        for point in reversed(batch.points):
            dimensions = point["dimensions"]
            key = (
                batch.namespace,
                point["metricName"],
                tuple(sorted(dimensions.items(), key=lambda pair: pair[0])),
            )
            place = places.setdefault(key, len(series))
            if place == len(series):
                series.append(
                    [batch.namespace, point["metricName"], {name: str(text) for name, text in key[2]}]
                )
            newest_first.append([place, batch.at, _as_json(point["value"]), batch.state])
    return series, newest_first[::-1], False


def _as_json(value: float) -> int | float | str:
    """Return the number if JSON and a browser can hold it, otherwise its text."""
    return value if math.isfinite(value) and abs(value) < 2**1023 else str(value)


def _read_report(report: object) -> dict[str, Any] | None:
    """Return the members that are shown; None if it is not a report. Any program on this machine may have sent it."""
    if not isinstance(report, Mapping) or not isinstance(report.get("outcomes"), Mapping):
        return None
    requests = report.get("requests")
    codes = requests.get("returnCodes") if isinstance(requests, Mapping) else None
    known = {outcome.value for outcome in Outcome}
    return {
        "status": _text(report.get("status")),
        "trigger": _text(report.get("trigger")),
        "received": _count(report.get("received")),
        "durationMs": _count(report.get("durationMs")),
        "outcomes": {name: _count(count) for name, count in report["outcomes"].items() if name in known},
        "returnCodes": {_text(label): _count(count) for label, count in islice(codes.items(), _CODES_PER_REPORT)}
        if isinstance(codes, Mapping)
        else {},
        "errors": [
            {member: _text(error.get(member)) for member in ("outcome", "rule", "message", "source")}
            for error in _objects(report.get("errors"))
        ],
        "filtered": [
            {"rule": _text(reason.get("rule")), "message": _text(reason.get("message")), "count": _count(reason.get("count"))}
            for reason in _objects(report.get("filtered"))
        ],
    }  # fmt: skip


def _objects(value: object) -> list[Mapping[str, Any]]:
    rows = value if isinstance(value, list) else []
    return [row for row in rows[:_ERRORS_PER_REPORT] if isinstance(row, Mapping)]


def _text(value: object) -> str:
    return str(value)[:_TEXT_LENGTH] if isinstance(value, str | int) else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0
