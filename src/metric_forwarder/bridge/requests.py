"""A request meant for the receiver, sent to the function instead: ``/v2/index.php`` or ``/report.cgi`` of any host.

It is read and authenticated as the receiver does (``put_monitor_data.server``) and answered in the receiver's terms. What a
gateway puts in front of the path, such as ``/release``, is taken off; both paths may be the signed one. Sources: the
receiver's own document; Tencent Cloud, SCF Function URL and API Gateway trigger.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode

from metric_forwarder.clock import Deadline
from metric_forwarder.model import Message
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PATHS, PutRequest, Rejection, parse_request, reject
from metric_forwarder.triggers.decoding import (
    Decoded,
    HttpRejection,
    ReadBody,
    TooLarge,
    Unreadable,
)
from metric_forwarder.triggers.traits import PUT_MONITOR_DATA


class Authenticator(Protocol):
    """Lets in requests meant for the receiver, by their signature."""

    def check(self, request: PutRequest, deadline: Deadline) -> Rejection | None:
        """Return why a request is not let in, or None if it is; a key that has to be fetched is waited for so long."""


class ReceiverBridge:
    """A ``triggers.decoding.Bridge``.

    Args:
        authenticator: decides who is let in.
        time: the wall clock, Unix seconds.
    """

    def __init__(self, authenticator: Authenticator, time: Callable[[], float]) -> None:
        self._authenticator = authenticator
        self._time = time

    def serves(self, event: Mapping[str, Any]) -> bool:
        """Return whether a request's path is one of the receiver's."""
        path = event.get("path")
        return isinstance(path, str) and path.isascii() and path.endswith(PATHS)

    def decode(
        self, event: Mapping[str, Any], read_body: ReadBody, deadline: Deadline
    ) -> Decoded | HttpRejection:
        """Authenticate and read a request whose path is the receiver's."""
        # The receiver stamps points on arrival.
        arrival_ms = round(self._time() * 1000)
        request = _authenticated(event, _parse(event, read_body), self._authenticator, deadline)
        if isinstance(request, Rejection):
            return HttpRejection(200, request.message, code=request.code)
        payload = {"Namespace": request.namespace, "Data": [_point(point) for point in request.data]}
        message = Message("body", payload, _coordinates(request, payload), arrival_ms)
        return Decoded(PUT_MONITOR_DATA, (message,))


def _parse(event: Mapping[str, Any], read_body: ReadBody) -> PutRequest | Rejection:
    method = event["httpMethod"]
    method = method.upper() if isinstance(method, str) else ""
    path = next(path for path in PATHS if event["path"].endswith(path))
    if method != "POST":
        return parse_request(method, path, _query(event), b"")
    try:
        body = _as_bytes(read_body())
    except TooLarge as too_large:
        return reject(ReturnCode.DATA_TOO_LONG, f"the body {too_large.reason}")
    except Unreadable as unreadable:
        return reject(ReturnCode.NOT_JSON, f"the body {unreadable.reason}")
    return parse_request(method, path, "", body)


def _as_bytes(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    try:
        text = body if isinstance(body, str) else json.dumps(body)
    except (TypeError, ValueError, RecursionError):
        raise Unreadable("was decoded on the way into something that is not JSON") from None
    return text.encode("utf-8", "surrogatepass")


def _query(event: Mapping[str, Any]) -> str:
    """The query string, made anew from its decoded members; of a name given twice the last counts."""
    members = event.get("queryString")
    if not isinstance(members, dict):
        members = event.get("queryStringParameters")
    pairs = {str(name): _last(value) for name, value in members.items()} if isinstance(members, dict) else {}
    if pairs.get("Data", "").startswith("%"):
        # JSON never begins so: this gateway hands over the values as they were sent.
        text = "&".join(f"{name}={value}" for name, value in pairs.items())
        return urlencode(parse_qsl(text, keep_blank_values=True), errors="surrogatepass")
    return urlencode(pairs, errors="surrogatepass")


def _last(value: Any) -> str:
    if isinstance(value, list):
        value = value[-1] if value else ""
    return value if isinstance(value, str) else "" if value is True else str(value)


def _authenticated(
    event: Mapping[str, Any],
    request: PutRequest | Rejection,
    authenticator: Authenticator,
    deadline: Deadline,
) -> PutRequest | Rejection:
    if isinstance(request, Rejection):
        return request
    rejection = authenticator.check(request, deadline)
    if rejection is not None and rejection.code is ReturnCode.AUTHENTICATION_FAILED:
        whole = event["path"]
        if whole != request.path and authenticator.check(request._replace(path=whole), deadline) is None:
            rejection = None
    return rejection or request


def _point(point: Mapping[str, Any]) -> dict[str, Any]:
    """The point as a payload has it: the receiver takes any number for a dimension, a payload none with a fraction."""
    dimensions = {
        name: repr(value) if isinstance(value, float) and math.isfinite(value) else value
        for name, value in point["dimensions"].items()
    }
    return {**point, "dimensions": dimensions}


def _coordinates(request: PutRequest, payload: Mapping[str, Any]) -> str:
    """The same for a request that is sent twice as it is, and for no other.

    The document's clients draw nonces from 90,000 numbers, and a signature does not cover the data: without the data
    two hosts that sign in the same second could be taken for one.
    """
    content = [request.secret_id, request.timestamp, request.nonce, payload]
    digest = hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
    return f"{PUT_MONITOR_DATA.name}/{digest}"
