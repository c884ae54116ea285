"""A request that is meant for the receiver and was sent to the function: ``/v2/index.php`` or ``/report.cgi`` of any host.

It is read and authenticated by the receiver's rules (``put_monitor_data.server``) and answered with its return codes. A
prefix of the path, such as ``/release`` of a gateway, is removed; the client may have signed the path with or without it. Sources: the
receiver's own document; Tencent Cloud, SCF Function URL and API Gateway trigger.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote_plus, urlencode

from metric_forwarder.clock import Deadline
from metric_forwarder.model import Message
from metric_forwarder.put_monitor_data.claims import claims_of, find_claims
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PATHS, PutRequest, Refusal, parse_request, refuse
from metric_forwarder.triggers.decoding import (
    Decoded,
    HttpRefusal,
    RequestBody,
    TooLarge,
    Unreadable,
)
from metric_forwarder.triggers.traits import PUT_MONITOR_DATA

# The document's samples have about 300 bytes, a request of 30 points 5 KB. Before the signature has been checked, nothing
# larger is parsed, and no more than this is inflated.
MAX_UNAUTHENTICATED_BYTES = 65_536
_NOT_FOUND = (
    "SecretId, Region, Timestamp, Nonce or Signature was not found: a request of more than "
    f"{MAX_UNAUTHENTICATED_BYTES // 1024} KB is read only after its signature has been checked"
)


class Authenticator(Protocol):
    """Checks the signature of requests that are meant for the receiver."""

    def check(self, request: PutRequest, deadline: Deadline) -> Refusal | None:
        """Return why a request is refused, or None; wait until the deadline for a key that must be fetched."""


class ReceiverBridge:
    """A ``triggers.decoding.Bridge``.

    Args:
        authenticator: decides which requests are read.
        time: the wall clock, Unix seconds.
        any_region: accept any text as ``Region``, for a destination that does not use it.
    """

    def __init__(
        self, authenticator: Authenticator, time: Callable[[], float], *, any_region: bool = False
    ) -> None:
        self._authenticator = authenticator
        self._time = time
        self._any_region = any_region

    def serves(self, event: Mapping[str, Any]) -> bool:
        """Return whether a request's path is one of the receiver's."""
        path = event.get("path")
        return isinstance(path, str) and path.isascii() and path.endswith(PATHS)

    def decode(
        self, event: Mapping[str, Any], body: RequestBody, deadline: Deadline
    ) -> Decoded | HttpRefusal:
        """Authenticate and read a request whose path is the receiver's."""
        # The receiver stamps points on arrival.
        arrival_ms = round(self._time() * 1000)
        request = self._request(event, body, deadline)
        if isinstance(request, Refusal):
            return HttpRefusal(200, request.message, code=request.code)
        payload = {"Namespace": request.namespace, "Data": [_point(point) for point in request.data]}
        source = f"request of {_shown(request.secret_id)}"
        message = Message(source, payload, _coordinates(request, payload), arrival_ms)
        return Decoded(PUT_MONITOR_DATA, (message,))

    def _request(
        self, event: Mapping[str, Any], body: RequestBody, deadline: Deadline
    ) -> PutRequest | Refusal:
        method = event["httpMethod"]
        method = method.upper() if isinstance(method, str) else ""
        path = next(path for path in PATHS if event["path"].endswith(path))
        sender = _Sender(event["path"], self._authenticator, deadline)
        try:
            if method == "POST":
                refusal = sender.check_large(_claims_of_post(method, path, body))
            else:
                members = _query_members(event)
                refusal = sender.check_large(_claims_of_get(method, path, members))
            if refusal is not None:
                return refusal
            query, content = (
                ("", _content(body))
                if method == "POST"
                else (urlencode(members, errors="surrogatepass"), b"")
            )
        except TooLarge as too_large:
            return refuse(ReturnCode.DATA_TOO_LONG, f"the body {too_large.reason}")
        except Unreadable as unreadable:
            return refuse(ReturnCode.NOT_JSON, f"the body {unreadable.reason}")
        request = parse_request(method, path, query, content, any_region=self._any_region)
        if isinstance(request, Refusal):
            return request
        return sender.check(request) or request


class _Sender:
    """Checks who sent one request.

    Args:
        whole_path: the path as it came, which a client may have signed instead of the receiver's own.
    """

    def __init__(self, whole_path: str, authenticator: Authenticator, deadline: Deadline) -> None:
        self._whole_path = whole_path
        self._authenticator = authenticator
        self._deadline = deadline

    def check(self, request: PutRequest) -> Refusal | None:
        refusal = self._authenticator.check(request, self._deadline)
        if refusal is None or refusal.code is not ReturnCode.AUTHENTICATION_FAILED:
            return refusal
        if self._whole_path != request.path:
            again = self._authenticator.check(request._replace(path=self._whole_path), self._deadline)
            if again is None:
                return None
        remedy = "correct the client's key, or MF_BRIDGE_ACCOUNTS"
        return refusal._replace(message=f"{refusal.message} (SecretId {_shown(request.secret_id)}): {remedy}")

    def check_large(self, claims: Iterable[PutRequest] | None) -> Refusal | None:
        """Check the claims of a request that is too large to be parsed before it is authenticated; None: it is small."""
        if claims is None:
            return None
        refusal = refuse(ReturnCode.AUTHENTICATION_FAILED, _NOT_FOUND)
        for claim in claims:
            refused = self.check(claim)
            if refused is None:
                return None
            refusal = refused
        return refusal


def _claims_of_post(method: str, path: str, body: RequestBody) -> Iterable[PutRequest] | None:
    """Return what a large body says about its sender; None if the body is small."""
    start = body.start(MAX_UNAUTHENTICATED_BYTES)
    if start.is_whole and len(start.content) <= MAX_UNAUTHENTICATED_BYTES:
        return None
    return find_claims(method, path, start.content)


def _claims_of_get(method: str, path: str, members: Mapping[str, str]) -> Iterable[PutRequest] | None:
    if sum(map(len, members.values())) <= MAX_UNAUTHENTICATED_BYTES:
        return None
    return claims_of(method, path, members)


def _content(body: RequestBody) -> bytes:
    content = body.read()
    if isinstance(content, bytes):
        return content
    try:
        text = content if isinstance(content, str) else json.dumps(content)
    except (TypeError, ValueError, RecursionError):
        raise Unreadable("was decoded on the way into something that is not JSON") from None
    return text.encode("utf-8", "surrogatepass")


def _query_members(event: Mapping[str, Any]) -> dict[str, str]:
    """Return the decoded members of the query string; if a name is given twice, the last one counts."""
    members = event.get("queryString")
    if not isinstance(members, dict):
        members = event.get("queryStringParameters")
    pairs = {str(name): _last(value) for name, value in members.items()} if isinstance(members, dict) else {}
    if not pairs.get("Data", "").startswith("%"):
        return pairs
    # JSON never begins with a percent sign, so this gateway passes the values on still encoded.
    return {name: unquote_plus(value, errors="replace") for name, value in pairs.items()}


def _last(value: Any) -> str:
    if isinstance(value, list):
        value = value[-1] if value else ""
    if type(value) in (int, float):
        return str(value) if abs(value) < 10**20 else ""
    return value if isinstance(value, str) else ""


def _shown(secret_id: str) -> str:
    """The end of a SecretId, by which its owner knows it, for reports and logs."""
    end = secret_id[-4:]
    return f"…{end}" if end.isascii() and end.isalnum() else "that is none"


def _point(point: Mapping[str, Any]) -> dict[str, Any]:
    """Return the point as a payload holds it: in a payload, a dimension may be an integer, but not a fraction."""
    dimensions = {
        name: repr(value) if isinstance(value, float) and math.isfinite(value) else value
        for name, value in point["dimensions"].items()
    }
    return {**point, "dimensions": dimensions}


def _coordinates(request: PutRequest, payload: Mapping[str, Any]) -> str:
    """Return coordinates that only an identical request has.

    The document's clients draw nonces from 90,000 numbers, and a signature does not cover the data: without the data,
    two hosts that sign in the same second could be mistaken for one.
    """
    content = [request.secret_id, request.timestamp, request.nonce, payload]
    digest = hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
    return f"{PUT_MONITOR_DATA.name}/{digest}"
