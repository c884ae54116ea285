"""Faults, which disturb requests on demand.

A fault is described by a JSON object; a list of faults is a plan. A request to one of the protocol's two paths meets at most
one fault: the first of the plan that matches it and, if its rate is below 1, is drawn. A fault that has been applied ``times``
times leaves the plan.

| member | meaning |
|---|---|
| ``fault`` | the kind, see below |
| ``value`` | depends on the kind |
| ``times`` | the number of requests to which it is applied; default 1; null: until it is removed |
| ``rate`` | the probability that it is applied to a request that it matches; default 1 |
| ``when`` | ``before``: the request is not processed, and nothing is stored; ``after``: the request is processed, its points are stored if it is valid, and then the fault happens. The default is ``before``; for ``truncate`` it is ``after`` |
| ``match`` | ``{"metricName": …}``, ``{"namespace": …}`` or both: only requests that hold such a point |
| ``headers`` | with ``status`` alone: headers of the reply, such as ``Retry-After`` or ``Location`` |

| kind | what the client receives | ``value`` |
|---|---|---|
| ``code`` | this return code | 0, or 1000 to 1021 |
| ``status`` | this HTTP status, with a page of HTML as a proxy sends it | 200 to 599 |
| ``delay`` | the true reply, late; ``when`` says whether the wait is before or after processing. The request is processed even if its client has disconnected | seconds |
| ``reset`` | a reset of the connection (RST), and no reply | none |
| ``hang`` | nothing, until the connection is closed; it ends early if the client disconnects | seconds; by default until the receiver stops |
| ``garbage`` | HTTP 200 with this text | text; the default is not JSON |
| ``truncate`` | half of the reply (``before``: of a success), although Content-Length announces all of it; then the connection is closed | none |

For ``reset``, ``hang`` and ``truncate``, a ``value`` of ``"before"`` or ``"after"`` has the meaning of ``when``.
"""

import random
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard

from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PutRequest, Refusal

FaultKind = Literal["code", "status", "delay", "reset", "hang", "garbage", "truncate"]
When = Literal["before", "after"]

FAULT_KINDS: tuple[FaultKind, ...] = ("code", "status", "delay", "reset", "hang", "garbage", "truncate")
_WHENS: tuple[When, ...] = ("before", "after")
MEMBERS = ("fault", "value", "times", "rate", "when", "match", "headers")
_MATCHERS = ("metricName", "namespace")
_DEFAULT_GARBAGE = "<html>this is not the reply you are looking for</html>"
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
# The server sets these itself: another value would break the framing of the reply.
_FRAMING_HEADERS = ("connection", "content-length", "transfer-encoding")
_LONGEST_WAIT_S = 86_400.0


class FaultError(ValueError):
    """A fault's description is wrong.

    Attributes:
        member: the wrong member, such as ``rate``.
        expected: what would be right.
    """

    def __init__(self, member: str, expected: str) -> None:
        self.member = member
        self.expected = expected
        super().__init__(f"{member}: {expected}")


@dataclass(frozen=True)
class Fault:
    """One fault; the module's docstring explains each member."""

    kind: FaultKind
    when: When
    code: ReturnCode = ReturnCode.OK
    status: int = 200
    seconds: float | None = None
    content: bytes = b""
    times: int | None = 1
    rate: float = 1.0
    metric_name: str | None = None
    namespace: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    description: Mapping[str, Any] = field(default_factory=dict)

    def matches(self, request: PutRequest | Refusal | None) -> bool:
        if self.metric_name is None and self.namespace is None:
            return True
        return (
            isinstance(request, PutRequest)
            and self.namespace in (None, request.namespace)
            and (
                self.metric_name is None
                or any(point["metricName"] == self.metric_name for point in request.data)
            )
        )


class FaultPlan:
    """The faults that remain. Any thread may change it while requests are served."""

    def __init__(self, draw: random.Random) -> None:
        self._lock = threading.Lock()
        self._draw = draw
        self._pending: list[_Pending] = []
        self._count = 0

    def add(self, *faults: Fault) -> None:
        with self._lock:
            for fault in faults:
                self._count += 1
                self._pending.append(_Pending(fault, fault.times, self._count))

    def take(self, request: PutRequest | Refusal | None = None) -> Fault | None:
        """Return the fault that this request meets, if any, and count it as applied; ``request`` is None for another protocol."""
        if not self._pending:
            return None
        with self._lock:
            for pending in self._pending:
                if pending.fault.matches(request) and self._is_drawn(pending.fault.rate):
                    self._use(pending)
                    return pending.fault
        return None

    def pending(self) -> list[dict[str, Any]]:
        """Return the descriptions of the faults that remain; ``times`` is how often each will still be applied."""
        with self._lock:
            return [pending.description() for pending in self._pending]

    def numbered(self) -> list[dict[str, Any]]:
        """Return the same, each with the ``number`` by which it can be removed."""
        with self._lock:
            return [{**pending.description(), "number": pending.number} for pending in self._pending]

    def remove(self, number: int) -> bool:
        """Remove one fault; return whether there was one of this number."""
        with self._lock:
            left = [pending for pending in self._pending if pending.number != number]
            is_found = len(left) < len(self._pending)
            self._pending = left
        return is_found

    def clear(self) -> None:
        with self._lock:
            self._pending.clear()

    def _is_drawn(self, rate: float) -> bool:
        return rate >= 1.0 or self._draw.random() < rate

    def _use(self, pending: "_Pending") -> None:
        if pending.left is None:
            return
        pending.left -= 1
        if pending.left == 0:
            self._pending.remove(pending)


@dataclass(eq=False)
class _Pending:
    fault: Fault
    left: int | None
    number: int

    def description(self) -> dict[str, Any]:
        return {**self.fault.description, "times": self.left}


# --- from a description to a fault -------------------------------------------------------------------------


def parse_faults(document: object) -> list[Fault]:
    """Read one description or a list of them.

    Raises:
        FaultError: names the first wrong member. Then no fault of the list must be applied.
    """
    if not isinstance(document, list):
        return [parse_fault(document)]
    return [_parse_at(index, description) for index, description in enumerate(document)]


def _parse_at(index: int, description: object) -> Fault:
    try:
        return parse_fault(description)
    except FaultError as error:
        raise FaultError(f"{index}/{error.member}", error.expected) from None


def parse_fault(description: object) -> Fault:
    """Read one description; raises ``FaultError``."""
    if not isinstance(description, dict):
        raise FaultError("fault", "a fault is an object such as {'fault': 'code', 'value': 1003}")
    for member in description:
        if member not in MEMBERS:
            raise FaultError(str(member), f"unknown; the members are {', '.join(MEMBERS)}")
    kind = _kind(description.get("fault"))
    when, value = _when(kind, description.get("when"), description.get("value"))
    return Fault(
        kind=kind,
        when=when,
        times=_times(description.get("times", 1)),
        rate=_rate(description.get("rate", 1.0)),
        headers=_headers(kind, description.get("headers", {})),
        description=dict(description),
        **_matcher(description.get("match", {})),
        **_VALUES[kind](value),
    )


def _kind(value: object) -> FaultKind:
    if value not in FAULT_KINDS:
        raise FaultError("fault", f"one of {', '.join(FAULT_KINDS)}")
    return value


def _when(kind: FaultKind, when: object, value: object) -> tuple[When, object]:
    if when is None and kind in ("reset", "hang", "truncate") and value in _WHENS:
        when, value = value, None
    if when is None:
        when = "after" if kind == "truncate" else "before"
    if when not in _WHENS:
        raise FaultError("when", "'before' or 'after' processing")
    return when, value


def _times(value: object) -> int | None:
    if value is not None and not (_is_integer(value) and value > 0):
        raise FaultError("times", "a positive integer, or null: until it is removed")
    return value


def _rate(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise FaultError("rate", "a number from 0 to 1")
    return float(value)


def _matcher(value: object) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise FaultError("match", "an object of strings, such as {'metricName': 'diskusage'}")
    if any(member not in _MATCHERS for member in value):
        raise FaultError("match", f"its members are {' and '.join(_MATCHERS)}")
    return {"metric_name": value.get("metricName"), "namespace": value.get("namespace")}


def _headers(kind: FaultKind, value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or (value and kind != "status"):
        raise FaultError("headers", "an object of strings, and only with the fault 'status'")
    for name, text in value.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name) or name.lower() in _FRAMING_HEADERS:
            raise FaultError("headers", f"legal names other than {', '.join(_FRAMING_HEADERS)}")
        if not isinstance(text, str) or not _HEADER_VALUE.fullmatch(text):
            raise FaultError("headers", "values of printable ASCII")
    return value


def _code_value(value: object) -> dict[str, Any]:
    codes = {int(code): code for code in ReturnCode}
    if not _is_integer(value) or value not in codes:
        raise FaultError("value", "a return code: 0, or 1000 to 1021")
    return {"code": codes[value]}


def _status_value(value: object) -> dict[str, Any]:
    if not _is_integer(value) or not 200 <= value <= 599:  # noqa: PLR2004 -- the range of final statuses
        raise FaultError("value", "an HTTP status from 200 to 599")
    return {"status": value}


def _delay_value(value: object) -> dict[str, Any]:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _LONGEST_WAIT_S:
        raise FaultError("value", f"seconds from 0 to {_LONGEST_WAIT_S:g}")
    return {"seconds": float(value)}


def _hang_value(value: object) -> dict[str, Any]:
    return {} if value is None else _delay_value(value)


def _garbage_value(value: object) -> dict[str, Any]:
    if isinstance(value, bytes):
        return {"content": value}
    if not isinstance(value, str | None):
        raise FaultError("value", "text, or nothing")
    text = _DEFAULT_GARBAGE if value is None else value
    return {"content": text.encode("utf-8", "surrogatepass")}


def _no_value(value: object) -> dict[str, Any]:
    if value is not None:
        raise FaultError("value", "'before', 'after' or nothing")
    return {}


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


_VALUES: Mapping[FaultKind, Callable[[object], dict[str, Any]]] = {
    "code": _code_value,
    "status": _status_value,
    "delay": _delay_value,
    "reset": _no_value,
    "hang": _hang_value,
    "garbage": _garbage_value,
    "truncate": _no_value,
}
